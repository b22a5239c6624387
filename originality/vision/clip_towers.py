"""CLIP's two towers in the folder of a diffusion model, where it has both."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import torch

from originality.contract.config import SettingsError
from originality.contract.faults import is_machine_fault
from originality.contract.node_cache import sha256
from originality.contract.weight_variants import Weights, weights_among
from originality.model.file_damage import damaged_part
from originality.model.library_errors import library_errors
from originality.model.transformers_folder import load_network, load_processor
from originality.vision.clip import Clip, Towers

IMAGES = "image_encoder"
"""Folder of the image tower; "feature_extractor" says how an image is prepared for it."""
TEXTS = {"text_encoder": "tokenizer", "text_encoder_2": "tokenizer_2"}
"""Folders of text towers, each with that of its tokenizer."""
TOWERS = (IMAGES, "feature_extractor")
"""What is needed beside the parts of every model."""

_LOGIT_SCALE = 100.0
"""The value that CLIP's own logit scale reached in training. Separate towers do not store it; it changes
probabilities, never their order."""


def text_tower(model: Path) -> str | None:
    """The model's text tower that embeds into the same space as its image tower; None if it lacks either.

    Most models do: a Stable Diffusion 1.x or 2.x keeps only the states before the projection.

    Raises:
        SettingsError: a tower's configuration is damaged.
    """
    if not all((model / part).is_dir() for part in TOWERS):
        return None
    try:
        image = _config(model / IMAGES)
        for name in TEXTS:
            if (model / name).is_dir():
                text = _config(model / name)
                projects = text.get("architectures") == ["CLIPTextModelWithProjection"]
                if projects and text.get("projection_dim") == image.get("projection_dim"):
                    return name
    except (OSError, ValueError, AttributeError) as error:
        if is_machine_fault(error):
            raise
        raise SettingsError(
            f"model folder {model}: the config.json of a CLIP tower is damaged; fetch the folder again"
        ) from error
    return None


def load_model_clip(model: Path, device: str | torch.device = "cpu") -> Clip:
    """Load the CLIP that a diffusion model's folder holds, in fp32.

    Raises:
        SettingsError: the model lacks a tower, or one is damaged.
    """
    from transformers import (
        AutoImageProcessor,
        CLIPTextModelWithProjection,
        CLIPTokenizer,
        CLIPVisionModelWithProjection,
    )

    name = text_tower(model)
    if name is None:
        raise SettingsError(f"model folder {model} has no CLIP of both an image and a text tower")
    folders = [model / part for part in (*TOWERS, name, TEXTS[name])]
    for folder in folders:
        if found := damaged_part(folder, _weights(folder).names):
            raise SettingsError(f"model folder {model} cannot be used: {found}")
    processor = load_processor(AutoImageProcessor, model / "feature_extractor")
    tokenizer = load_processor(CLIPTokenizer, model / TEXTS[name])
    images, texts = (
        load_network(kind, model / part, device, _weights(model / part).variant)
        for kind, part in ((CLIPVisionModelWithProjection, IMAGES), (CLIPTextModelWithProjection, name))
    )
    with library_errors(f"model folder {model}: its CLIP"):
        towers = Towers(
            processor,
            tokenizer,
            embed_images=lambda pixels: images(pixels).image_embeds,
            embed_texts=lambda **read: texts(**read).text_embeds,
            width=images.config.projection_dim,
            text_length=texts.config.max_position_embeddings,
            vocabulary=texts.config.vocab_size,
            logit_scale=_LOGIT_SCALE,
            digest=lambda: _digest(folders),
        )
        # One image a pass, as it looks at one image at a time and a pass is filled up to its size.
        return Clip(towers, device, batch_size=1)


def _digest(folders: Sequence[Path]) -> str:
    """Short sha256 of both towers' files. Run folders record it: the order and form must not change."""
    digest = hashlib.sha256()
    for file in (file for folder in folders for file in sorted(folder.iterdir())):
        if file.name in _weights(file.parent).names or file.suffix in (".json", ".txt"):
            digest.update(f"{file.parent.name}/{file.name}\0".encode() + bytes.fromhex(sha256(file)))
    return digest.hexdigest()[:16]


def _weights(folder: Path) -> Weights:
    """A tower's weight files: the plain ones, or fp16 where only those were fetched."""
    return weights_among((file.name for file in folder.iterdir()), "auto")


def _config(folder: Path) -> dict[str, object]:
    return dict(json.loads((folder / "config.json").read_text()).items())
