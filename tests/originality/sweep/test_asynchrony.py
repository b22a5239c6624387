"""No step of training or denoising makes the host wait for the device."""

from __future__ import annotations

import pytest
import torch

from originality.inversion.inverter import Inverter
from originality.inversion.lane import HostCopy
from originality.model.diffusion import LatentDiffusion, Moments
from originality.settings.domains import DOMAINS
from originality.settings.inversion import InversionSettings
from originality.settings.parts import ModelSettings
from originality.settings.redraw import RedrawSettings
from tests.support.fake_gpu import WaitError, Watch, fake_gpu, moved
from tests.support.tiny_models import FAMILIES

SETTINGS = InversionSettings(steps=9, batch_size=4, lanes=2)
PASSES = (8, 4, 3)
"""Samples per pass: of all lanes, of one lane, and of parts of a lane."""


@pytest.mark.long
@pytest.mark.parametrize("family", ["sd1", "sdxl"])
def test_a_step_does_not_make_the_host_wait_for_the_device(tmp_path, monkeypatch, family):
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
                lanes[0].read_losses()


def test_the_backward_pass_does_not_wait_for_the_device(tmp_path):
    """A complete step on the CPU, watched as if the host had to wait for it."""
    folder = FAMILIES["sd1"](tmp_path / "model")
    model = LatentDiffusion(ModelSettings(path=str(folder), device="cpu"))
    few = SETTINGS.model_copy(update={"templates": 2})  # otherwise the host finds the distinct ones
    inverter = Inverter(model, DOMAINS["shapes"], few, seed=0)
    moments = Moments(*torch.zeros((2, *model.latent_shape)))
    lanes = [inverter.open(str(m), moments, m) for m in (1, 3)]
    with Watch("cpu", []):
        for inverter.passes.max_samples in PASSES:
            inverter.advance(lanes)
        with pytest.raises(WaitError):
            lanes[0].scale.value  # noqa: B018


@pytest.mark.long
@pytest.mark.parametrize("scheduler", ["pndm", "ddim", "euler", "dpm++"])
def test_denoising_does_not_wait_for_the_device(tmp_path, monkeypatch, scheduler):
    """With all samplers but UniPC, whose step creates small tensors on the device."""
    folder = FAMILIES["sd1"](tmp_path / "model")
    model = LatentDiffusion(ModelSettings(path=str(folder), device="cpu"))
    redraw = RedrawSettings(scheduler=scheduler, steps=4)
    sampler = model.sampler(redraw)  # its tables come from NumPy, which the fake does not cover
    monkeypatch.setattr(model, "sampler", lambda _: sampler)
    with fake_gpu(monkeypatch) as watch:
        words = moved(model).encode_prompts(["a", "b"])
        model.unconditional  # noqa: B018
        with watch:
            model.denoise(words, torch.empty((2, *model.latent_shape)), redraw)


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
def test_the_watch_detects_whatever_would_wait(monkeypatch, wait):
    with fake_gpu(monkeypatch) as watch:
        x = torch.empty(3, device="cuda")
        with watch, pytest.raises(WaitError):
            wait(x)
