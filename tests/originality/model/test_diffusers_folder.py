"""Which model folders are accepted, and how others are refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from originality.contract.config import SettingsError
from originality.model.diffusers_folder import parts_with_weights
from originality.model.diffusion import LatentDiffusion
from originality.model.model_folder import open_model
from originality.settings.parts import ModelSettings
from tests.support.tiny_models import FAMILIES


@pytest.fixture(scope="module", params=FAMILIES)
def whole(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return FAMILIES[request.param](tmp_path_factory.mktemp(request.param) / "model")


@pytest.fixture(scope="module")
def sd1(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return FAMILIES["sd1"](tmp_path_factory.mktemp("sd1") / "model")


@pytest.fixture(scope="module")
def sdxl(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return FAMILIES["sdxl"](tmp_path_factory.mktemp("sdxl") / "model")


def changed(folder: Path, into: Path, file: str, **values: Any) -> ModelSettings:
    """A copy with changed values in one configuration file."""
    shutil.copytree(folder, into)
    config = json.loads((into / file).read_text())
    (into / file).write_text(json.dumps({**config, **values}))
    return ModelSettings(path=str(into), device="cpu")


def test_a_family_is_described_without_its_weights(whole: Path) -> None:
    about = open_model(ModelSettings(path=str(whole))).description
    assert len(about.tokenizers) == (2 if about.wants_size else 1)
    assert parts_with_weights(whole)[:3] == ("unet", "vae", "text_encoder")
    assert about.side == 64


def test_every_part_that_is_loaded_is_in_the_digest(whole: Path, tmp_path: Path) -> None:
    before = open_model(ModelSettings(path=str(whole))).digest
    for part in parts_with_weights(whole):
        copy = tmp_path / part
        shutil.copytree(whole, copy)
        (weights,) = (copy / part).glob("*.safetensors")
        weights.write_bytes(weights.read_bytes()[:-1] + b"\7")
        assert open_model(ModelSettings(path=str(copy))).digest != before


UNSUPPORTED: list[tuple[str, dict[str, Any], str]] = [
    ("unet/config.json", {"in_channels": 9}, "fills in parts of images"),
    ("unet/config.json", {"in_channels": 8}, "edits images"),
    ("unet/config.json", {"in_channels": 5}, "reads 5 channels"),
    ("unet/config.json", {"addition_embed_type": "image"}, "'image'"),
    ("unet/config.json", {"class_embed_type": "timestep"}, "class_embed_type 'timestep'"),
    ("unet/config.json", {"time_cond_proj_dim": 256}, "time_cond_proj_dim 256, which is not supported"),
    ("unet/config.json", {"_class_name": "UNet3DConditionModel"}, "has a UNet3DConditionModel"),
    ("unet/config.json", {"sample_size": [8, 16]}, "not square"),
    ("vae/config.json", {"latents_mean": [0.0] * 4}, "latents_mean"),
    ("text_encoder/config.json", {"architectures": ["T5EncoderModel"]}, "T5EncoderModel"),
    ("scheduler/scheduler_config.json", {"prediction_type": "sample"}, "'sample'"),
]


@pytest.mark.parametrize(("file", "values", "reason"), UNSUPPORTED)
def test_an_unsupported_model_is_refused_with_its_reason(
    sd1: Path, tmp_path: Path, file: str, values: dict[str, Any], reason: str
) -> None:
    with pytest.raises(SettingsError, match=reason) as error:
        open_model(changed(sd1, tmp_path / "model", file, **values))
    assert "\n" not in str(error.value)


def without(part: str) -> Callable[[Path], None]:
    return lambda folder: shutil.rmtree(folder / part)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (without("scheduler"), "has no scheduler"),
        (without("text_encoder"), "has no text_encoder .SDXL's refiner has none"),
        (without("text_encoder_2"), "has no text_encoder_2"),
        (without("tokenizer_2"), "has no tokenizer_2"),
        (lambda folder: (folder / "unet").rename(folder / "transformer"), "holds a transformer and no UNet"),
        (
            lambda folder: (folder / "unet" / "config.json").write_text("{"),
            "config.json is damaged",
        ),
    ],
)
def test_a_part_that_is_missing_is_named(
    sdxl: Path, tmp_path: Path, spoil: Callable[[Path], Any], reason: str
) -> None:
    shutil.copytree(sdxl, tmp_path / "model")
    spoil(tmp_path / "model")
    with pytest.raises(SettingsError, match=reason):
        open_model(ModelSettings(path=str(tmp_path / "model")))


def test_a_tokenizer_with_more_tokens_than_its_encoder_is_refused(sd1: Path, tmp_path: Path) -> None:
    words = len(open_model(ModelSettings(path=str(sd1))).description.tokenizers[0])
    settings = changed(sd1, tmp_path / "model", "text_encoder/config.json", vocab_size=words - 1)
    file = tmp_path / "model" / "text_encoder" / "model.safetensors"
    from safetensors.torch import load_file, save_file

    weights = load_file(file)
    (name,) = (n for n in weights if "token_embedding" in n)
    save_file({**weights, name: weights[name][:-1].clone()}, file, {"format": "pt"})
    with pytest.raises(SettingsError, match=f"{words} tokens, the encoder {words - 1}"):
        LatentDiffusion(settings)


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder", "text_encoder_2"])
def test_missing_weights_are_named(sdxl: Path, tmp_path: Path, part: str) -> None:
    """The libraries would draw them at random, with a warning."""
    from safetensors.torch import load_file, save_file

    shutil.copytree(sdxl, tmp_path / "model")
    (file,) = (tmp_path / "model" / part).glob("*.safetensors")
    weights = load_file(file)
    lost = next(name for name in weights if "norm" in name)
    del weights[lost]
    save_file(weights, file, {"format": "pt"})
    with pytest.raises(SettingsError, match=rf"{part} lacks 1 weights .*{lost}"):
        LatentDiffusion(ModelSettings(path=str(tmp_path / "model"), device="cpu"))


def test_a_tokenizer_without_a_length_gets_its_encoders(sd1: Path, tmp_path: Path) -> None:
    settings = changed(sd1, tmp_path / "model", "tokenizer/tokenizer_config.json", model_max_length=10**30)
    (tokenizer,) = open_model(settings).description.tokenizers
    (original,) = open_model(ModelSettings(path=str(sd1))).description.tokenizers
    assert tokenizer.model_max_length == original.model_max_length


def test_the_setting_of_a_prediction_overrides_the_scheduler(sd1: Path) -> None:
    own = LatentDiffusion(ModelSettings(path=str(sd1), device="cpu", prediction="v_prediction"))
    clean, noise = torch.ones((1, *own.latent_shape)), torch.zeros((1, *own.latent_shape))
    t = torch.tensor([500])
    expected = -(1 - own.alphas_cumprod[t]).sqrt().view(-1, 1, 1, 1) * clean
    assert torch.allclose(own.target(clean, noise, t), expected)
