"""fp16 and bf16 on the CPU: scaled losses, skipped steps, overflows that are named or repeated in fp32."""

from __future__ import annotations

import math
from contextlib import contextmanager

import numpy as np
import pytest
import torch

from originality.contract.scorer import Item
from originality.inversion.inverter import Inverter, invert
from originality.inversion.lane import LossScale
from originality.model.diffusion import LatentDiffusion, NotFinite
from originality.model.randomness import keyed_generator
from originality.settings.audit import AuditSettings
from originality.settings.domains import DOMAINS
from originality.settings.inversion import InversionSettings
from originality.settings.parts import ModelSettings
from originality.settings.redraw import RedrawSettings
from originality.shapes.image_sets import TaughtSet
from originality.sweep.sweep import Sweep

SCENE = TaughtSet().scene(2, 1)
REDRAW = RedrawSettings(count=2, steps=4, scheduler="ddim", guidance_scale=3.0)


@pytest.fixture(scope="module")
def half() -> LatentDiffusion:
    return LatentDiffusion(ModelSettings(device="cpu", dtype="fp16"))


@pytest.fixture(scope="module")
def moments(model):
    return model.encode(model.fit(SCENE.image()))


def inverter(model: LatentDiffusion, scale: float, steps: int = 3, lanes: int = 1) -> Inverter:
    settings = InversionSettings(steps=steps, batch_size=4, learning_rate=1e-2, loss_scale=scale, lanes=lanes)
    return Inverter(model, DOMAINS["shapes"], settings, seed=0)


@pytest.mark.long
def test_loss_scaling_keeps_the_gradient_above_fp16_underflow(model, half, moments, monkeypatch):
    """With gradients as small as those of Stable Diffusion's mean over 20 x 4 x 64 x 64 numbers."""
    smaller = math.prod(model.latent_shape) / (4 * 64 * 64)
    losses = Inverter.losses
    monkeypatch.setattr(Inverter, "losses", lambda self, *requested: losses(self, *requested) * smaller)

    def gradient(model, scale):
        own = Inverter(model, DOMAINS["shapes"], InversionSettings(batch_size=20, loss_scale=scale), seed=0)
        lane = own.open("a", moments, 2)
        own.advance([lane])
        return lane.vectors.grad

    exact = gradient(model, 1.0)
    off = {scale: float((gradient(half, scale) - exact).norm() / exact.norm()) for scale in (1.0, 2.0**16)}
    assert off[2.0**16] < 0.02 < off[1.0]


@pytest.mark.long
def test_steps_are_skipped_until_the_gradient_no_longer_overflows(half, moments):
    (lane,) = invert(inverter(half, 2.0**32, steps=12), [("a", moments, 1)])
    assert lane.failure is None
    assert lane.step == 12
    assert 0 < lane.scale.skipped < 12
    assert sum(map(math.isfinite, lane.losses)) == 12 - lane.scale.skipped
    assert len(lane.losses) == 12
    assert lane.scale.value == 2.0 ** (32 - lane.scale.skipped)
    assert lane.vectors.isfinite().all()


@pytest.mark.long
def test_a_lane_that_skips_steps_does_not_affect_the_other_lane(half, moments):
    together = inverter(half, 2.0**16, lanes=2)
    calm, wild = together.open("a", moments, 1), together.open("b", moments, 2)
    wild.scale = LossScale(2.0**32)
    while not calm.finished(together.settings):
        together.advance([calm, wild])
    assert (calm.scale.skipped, wild.scale.skipped) == (0, 3)
    (alone,) = invert(inverter(half, 2.0**16, lanes=2), [("a", moments, 1)])
    assert torch.equal(calm.vectors, alone.vectors)


def test_a_gradient_that_overflows_at_any_scale_fails_its_lane(half, moments, monkeypatch):
    gradients = Inverter.gradients
    monkeypatch.setattr(
        Inverter, "gradients", lambda *requested: [(loss, g * math.inf) for loss, g in gradients(*requested)]
    )
    (lane,) = invert(inverter(half, 4.0, steps=9), [("a", moments, 1)])
    assert lane.failure and "gradient of step 2" in lane.failure
    assert lane.scale.skipped == 3
    assert lane.vectors.isfinite().all()


@pytest.mark.long
@pytest.mark.parametrize(("dtype", "scale", "after"), [("bf16", 1.0, 1), ("fp16", 2.0**34, 5)])
def test_a_sweep_repeats_and_resumes_from_a_snapshot_to_the_last_bit(
    quick: AuditSettings, dtype: str, scale: float, after: int
) -> None:
    settings = quick.model_copy(
        update={
            "model": ModelSettings(device="cpu", dtype=dtype),
            "inversion": quick.inversion.model_copy(
                update={"steps": 4, "batch_size": 2, "loss_scale": scale, "lanes": 1}
            ),
            "redraw": quick.redraw.model_copy(update={"count": 2, "steps": 2}),
        }
    )

    def judged(sweep: Sweep, snapshots: list[bytes] | None = None):
        while not (finished := sweep.step()):
            if snapshots is not None:
                snapshots.append(sweep.snapshot("a"))
        row = finished[0].record
        return [{k: v for k, v in a.items() if k != "seconds"} for a in row["sweep"]], finished[0].files

    snapshots: list[bytes] = []
    sweep, other = Sweep(settings), Sweep(settings)
    sweep.admit(Item("a", SCENE.image()))
    first = judged(sweep, snapshots)
    assert all(a["failure"] is None for a in first[0])
    assert (first[0][0]["skipped_steps"] > 0) == (dtype == "fp16")
    other.restore(Item("a", SCENE.image()), snapshots[after])
    assert judged(other) == first


@contextmanager
def hooked(module: torch.nn.Module, change):
    handle = module.register_forward_hook(lambda _module, _given, output: change(output))
    try:
        yield
    finally:
        handle.remove()


def test_images_that_overflow_the_vae_in_fp16_are_repeated_in_fp32(model, half):
    """Values over fp16's largest, which the next normalisation would have scaled down again."""
    latents = torch.stack([model.encode(model.fit(TaughtSet().scene(2, k).image())).mean for k in range(2)])
    seen = []

    def large(output):
        seen.append(output.dtype)
        return output * (60_000 if output.dtype == torch.float32 else math.inf)

    with hooked(half.vae.decoder.conv_in, large):
        ours = half.decode(latents.half())
    with hooked(model.vae.decoder.conv_in, lambda output: output * 60_000):
        theirs = model.decode(latents)
    assert seen == [torch.float16, torch.float32]
    assert np.abs(ours.astype(int) - theirs).max() <= 2
    assert half.vae.dtype == torch.float16

    seen.clear()
    picture = model.fit(SCENE.image())
    with hooked(half.vae.encoder.conv_in, large):
        assert half.encode(picture).mean.isfinite().all()
    assert seen == [torch.float16, torch.float32]
    lost = pytest.raises(NotFinite, match="the VAE's")
    with hooked(half.vae.encoder.conv_in, lambda output: output * math.nan), lost:
        half.encode(picture)
    lost = pytest.raises(NotFinite, match="the VAE's decoding")
    with hooked(half.vae.decoder.conv_in, lambda output: output * math.nan), lost:
        half.decode(latents.half())
    assert half.vae.dtype == torch.float16


def test_a_redraw_that_overflows_names_the_denoising_step(half):
    passes = []

    def spoil(output):
        passes.append(output.sample)
        if len(passes) == 3:
            output.sample[0] = math.nan
        return output

    noise = torch.randn((2, *half.latent_shape), generator=keyed_generator("noise"))
    with hooked(half.unet, spoil), pytest.raises(NotFinite, match="after denoising step 3 of 4"):
        half.redraw("a photo of {}", half.text.word_vector("shape")[None], noise, REDRAW)


@pytest.mark.long
def test_an_overflow_in_a_redraw_is_a_failed_attempt(quick: AuditSettings, monkeypatch):
    sweep = Sweep(quick)

    sampler = sweep.model.sampler

    def overflowing(settings):
        made = sampler(settings)
        step, taken = made.step, []

        def lost(predicted, t, latents):
            """The first image overflows in the third step."""
            done = step(predicted, t, latents)
            taken.append(t)
            if len(taken) == 3:
                done.prev_sample[0] = torch.inf
            return done

        monkeypatch.setattr(made, "step", lost)
        return made

    monkeypatch.setattr(sweep.model, "sampler", overflowing)
    sweep.admit(Item("a", SCENE.image()))
    while not (finished := sweep.step()):
        pass
    record = finished[0].record
    assert record["status"] == "failed"
    assert all(
        attempt["failure"].endswith("not finite after denoising step 3 of 3") for attempt in record["sweep"]
    )


def test_an_image_that_overflows_does_not_affect_the_others_of_its_pass(model):
    """Of three images in one pass."""
    noise = torch.randn((3, *model.latent_shape), generator=torch.Generator().manual_seed(0))
    noise[1, 0, 0, 0] = torch.inf
    drawn = model.generate(model.encode_prompts(["a photo of a shape"]).repeat_prompt(3), noise, REDRAW)
    before, failure, after = drawn.failures
    assert before is after is None and failure and failure.endswith(f"denoising step 1 of {REDRAW.steps}")
    noise[1] = 0
    whole = model.generate(
        model.encode_prompts(["a photo of a shape"]).repeat_prompt(3), noise, REDRAW
    ).checked()
    assert (drawn.images[[0, 2]] == whole[[0, 2]]).all()


def test_a_model_that_sets_force_upcast_runs_its_vae_in_fp32(half, tmp_path):
    from tests.support.tiny_models import sdxl

    folder = str(sdxl(tmp_path / "sdxl"))
    for dtype, named, expected in (("fp16", None, torch.float32), ("bf16", None, torch.bfloat16)):
        own = LatentDiffusion(ModelSettings(path=folder, device="cpu", dtype=dtype, vae_dtype=named))
        assert (own.vae.dtype, own.unet.dtype) == (
            expected,
            {"fp16": torch.float16}.get(dtype, torch.bfloat16),
        )
    own = LatentDiffusion(ModelSettings(path=folder, device="cpu", dtype="fp16", vae_dtype="bf16"))
    assert own.vae.dtype == torch.bfloat16
    vectors = own.text.word_vector("shape")[None]
    noise = torch.randn((2, *own.latent_shape), generator=keyed_generator("noise"))
    assert own.redraw("a photo of {}", vectors, noise, REDRAW).shape == (2, own.side, own.side, 3)
