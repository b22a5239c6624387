"""Attention: what is installed is what was asked for, and draws the same."""

from __future__ import annotations

import importlib.util

import pytest
import torch

from originality.contract.config import SettingsError
from originality.model import attention
from originality.model.attention import choose, install, installed
from originality.model.diffusion import LatentDiffusion
from originality.model.randomness import keyed_generator
from originality.settings.parts import ModelSettings
from originality.settings.presets import load_settings
from originality.sweep.preflight import preflight
from tests.support.tiny_models import tiny_vae

CPU = torch.device("cpu")


def says(model: LatentDiffusion) -> torch.Tensor:
    noisy = torch.randn((2, *model.latent_shape), generator=keyed_generator("noisy"))
    with torch.no_grad():
        return model.predict(
            noisy, torch.tensor([10, 700]), model.encode_prompts(["a photo of a circle", ""])
        )


def test_auto_on_a_cpu_is_pytorchs_own_attention_with_a_reason(model):
    assert model.attention.name == "sdpa"
    assert model.attention.why.endswith("no kernels for the CPU")  # and no advice to install it
    assert installed(model.unet) == {"AttnProcessor2_0"}


def test_sliced_attention_gives_the_same_prediction(model):
    sliced = LatentDiffusion(ModelSettings(device="cpu", attention="sliced"))
    assert installed(sliced.unet) == {"SlicedAttnProcessor"}
    assert torch.allclose(says(sliced), says(model), atol=1e-5)


@pytest.mark.parametrize("wanted", ["xformers", "flash"])
def test_attention_without_cpu_kernels_is_refused_on_a_cpu(wanted):
    with pytest.raises(SettingsError, match=f"model.attention '{wanted}' .*model.attention=sdpa"):
        LatentDiffusion(ModelSettings(device="cpu", attention=wanted))


def test_unavailable_attention_is_found_before_an_audit_starts():
    settings = load_settings("laptop", None, {"model": {"device": "cpu", "attention": "flash"}})
    with pytest.raises(SettingsError, match="flash has no kernels"):
        preflight(settings)


def test_a_switch_without_effect_is_detected(model, monkeypatch):
    """As one of diffusers' two ways is on this UNet."""
    monkeypatch.setattr(model.unet, "set_attn_processor", lambda processor: None)
    with pytest.raises(SettingsError, match="AttnProcessor2_0"):
        install("sliced", model.unet, model.vae, CPU, torch.float32)


def test_a_failed_trial_is_given_as_the_reason(monkeypatch):
    """xformers of another torch, say."""

    def fails(*_given):
        raise RuntimeError("no operator found\nof many")

    gpu = torch.device("cuda")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(attention.importlib.metadata, "version", lambda name: "0.0.1")
    monkeypatch.setattr(attention, "try_xformers", fails)
    choice = choose("auto", [40, 80], gpu, torch.float16)
    assert choice.name == "sdpa" and choice.why.startswith("xformers of version 0.0.1 ")
    assert choice.why.endswith(" 40: no operator found")
    with pytest.raises(SettingsError, match="no operator found; use"):
        choose("xformers", [40, 80], gpu, torch.float16)
    with pytest.raises(SettingsError, match=r"model\.dtype is fp32"):
        choose("flash", [40, 80], gpu, torch.float32)
    monkeypatch.setattr(attention, "try_xformers", lambda *given: None)
    assert choose("auto", [40], gpu, torch.float16).name == "xformers"
    assert choose("sdpa", [40], gpu, torch.float16).name == "sdpa"


def test_the_vae_keeps_an_attention_that_takes_its_width(model, monkeypatch):
    monkeypatch.setattr(attention, "why_unavailable", lambda *given: None)
    try:
        vae = tiny_vae()
        assert install("xformers", model.unet, vae, CPU, torch.float32).name == "xformers"
        assert installed(model.unet) == {"XFormersAttnProcessor"}
        assert installed(vae) == {"AttnProcessor2_0"}
    finally:
        install("sdpa", model.unet, model.vae, CPU, torch.float32)
