"""A model's folder, opened once: what it says of the model, which weights it holds, and its digest.

Whoever needs the model is handed a :class:`ModelFolder`; nobody reads its files a second time.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from transformers import BertTokenizer, CLIPTokenizer

from originality.contract import outline
from originality.contract.config import SettingsError
from originality.contract.weight_variants import Weights
from originality.model import supported
from originality.model.diffusers_folder import (
    SECOND_ENCODER,
    check_folder,
    holds_weights,
    place_of,
    required_parts,
    weights_of,
)
from originality.model.library_errors import library_errors
from originality.settings.parts import ModelSettings

ENCODERS = ("CLIPTextModel", "CLIPTextModelWithProjection", "BertModel")
"""Text encoder classes in transformers: a model's first, SDXL's second, and BERT in place of the first."""


@dataclass(frozen=True)
class Description:
    """The configuration files of a model."""

    tokenizers: tuple[Any, ...]
    """One for each text encoder; SDXL has two."""
    encoders: tuple[str, ...]
    """Class in transformers of each text encoder, one of ENCODERS."""
    texts: tuple[dict[str, Any], ...]
    """Configuration of each text encoder."""
    unet: dict[str, Any]
    vae: dict[str, Any]
    scheduler: dict[str, Any]
    """Configuration of the noise schedule."""
    index: dict[str, Any]
    """model_index.json."""
    side: int
    """Side of an image, in pixels."""

    @property
    def prediction(self) -> str:
        """What the UNet was trained to predict, one of supported.PREDICTIONS."""
        return str(self.scheduler.get("prediction_type", "epsilon"))

    @property
    def wants_size(self) -> bool:
        """Whether the UNet is also conditioned on the pooled text and the image's size, as SDXL's is."""
        return self.unet.get("addition_embed_type") == supported.SDXL

    @property
    def empty_is_zero(self) -> bool:
        """Whether zeros stand for the empty prompt, as in SDXL base."""
        return bool(self.index.get("force_zeros_for_empty_prompt", self.wants_size))


@dataclass(frozen=True)
class ModelFolder:
    """A diffusers folder that was checked and read, short of its weights."""

    name: str
    """The model as the settings name it, for messages: a path, a hub id or a URL."""
    path: Path
    """Where it is on this machine."""
    description: Description
    parts: Mapping[str, Weights]
    """For each part ("unet", "vae", "text_encoder", "tokenizer", ...), its weight files of the variant that
    the settings name; of a part without weights, none."""

    @property
    def weight_files(self) -> dict[str, list[Path]]:
        """The weight files of the parts that have any: UNet, VAE and text encoders, in this order."""
        return {
            part: [self.path / part / name for name in files.names]
            for part, files in self.parts.items()
            if holds_weights(part)
        }

    @property
    def encoder_parts(self) -> tuple[str, ...]:
        """Folders of the text encoders, in the order of the description's."""
        return tuple(part for part in self.parts if part.startswith("text_encoder"))

    @cached_property
    def digest(self) -> str:
        """Short sha256 of the configuration and of the weights of the variant that is used.

        It is computed when first needed: it reads every byte, and not all who open a model need it.
        Run folders record it, so the order and the form of what is hashed must never change.
        """
        digest = hashlib.sha256()
        for part, files in self.parts.items():
            for name in outline.names(self.path, part):
                if name in files.names or name.endswith((".json", ".txt")):
                    digest.update(f"{part}/{name}\0".encode())
                    digest.update(bytes.fromhex(outline.digest_of(self.path, f"{part}/{name}")))
        if SECOND_ENCODER[0] in self.parts:  # only SDXL's index decides what the empty prompt is
            zeros = self.description.index.get("force_zeros_for_empty_prompt", True)
            digest.update(f"empty {zeros}".encode())
        return digest.hexdigest()[:16]

    @cached_property
    def weights_bytes(self) -> int:
        """Size of the weights on disk, in bytes."""
        return sum(
            outline.size_of(self.path, f"{part}/{name}")
            for part, files in self.parts.items()
            for name in files.names
        )


def open_model(settings: ModelSettings, copy: Path | None = None) -> ModelFolder:
    """Check and read the folder of the model that the settings name.

    Args:
        copy: where this machine has the model, if the settings name it in a bucket, on the hub or as a
            single file.

    Raises:
        SettingsError: the folder is missing or incomplete, or the model is of a kind that is not supported.
    """
    folder = copy or place_of(settings)
    check_folder(settings, folder)
    parts = {part: weights_of(folder, part, settings.variant) for part in required_parts(folder)[1:]}
    return ModelFolder(settings.path, folder, _describe(settings, folder), parts)


def _describe(settings: ModelSettings, folder: Path) -> Description:
    def config(*path: str) -> dict[str, Any]:
        read: dict[str, Any] = json.loads(folder.joinpath(*path).read_text())
        return read

    with library_errors(f"model folder {settings.path!r}"):
        unet, vae = config("unet", "config.json"), config("vae", "config.json")
        encoders = [part for part in required_parts(folder) if part.startswith("text_encoder")]
        texts = tuple(config(part, "config.json") for part in encoders)
        schedule = config("scheduler", "scheduler_config.json")
        if reason := supported.schedule(schedule):
            raise SettingsError(f"model {settings.path!r} {reason}")
        sdxl = unet.get("addition_embed_type") == supported.SDXL
        scheduler = {k: v for k, v in schedule.items() if not k.startswith("_")} | _as_pipelines(sdxl)
        if settings.prediction:
            scheduler["prediction_type"] = settings.prediction
        tokenizers = tuple(
            _tokenizer(settings, folder / part.replace("text_encoder", "tokenizer"), text)
            for part, text in zip(encoders, texts, strict=True)
        )
        if reason := supported.networks(unet, vae, texts):
            raise SettingsError(f"model {settings.path!r} {reason}")
        kinds = tuple(
            "BertModel" if supported.is_bert(text) else kind
            for kind, text in zip(ENCODERS, texts, strict=False)
        )
        side = unet["sample_size"] * 2 ** (len(vae["block_out_channels"]) - 1)
        index = config("model_index.json")
    return Description(tokenizers, kinds, texts, unet, vae, scheduler, index, side)


def _as_pipelines(sdxl: bool) -> dict[str, Any]:
    """What diffusers' pipelines set in every noise schedule.

    Old folders do not state it, and the schedulers' own defaults are those of models of pixels.
    """
    return {"clip_sample": False} if sdxl else {"clip_sample": False, "steps_offset": 1}


def _tokenizer(settings: ModelSettings, folder: Path, text: dict[str, Any]) -> Any:
    """A text encoder's tokenizer, with the encoder's length where the tokenizer's files state none."""
    with library_errors(f"model folder {settings.path!r}: its {folder.name}"):
        tokenizer = (BertTokenizer if supported.is_bert(text) else CLIPTokenizer).from_pretrained(folder)
        longest: int = text.get("max_position_embeddings", tokenizer.model_max_length)
        tokenizer.model_max_length = min(tokenizer.model_max_length, longest)
    return tokenizer
