"""The memory plan: counted against what really lives, and divided as it says."""

from __future__ import annotations

import gc
import logging
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from originality.cost.memory_footprint import Footprint, LiveTensors, footprint
from originality.cost.memory_plan import MIN_SAMPLES, MOST_LANES, pass_sizes, plan
from originality.model.diffusion import LatentDiffusion
from originality.settings.audit import AuditSettings
from originality.settings.inversion import InversionSettings
from originality.settings.parts import ModelSettings
from originality.settings.redraw import RedrawSettings
from originality.sweep.sweep import Sweep
from tests.support.tiny_models import sd1, sdxl

TAKES = Footprint(1000, 250, 40, 100)
"""Bytes of a model that one can count by hand."""


@pytest.fixture(scope="module", params=[sd1, sdxl])
def tiny(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> LatentDiffusion:
    folder: Path = request.param(tmp_path_factory.mktemp("tiny") / "model")
    return LatentDiffusion(ModelSettings(path=str(folder), device="cpu"))


def real(model: LatentDiffusion, samples: int) -> tuple[int, int, int]:
    """Most bytes alive in a step, a denoising and a decoding of the model itself."""
    prompts = model.text.tokenise(["{}"] * samples, 1)
    words = model.encode_prompts([""] * samples)
    t = torch.zeros(samples, dtype=torch.long)
    gc.collect()
    with LiveTensors() as step:
        vectors = torch.zeros((samples, 1, sum(model.text.widths)), requires_grad=True)
        noisy = torch.zeros((samples, *model.latent_shape))
        output = model.predict(noisy, t, model.text.encode(prompts, vectors))
        torch.autograd.grad(output.square().mean(), [vectors])
    del output
    with torch.no_grad():
        with LiveTensors() as denoising:
            model.unet_pass(torch.zeros((samples, *model.latent_shape)), t[0], words)
        with LiveTensors() as decoding:
            model.vae.decode(torch.zeros((samples, *model.latent_shape))).sample.float()
    return step.peak, denoising.peak, decoding.peak


def test_memory_counted_on_the_meta_device_is_that_of_real_passes(tiny: LatentDiffusion) -> None:
    counted = footprint(tiny)
    ones = (counted.step, counted.denoising, counted.decoding)
    for most, each in zip(real(tiny, 3), ones, strict=True):
        assert 3 * each == pytest.approx(most, rel=0.1)
    assert counted.checkpointed < 0.8 * counted.step
    assert counted.denoising < counted.step
    assert footprint(tiny) is counted


def test_sliced_attention_is_counted_as_a_step_stores_it(tmp_path: Path) -> None:
    path = str(sd1(tmp_path / "model"))
    fused, sliced = (
        LatentDiffusion(ModelSettings.model_validate({"path": path, "device": "cpu", "attention": how}))
        for how in ("sdpa", "sliced")
    )
    assert 3 * footprint(sliced).step == pytest.approx(real(sliced, 3)[0], rel=0.1)
    assert footprint(sliced).step > 1.2 * footprint(fused).step


def test_gradient_checkpointing_changes_no_gradient(tiny: LatentDiffusion) -> None:
    def gradient() -> torch.Tensor:
        vectors = tiny.text.word_vector("shape")[None, None].requires_grad_()
        words = tiny.text.encode(tiny.text.tokenise(["a {}"], 1), vectors)
        output = tiny.predict(torch.ones((1, *tiny.latent_shape)), torch.tensor([500]), words)
        (found,) = torch.autograd.grad(output.square().mean(), [vectors])
        return found

    plain = gradient()
    tiny.unet.enable_gradient_checkpointing()
    try:
        assert torch.allclose(gradient(), plain, rtol=1e-4, atol=1e-9)
    finally:
        tiny.unet.disable_gradient_checkpointing()


@given(
    room=st.integers(0, 200_000),
    batch=st.integers(1, 40),
    lanes=st.one_of(st.just("auto"), st.integers(1, 10)),
    count=st.integers(2, 40),
    how=st.sampled_from(("auto", "on", "off")),
)
def test_passes_fit_are_even_and_cover_all_samples(room, batch, lanes, count, how) -> None:
    inversion = InversionSettings(batch_size=batch, lanes=lanes)
    made = pass_sizes(TAKES, room, how, inversion, RedrawSettings(count=count, guidance_scale=3.0))
    each = TAKES.checkpointed if made.checkpointing else TAKES.step
    fitting = max(1, room // each)
    if made.step < batch:
        assert -(-batch // made.step) == -(-batch // fitting)
    else:
        lanes_a_pass, rest = divmod(made.step, batch)
        assert rest == 0 and -(-made.lanes // lanes_a_pass) == -(-made.lanes // max(1, fitting // batch))
    assert 1 <= made.step <= made.lanes * batch
    assert made.step == 1 or made.step * each <= room
    parts = (
        (made.denoising, 2 * count, TAKES.denoising),
        (made.decoding, count, TAKES.decoding),
    )
    for size, samples, takes in parts:
        assert 1 <= size <= samples
        assert size == 1 or size * takes <= room
        fewest = -(-samples // max(1, room // takes))
        assert -(-samples // size) == fewest
    assert made.lanes == lanes if lanes != "auto" else 1 <= made.lanes <= MOST_LANES
    if how == "auto":
        assert made.checkpointing == (room // TAKES.step < min(MIN_SAMPLES, batch))
    else:
        assert made.checkpointing == (how == "on")


def test_a_sweep_follows_and_reports_its_plan(
    quick: AuditSettings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="originality")
    monkeypatch.setattr("originality.cost.memory_plan.CPU_ROOM", 20 * 2**20)
    sweep = Sweep(quick.model_copy(update={"inversion": InversionSettings(batch_size=20, lanes="auto")}))
    assert sweep.inverter.passes.max_samples == sweep.plan.step < 20
    assert sweep.capacity == 1
    assert sweep.model.denoising.max_samples == sweep.plan.denoising
    assert f"inversion {sweep.plan.step} (" in caplog.text
    assert "attention by sdpa" in caplog.text
    assert plan(sweep.model, sweep.settings.inversion, sweep.settings.redraw) == sweep.plan
