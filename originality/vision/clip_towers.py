"""CLIP's two towers in the folder of a diffusion model, where it has both."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from originality.contract.config import SettingsError
from originality.contract.faults import is_machine_fault
from originality.contract.node_cache import sha256
from originality.contract.weight_variants import Weights, weights_among
from originality.model.file_damage import damaged_part
from originality.model.library_errors import reading
from originality.model.transformers_folder import load_network, load_processor
from originality.vision.batches import unit
from originality.vision.clip import shares

IMAGES = "image_encoder"
"""Folder of the image tower; "feature_extractor" says how an image is prepared for it."""
TEXTS = {"text_encoder": "tokenizer", "text_encoder_2": "tokenizer_2"}
"""Folders of text towers, each with that of its tokenizer."""
TOWERS = (IMAGES, "feature_extractor")
"""What is needed beside the parts of every model."""

_LOGIT_SCALE = 100.0
"""What CLIP's own became in training; towers alone do not keep it. It moves no order."""


def text_tower(model: Path) -> str | None:
    """The model's text tower that speaks of the same space as its image tower; None where it has not both.

    Most have not: a Stable Diffusion 1.x or 2.x keeps only the states before the projection.
    """
    if not all((model / part).is_dir() for part in TOWERS):
        return None
    try:
        seen = _config(model / IMAGES)
        for name in TEXTS:
            if (model / name).is_dir() and (said := _config(model / name)) is not None:
                projects = said.get("architectures") == ["CLIPTextModelWithProjection"]
                if projects and said.get("projection_dim") == seen.get("projection_dim"):
                    return name
    except (OSError, ValueError, AttributeError) as error:
        if is_machine_fault(error):
            raise
        raise SettingsError(f"model folder {model}: the configuration of a tower is damaged") from error
    return None


def _weights(folder: Path) -> Weights:
    """A tower's files: the plain ones, or fp16 where only those were fetched."""
    return weights_among((file.name for file in folder.iterdir()), "auto")


def _config(folder: Path) -> dict[str, object]:
    return dict(json.loads((folder / "config.json").read_text()).items())


class ModelTowers:
    """Says which text belongs to an image, by the model's own towers, in fp32."""

    def __init__(self, model: Path, device: str | torch.device = "cpu") -> None:
        """Raises:
        SettingsError: the model has not both towers, or they are damaged.
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
        self._folders = [model / part for part in (*TOWERS, name, TEXTS[name])]
        for folder in self._folders:
            if found := damaged_part(folder, _weights(folder).names):
                raise SettingsError(f"model folder {model} cannot be used: {found}")
        self._device = torch.device(device)
        self._processor = load_processor(AutoImageProcessor, model / "feature_extractor")
        self._tokenizer = load_processor(CLIPTokenizer, model / TEXTS[name])
        self._sees = load_network(
            CLIPVisionModelWithProjection, model / IMAGES, self._device, _weights(model / IMAGES).variant
        )
        self._reads = load_network(
            CLIPTextModelWithProjection, model / name, self._device, _weights(model / name).variant
        )
        self._vectors: dict[str, np.ndarray] = {}
        with reading(model):
            self.probabilities(np.full((1, 64, 64, 3), 255, np.uint8), ["a photo"])

    def digest(self) -> str:
        """Short digest of both towers."""
        return self._digest

    @cached_property
    def _digest(self) -> str:
        digest = hashlib.sha256()
        for file in (file for folder in self._folders for file in sorted(folder.iterdir())):
            if file.name in _weights(file.parent).names or file.suffix in (".json", ".txt"):
                digest.update(f"{file.parent.name}/{file.name}\0".encode() + bytes.fromhex(sha256(file)))
        return digest.hexdigest()[:16]

    @torch.inference_mode()
    def probabilities(self, images: np.ndarray, texts: Sequence[str]) -> np.ndarray:
        """As :meth:`originality.vision.clip.Clip.probabilities`."""
        shown = unit(np.stack([self._see(image) for image in images]))
        said = np.stack([self._vector(text) for text in texts])
        return shares(shown, said, _LOGIT_SCALE)

    def _see(self, image: np.ndarray) -> np.ndarray:
        """float64 (d,)."""
        pixels = torch.as_tensor(
            self._processor(images=image, input_data_format="channels_last", return_tensors="pt")[
                "pixel_values"
            ]
        )
        embedded = self._sees(pixels.to(self._device)).image_embeds[0]
        return np.asarray(embedded.double().cpu().numpy())

    def _vector(self, text: str) -> np.ndarray:
        """float64 (d,) of length 1."""
        if text not in self._vectors:
            self._vectors[text] = unit(self._read(text))
        return self._vectors[text]

    def _read(self, text: str) -> np.ndarray:
        """float64 (d,)."""
        length = self._reads.config.max_position_embeddings
        read = self._tokenizer(text, padding="max_length", max_length=length, return_tensors="pt")
        if read["input_ids"].shape[1] > length:
            raise ValueError(f"{text!r} is longer than the {length} tokens that the model's CLIP reads")
        embedded = self._reads(**read.to(self._device)).text_embeds[0]
        return np.asarray(embedded.double().cpu().numpy())
