"""No step of an inversion makes the host wait for the device."""

from __future__ import annotations

import pytest
import torch

from originality.inversion.inverter import Inverter
from originality.inversion.lane import HostCopy
from originality.model.diffusion import LatentDiffusion, Moments
from originality.settings.domains import DOMAINS
from originality.settings.inversion import InversionSettings
from originality.settings.parts import ModelSettings, RedrawSettings
from tests.support.fake_gpu import WaitError, Watch, fake_gpu, moved
from tests.support.tiny_models import FAMILIES

SETTINGS = InversionSettings(steps=9, batch_size=4, lanes=2)
PASSES = (8, 4, 3)
"""Of all lanes, of one lane each, and of parts of a lane."""


@pytest.mark.parametrize("family", ["sd1", "sdxl"])
def test_a_step_only_gives_the_device_its_work(tmp_path, monkeypatch, family):
    folder = FAMILIES[family](tmp_path / "model")
    model = LatentDiffusion(ModelSettings(path=str(folder), device="cpu"))
    with fake_gpu(monkeypatch) as watch:
        inverter = Inverter(moved(model), DOMAINS["shapes"], SETTINGS, seed=0)
        moments = Moments(*torch.empty((2, *model.latent_shape)))
        inverter.open("", moments, 1)  # reads the initial word
        with watch:
            lanes = [inverter.open(str(m), moments, m) for m in (1, 3)]
            for inverter.passes.max_samples in PASSES:
                inverter.advance(lanes)
            assert [lane.losses for lane in lanes] == [[1.0] * 2] * 2
            with pytest.raises(WaitError, match="just given"):
                lanes[0].settle()


def test_neither_does_its_way_back_through_the_network(tmp_path):
    """All of a step on the CPU, as if the host would wait for that."""
    folder = FAMILIES["sd1"](tmp_path / "model")
    model = LatentDiffusion(ModelSettings(path=str(folder), device="cpu"))
    few = SETTINGS.model_copy(update={"templates": 2})  # else the host sorts out which are the same
    inverter = Inverter(model, DOMAINS["shapes"], few, seed=0)
    moments = Moments(*torch.zeros((2, *model.latent_shape)))
    lanes = [inverter.open(str(m), moments, m) for m in (1, 3)]
    with Watch("cpu", []):
        for inverter.passes.max_samples in PASSES:
            inverter.advance(lanes)
        with pytest.raises(WaitError):
            lanes[0].scale.value  # noqa: B018


@pytest.mark.parametrize("scheduler", ["pndm", "ddim", "euler", "dpm++"])
def test_neither_does_denoising(tmp_path, monkeypatch, scheduler):
    """With all samplers but UniPC, whose own step makes small tensors on the device."""
    folder = FAMILIES["sd1"](tmp_path / "model")
    model = LatentDiffusion(ModelSettings(path=str(folder), device="cpu"))
    redraw = RedrawSettings(scheduler=scheduler, steps=4)
    sampler = model._sampler(redraw)  # its tables come from NumPy, which fakes nothing
    monkeypatch.setattr(model, "_sampler", lambda _: sampler)
    with fake_gpu(monkeypatch) as watch:
        words = moved(model).encode_prompts(["a", "b"])
        model._unconditional  # noqa: B018
        with watch:
            model._denoise(words, torch.empty((2, *model.latent_shape)), redraw)


@pytest.mark.parametrize(
    "wait",
    [
        lambda x: x.tolist(),
        lambda x: bool(x.isfinite().all()),
        lambda x: x.cpu(),
        lambda x: x[x > 0],
        lambda x: torch.zeros(3).to("cuda"),
        lambda x: torch.zeros(3).to("cuda", non_blocking=True),
        lambda x: torch.tensor([1.0], device="cuda"),
        lambda x: HostCopy(x[None])[0],
    ],
)
def test_what_would_wait_is_seen(monkeypatch, wait):
    with fake_gpu(monkeypatch) as watch:
        x = torch.empty(3, device="cuda")
        with watch, pytest.raises(WaitError):
            wait(x)
