"""Weights in several files, or under unusual names, are loaded or refused by name."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
import transformers

from originality.model.diffusion import LatentDiffusion
from originality.settings.parts import ModelSettings
from tests.support.refused_models import refused


@pytest.mark.parametrize(
    ("part", "kind"),
    [("unet", diffusers.UNet2DConditionModel), ("text_encoder", transformers.CLIPTextModel)],
)
def test_weights_in_several_files_are_loaded_or_refused_by_name(
    hub_folder: Path, tmp_path: Path, part: str, kind: Any
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(hub_folder, folder)
    network = kind.from_pretrained(folder / part, local_files_only=True, use_safetensors=True)
    (file,) = (folder / part).glob("*.safetensors")
    file.unlink()
    network.save_pretrained(folder / part, max_shard_size="200KB")
    (index,) = (folder / part).glob("*.index.json")
    shards = sorted((folder / part).glob("*-of-*.safetensors"))
    assert len(shards) > 1
    one, other = (LatentDiffusion(ModelSettings(path=str(f), device="cpu")) for f in (hub_folder, folder))
    ours, theirs = ((m.unet if part == "unet" else m.text.encoders[0]).state_dict() for m in (one, other))
    assert all(torch.equal(ours[name], theirs[name]) for name in ours) and one.digest != other.digest
    shards[1].rename(tmp_path / "shard")
    assert f"{folder / part} lacks {shards[1].name}, which {index.name} names" in refused(folder)
    (tmp_path / "shard").rename(shards[1])
    index.unlink()
    assert f"{folder / part} has {shards[0].name} and no index" in refused(folder)


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder"])
def test_weights_under_a_name_that_libraries_do_not_look_for_are_refused(
    hub_folder: Path, tmp_path: Path, part: str
) -> None:
    shutil.copytree(hub_folder, tmp_path / "model")
    (file,) = (tmp_path / "model" / part).glob("*.safetensors")
    other = file.rename(file.with_name("pytorch_model.safetensors"))
    message = refused(tmp_path / "model")
    assert str(other) in message and message.endswith(file.name)


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder"])
def test_a_stale_index_beside_complete_weights_is_named_where_it_is_read(
    hub_folder: Path, tmp_path: Path, part: str
) -> None:
    """By diffusers, and not by transformers."""
    shutil.copytree(hub_folder, tmp_path / "model")
    (file,) = (tmp_path / "model" / part).glob("*.safetensors")
    index, shard = f"{file.name}.index.json", f"{file.stem}-00001-of-00002.safetensors"
    file.with_name(index).write_text(json.dumps({"metadata": {}, "weight_map": {"a": shard}}))
    if part == "text_encoder":
        LatentDiffusion(ModelSettings(path=str(tmp_path / "model"), device="cpu"))
        return
    message = refused(tmp_path / "model")
    assert f"lacks {shard}" in message and f"remove {index}" in message
