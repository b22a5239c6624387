"""Operations counted without numbers: against arithmetic by hand, published figures, and real passes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers.models.attention_processor import AttnProcessor
from torch import nn

from originality.contract.config import SettingsError
from originality.cost.flops import counted, flops, format_flops, judging
from originality.evaluation.distance import load_distance
from originality.model.diffusion import LatentDiffusion
from originality.model.meta_model import Architecture, architecture_of
from originality.settings.parts import SHIPPED_MODEL, DistanceSettings, ModelSettings
from tests.support.tiny_models import sdxl

N = 3
"""Samples of a real pass."""


def test_operations_counted_by_hand() -> None:
    conv = nn.Conv2d(3, 5, kernel_size=3, padding=1).requires_grad_(False)
    linear = nn.Linear(7, 11).requires_grad_(False)
    image, rows = torch.zeros((2, 3, 8, 8), requires_grad=True), torch.zeros((4, 7), requires_grad=True)
    of_conv, of_linear = 2 * (2 * 8 * 8) * 5 * (3 * 3 * 3), 2 * 4 * 7 * 11
    assert counted(lambda: conv(image)) == of_conv
    assert counted(lambda: linear(rows)) == of_linear
    # back to the input alone, the weights are frozen: as much again
    assert counted(lambda: conv(image).sum().backward()) == 2 * of_conv
    assert counted(lambda: linear(rows * 1).sum().backward()) == 2 * of_linear
    queries = torch.zeros((2, 6, 4))
    assert counted(lambda: queries @ queries.mT @ queries) == 2 * (2 * 2 * 6 * 6 * 4)


def test_stable_diffusion_1_from_its_published_configuration() -> None:
    found = flops(Architecture.of_family("sd1"))
    known = {"forward": 0.80, "step": 1.67, "encoding": 1.1, "decoding": 2.5, "text": 0.013}
    for part, tera in known.items():
        assert getattr(found, part) / 1e12 == pytest.approx(tera, rel=0.05), part
    assert 1.9 * found.text < found.text_step < 2.1 * found.text
    assert flops(Architecture.of_family("sd1")) is found
    assert "803 GFLOP" in str(found) and "1.67 TFLOP" in str(found)


@pytest.fixture(scope="module", params=[SHIPPED_MODEL, sdxl])
def plain(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> LatentDiffusion:
    """A loaded model whose attention is plain products."""
    made: str | Callable[[Path], Path] = request.param
    path = made if isinstance(made, str) else str(made(tmp_path_factory.mktemp("tiny") / "model"))
    model = LatentDiffusion(ModelSettings(path=path, device="cpu"))
    model.unet.set_attn_processor(AttnProcessor())
    model.vae.set_attn_processor(AttnProcessor())
    for encoder in model.text.encoders:
        encoder.set_attn_implementation("eager")  # type: ignore[operator]
    return model


def test_passes_of_several_samples_take_a_multiple(plain: LatentDiffusion) -> None:
    """The one's architecture is read from its folder, the other's is its own."""
    described, _ = architecture_of(ModelSettings(path=plain.name))
    found = flops(described if plain.name == SHIPPED_MODEL else Architecture.of_model(plain))
    noisy, t = torch.zeros((N, *plain.latent_shape)), torch.full((N,), 500)
    words = plain.encode_prompts([""] * N)
    prompts = plain.text.tokenise(["a {}"] * N, 2)

    def output() -> torch.Tensor:
        vectors = torch.zeros((N, 2, sum(plain.text.widths)), requires_grad=True)
        return plain.predict(noisy, t, plain.text.encode(prompts, vectors))

    with torch.no_grad():
        assert counted(lambda: plain.predict(noisy, t, words)) == N * found.forward
        assert counted(lambda: plain.decode(noisy)) == N * found.decoding
        assert counted(lambda: plain.encode_prompts([""] * N)) == N * found.text
    assert described.latent_shape == plain.latent_shape and described.side == plain.side
    picture = np.zeros((plain.side, plain.side, 3), np.uint8)
    assert counted(lambda: plain.encode(picture)) == found.encoding
    assert counted(lambda: output().sum().backward()) == N * (found.step + found.text_step)


def test_known_names_imply_a_family_and_unknown_ones_none() -> None:
    names = {
        "CompVis/stable-diffusion-v1-4": "sd1",
        "s3://bucket/weights/stable-diffusion-v1-5/": "sd1",
        "stabilityai/stable-diffusion-2-1-base": "sd2-base",
        "stabilityai/stable-diffusion-2-1": "sd2",
        "stabilityai/stable-diffusion-xl-base-1.0": "sdxl",
    }
    for name, family in names.items():
        found, origin = architecture_of(ModelSettings(path=name))
        assert found == Architecture.of_family(family) and origin == f"{family} by its name"
    for name in ("somebody/stable-diffusion-v1-4-finetuned", "stabilityai/stable-diffusion-xl-refiner-1.0"):
        with pytest.raises(SettingsError, match="--family"):
            architecture_of(ModelSettings(path=name))
    with pytest.raises(SettingsError, match="'sd3' is unknown"):
        Architecture.of_family("sd3")


def test_the_metrics_operations_are_those_of_its_network() -> None:
    settings = DistanceSettings(metric="imagenet", threshold=0.3)
    images = np.full((2, 64, 64, 3), 255, np.uint8)
    distance = load_distance(settings)
    assert counted(lambda: distance.embed(images)) == 2 * judging(settings)


def test_dreamsim_is_counted_without_its_weights() -> None:
    ensemble = judging(DistanceSettings())
    assert ensemble / 1e9 == pytest.approx(106, rel=0.05)
    # by hand: 12 blocks of 768 on 197 tokens, their attention, and the patches
    one = 12 * (2 * 197 * 12 * 768**2 + 4 * 197**2 * 768) + 2 * 196 * (3 * 16 * 16) * 768
    assert ensemble == 3 * one
    single = DistanceSettings(branch="clip_vitb32", threshold=0.3)
    assert judging(single) < one / 3


def test_operations_are_formatted_in_a_suitable_unit() -> None:
    messages = [format_flops(of) for of in (66.8e15, 1.67e12, 803.3e9, 26.2e6, 0, 2.5e18)]
    assert messages == ["66.8 PFLOP", "1.67 TFLOP", "803 GFLOP", "26.2 MFLOP", "0 MFLOP", "2.5 EFLOP"]
