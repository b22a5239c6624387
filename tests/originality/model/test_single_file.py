"""Checkpoints of one file: what is unpacked is what was packed, and what is none is named."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import diffusers
import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import save_file

from jobs.auditing.weights_here import model_here
from originality.contract.config import SettingsError
from originality.model import families as published
from originality.model import single_file
from originality.model.diffusion import LatentDiffusion
from originality.model.families import write_configuration
from originality.model.model_folder import open_model
from originality.model.randomness import keyed_generator
from originality.model.single_file import unpack
from originality.model.single_file_weights import TEXTS, UNET, VAE, diffusers_part, text_encoder
from originality.settings.parts import ModelSettings
from originality.settings.redraw import RedrawSettings
from tests.support.ldm_layout import CONV, laid_out, minimal, one_file, same, weights, with_average
from tests.support.tiny_models import FAMILIES

PREDICTIONS = {"sd2": "v_prediction"}
CLIP = "cond_stage_model.transformer.text_model.embeddings.token_embedding.weight"


@pytest.fixture(scope="module", params=FAMILIES)
def packed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A tiny model as a folder and as one file."""
    place = tmp_path_factory.mktemp(request.param)
    folder = FAMILIES[request.param](place / "folder")
    save_file(one_file(folder), place / f"{request.param}.safetensors")
    return folder, place / f"{request.param}.safetensors"


@pytest.fixture(scope="module")
def sd1(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return FAMILIES["sd1"](tmp_path_factory.mktemp("one") / "folder")


def test_an_unpacked_file_equals_its_folder(packed: tuple[Path, Path], tmp_path: Path) -> None:
    folder, file = packed
    made = unpack(file, tmp_path / "made", PREDICTIONS.get(file.stem), folder)
    assert same(folder, made) and len(weights(made)) > 200
    settings = RedrawSettings(count=2, steps=3, guidance_scale=3.0)
    drawn = []
    for path in (folder, made):
        model = LatentDiffusion(ModelSettings(path=str(path), device="cpu"))
        noise = torch.randn((2, *model.latent_shape), generator=keyed_generator("noise"))
        drawn.append(
            model.generate(model.encode_prompts(["a red circle", "a square"]), noise, settings).checked()
        )
    assert np.array_equal(*drawn) and drawn[0].std() > 0


def test_unpacking_prints_nothing(sd1: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """No bar of transformers stands between the lines of an audit."""
    save_file(one_file(sd1), tmp_path / "model.safetensors")
    unpack(tmp_path / "model.safetensors", tmp_path / "made", None, sd1)
    assert capfd.readouterr().err == ""


def test_unpacking_keeps_the_precision(sd1: Path, tmp_path: Path) -> None:
    half = {k: v.half() if "diffusion_model" in k else v for k, v in one_file(sd1).items()}
    save_file(half, tmp_path / "half.safetensors")
    made = weights(unpack(tmp_path / "half.safetensors", tmp_path / "made", None, sd1))
    assert {v.dtype for k, v in made.items() if k.startswith("unet/")} == {torch.float16}
    assert {v.dtype for k, v in made.items() if not k.startswith("unet/")} == {torch.float32}


def test_a_running_average_is_preferred(sd1: Path, tmp_path: Path) -> None:
    save_file(with_average(one_file(sd1)), tmp_path / "full.safetensors")
    assert same(unpack(tmp_path / "full.safetensors", tmp_path / "made", None, sd1), sd1)


@pytest.mark.parametrize(("mark", "requested"), [("v_pred", None), ("", "v_prediction")])
def test_a_prediction_is_taken_from_a_marker_or_the_setting(
    sd1: Path, tmp_path: Path, mark: str, requested: str | None
) -> None:
    marks = {mark: torch.zeros(0)} if mark else {}
    save_file({**one_file(sd1), **marks}, tmp_path / "v.safetensors")
    made = unpack(tmp_path / "v.safetensors", tmp_path / "made", requested, sd1)
    scheduler = json.loads((made / "scheduler" / "scheduler_config.json").read_text())
    assert scheduler["prediction_type"] == "v_prediction"


def test_an_sd2_without_a_stated_prediction_is_refused(tmp_path: Path) -> None:
    message = "set model.prediction to v_prediction .*epsilon .v2-base"
    refused(tmp_path, minimal("cond_stage_model.model.ln_final.weight"), message)


def refused(tmp_path: Path, tensors: dict[str, torch.Tensor], why: str) -> None:
    file = tmp_path / "model.safetensors"
    save_file(tensors, file)
    with pytest.raises(SettingsError, match=why) as caught:
        unpack(file, tmp_path / "made", None)
    assert "\n" not in str(caught.value) and str(file) in str(caught.value)
    assert not (tmp_path / "made").exists()


REFUSED = {
    "an inpainting model": minimal(CLIP, channels=9),
    "an InstructPix2Pix model": minimal(CLIP, channels=8),
    "a depth-to-image model": minimal(CLIP, channels=5),
    "a UNet of 16 input channels": minimal(CLIP, channels=16),
    "an SD 2.1 unCLIP": minimal("cond_stage_model.model.ln_final.weight", "noise_augmentor.data_mean"),
    "an upscaler": minimal("cond_stage_model.model.ln_final.weight", channels=7),
    "the SDXL refiner": minimal("conditioner.embedders.0.model.ln_final.weight"),
    "Playground": minimal("conditioner.embedders.1.model.ln_final.weight", edm_mean=torch.zeros(4)),
    "an SDXL of zero terminal": minimal(
        "conditioner.embedders.1.model.ln_final.weight", ztsnr=torch.zeros(1)
    ),
    "without a text encoder": minimal(),
    "without a VAE": {CONV: torch.zeros(8, 4, 3, 3), CLIP: torch.zeros(2, 2)},
    "a checkpoint in F8_E4M3": minimal(CLIP) | {CLIP: torch.zeros(2, 2).to(torch.float8_e4m3fn)},
    "Stable Diffusion 3": {"model.diffusion_model.joint_blocks.0.x_block.attn.proj.weight": torch.zeros(2)},
    "Flux": {"double_blocks.0.img_attn.norm.key_norm.scale": torch.zeros(2)},
    "a LoRA": {"lora_unet_down_blocks_0_attentions_0_proj_in.lora_down.weight": torch.zeros(2)},
    "a textual inversion": {"emb_params": torch.zeros(2, 768)},
    "a ControlNet": {"control_model.time_embed.0.weight": torch.zeros(2)},
    "a VAE alone": {"first_stage_model.encoder.conv_in.weight": torch.zeros(2)},
    "one part of a diffusers": {"down_blocks.0.resnets.0.conv1.weight": torch.zeros(2)},
    "no UNet .*it holds strange": {"strange": torch.zeros(2)},
}


@pytest.mark.parametrize("why", REFUSED)
def test_an_unsupported_file_is_named(tmp_path: Path, why: str) -> None:
    refused(tmp_path, REFUSED[why], why)


def test_a_pruned_or_distilled_model_is_recognised_by_its_weights(sd1: Path, tmp_path: Path) -> None:
    whole = one_file(sd1)
    lacks = {k: v for k, v in whole.items() if not k.endswith("middle_block.1.proj_in.weight")}
    text = {k: v for k, v in whole.items() if not k.endswith("layers.1.mlp.fc1.bias")}
    more = {**whole, "model.diffusion_model.middle_block.9.weight": torch.zeros(2)}
    wider = {**whole, CONV: torch.zeros(8, 4, 3, 3)}
    cases = (
        (lacks, "the unet has no mid_block.attentions.0.proj_in.weight"),
        (text, "the text_encoder has no .*mlp.fc1.bias"),
        (more, "more weights than the family's"),
        (wider, "conv_in.weight"),
    )
    for number, (tensors, why) in enumerate(cases):
        save_file(tensors, tmp_path / "model.safetensors")
        with pytest.raises(SettingsError, match=why) as caught:
            unpack(tmp_path / "model.safetensors", tmp_path / str(number), None, sd1)
        assert "\n" not in str(caught.value)


def test_without_a_configuration_the_family_is_the_published_one(sd1: Path, tmp_path: Path) -> None:
    """The tiny weights do not fit it, and no hub is asked."""
    save_file(one_file(sd1), tmp_path / "model.safetensors")
    with pytest.raises(SettingsError, match=r"the unet has no down_blocks\.0\.attentions\.1"):
        unpack(tmp_path / "model.safetensors", tmp_path / "made", None)


@pytest.mark.parametrize(("name", "names"), [("sd1", 1131), ("sd2", None), ("sdxl", 2515)])
def test_the_published_models_files_become_their_folders(
    name: str, names: int | None, tmp_path: Path
) -> None:
    """By the names and shapes of all weights, of which the published files have so many."""
    folder = write_configuration(published.FAMILIES[name], tmp_path)
    index = json.loads((folder / "model_index.json").read_text())
    weighty = ("unet", "vae", "text_encoder", "text_encoder_2")
    parts = {part: blank(folder, part, *index[part]) for part in weighty if part in index}
    file = laid_out(folder, parts)
    assert names in (None, len(file))
    assert "model.diffusion_model.middle_block.1.transformer_blocks.0.attn2.to_k.weight" in file
    for part, prefix in (("unet", UNET), ("vae", VAE)):
        assert shapes(diffusers_part(part, prefix, file, folder).state_dict()) == shapes(parts[part])
    for part, prefix in zip(("text_encoder", "text_encoder_2"), TEXTS[name], strict=False):
        assert shapes(text_encoder(part, prefix, file, folder).state_dict()) == shapes(parts[part])


def blank(folder: Path, part: str, library: str, kind: str) -> dict[str, torch.Tensor]:
    """A part's weights without memory."""
    with torch.device("meta"):
        if library == "diffusers":
            config = json.loads((folder / part / "config.json").read_text())
            return getattr(diffusers, kind).from_config(config).state_dict()
        config = transformers.CLIPTextConfig.from_pretrained(folder / part)
        return getattr(transformers, kind)(config).state_dict()


def shapes(weights: dict[str, torch.Tensor]) -> dict[str, torch.Size]:
    return {name: value.shape for name, value in weights.items()}


def test_a_truncated_file_is_named(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    save_file({**minimal(CLIP), "a": torch.ones(40)}, file)
    whole = file.read_bytes()
    for length in range(len(whole)):
        file.write_bytes(whole[:length])
        with pytest.raises(SettingsError, match="is cut off or damaged") as caught:
            unpack(file, tmp_path / "made", None)
        assert "\n" not in str(caught.value)


def test_a_file_that_is_not_safetensors_is_named(tmp_path: Path) -> None:
    file, layer = tmp_path / "model.safetensors", torch.nn.Linear(2, 2)
    torch.save(layer.state_dict(), file)
    refused_as(file, "a pickle by another name")
    file.write_bytes(pickle.dumps({"state_dict": [1, 2, 3]}))
    refused_as(file, "a pickle by another name")
    file.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    refused_as(file, "a pointer of git LFS")
    file.write_bytes(b"<!DOCTYPE html><html></html>")
    refused_as(file, "a web page")
    file.unlink()
    refused_as(file, "cannot be read")
    file.mkdir()
    refused_as(file, "cannot be read")


def refused_as(file: Path, why: str) -> None:
    with pytest.raises(SettingsError, match=why) as caught:
        unpack(file, file.parent / "made", None)
    assert "\n" not in str(caught.value)


def test_the_audits_model_may_be_one_file(sd1: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it is brought to a node, with a family's configuration of this size."""
    monkeypatch.setenv("ORIGINALITY_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(single_file, "write_configuration", lambda family, folder: sd1)
    save_file(one_file(sd1), tmp_path / "model.safetensors")
    settings = ModelSettings(path=str(tmp_path / "model.safetensors"), device="cpu")
    folder = model_here(settings)
    assert folder is not None and same(folder, sd1)
    assert LatentDiffusion(settings, open_model(settings, folder)).name == settings.path
