"""A model's folder, as diffusers writes it: what it says of itself, and which it is."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import BertTokenizer, CLIPTokenizer

from originality.contract import outline
from originality.contract.config import SettingsError
from originality.contract.weight_variants import Weights, weights_among
from originality.model import supported
from originality.model.file_damage import (
    SAFETENSORS,
    damage,
    damaged_part,
    incomplete_tokenizer,
    index_among,
    missing_shard,
)
from originality.model.library_errors import loading
from originality.settings.parts import SHIPPED_MODEL, ModelSettings

MODELS = Path(__file__).parents[1] / "weights"
"""Models that come with the package."""

COMPONENTS = ("unet", "vae", "text_encoder")
NEEDED = ("model_index.json", *COMPONENTS, "tokenizer", "scheduler")
SECOND = ("text_encoder_2", "tokenizer_2")
"""What SDXL has besides."""
PARTS = (*NEEDED, *SECOND)
"""What is taken of a diffusers folder, as far as it is there."""

ENCODERS = ("CLIPTextModel", "CLIPTextModelWithProjection", "BertModel")
"""Classes of text encoders in transformers: a model's first, SDXL's second, and instead of the first BERT."""


def model_folder(settings: ModelSettings, folder: Path | None = None) -> Path:
    """Where the model lies; ``folder`` is its copy on this machine, where the settings name none.

    Raises:
        SettingsError: there is no such folder, it is no diffusers model, or it holds no safetensors.
    """
    folder = folder or (MODELS / SHIPPED_MODEL if settings.path == SHIPPED_MODEL else Path(settings.path))
    if not folder.is_dir():
        raise SettingsError(
            f"model folder {settings.path!r} does not exist; give a diffusers folder, a .safetensors file, "
            f"or {SHIPPED_MODEL!r} for the model that ships"
        )
    if reason := _of_index(folder):
        raise SettingsError(f"model folder {settings.path!r} {reason}")
    for part in ("transformer", "prior"):
        if (folder / part).exists() and not (folder / "unet").exists():
            raise SettingsError(
                f"model folder {settings.path!r} holds a {part} and no UNet; {supported.ONLY}"
            )
    for part in _needed(folder):
        if not (folder / part).exists():
            hint = " (SDXL's refiner has none, and cannot be asked alone)" if part == "text_encoder" else ""
            raise SettingsError(
                f"model folder {settings.path!r} has no {part}{hint}; it must be a diffusers folder as "
                "StableDiffusionPipeline.save_pretrained writes it"
            )
    with loading(settings):
        reason = _damaged(folder, settings.variant)
    if reason:
        raise SettingsError(f"model folder {settings.path!r} cannot be loaded: {reason}")
    found = {part: weights_of(folder, part, settings.variant) for part in weighty(folder)}
    for part, weights in found.items():
        if not weights.names:
            raise SettingsError(
                f"model folder {settings.path!r} has no safetensors in {part} for model.variant "
                f"{settings.variant!r}; pickled weights are not loaded: save the model with "
                "safe_serialization=True, or name a variant that is there"
            )
        with loading(settings, part):
            reason = _not_looked_for(folder, part, weights)
        if reason:
            raise SettingsError(f"model folder {settings.path!r} cannot be loaded: {reason}")
    named = settings.variant not in ("auto", "none")
    if named and not any(weights.variant for weights in found.values()):
        raise SettingsError(
            f"model folder {settings.path!r} has no variant {settings.variant!r}; use --set "
            "model.variant=auto"
        )
    return folder


def _of_index(folder: Path) -> str | None:
    """Why the pipeline of a folder cannot be asked, by its index; None where it can, or there is no index."""
    index = folder / "model_index.json"
    if not index.exists():
        return None
    if found := damage(index):
        return f"cannot be loaded: {index} {found}"
    return supported.pipeline(json.loads(index.read_text("utf-8")))


def _damaged(folder: Path, variant: str) -> str | None:
    """What keeps a folder whose parts are all there from being read, with the file's name."""
    for part in _needed(folder)[1:]:
        place = folder / part
        config = "scheduler_config.json" if part == "scheduler" else "config.json"
        if not part.startswith("tokenizer") and not (place / config).exists():
            return f"{place} lacks {config}; fetch the whole folder"
        if found := damaged_part(place, weights_of(folder, part, variant).names):
            return found
    for part in weighty(folder):
        if found := missing_shard(folder / part):
            return found
    for part in (part for part in _needed(folder) if part.startswith("tokenizer")):
        text = json.loads((folder / part.replace("tokenizer", "text_encoder") / "config.json").read_text())
        if found := incomplete_tokenizer(folder / part, bert=supported.is_bert(text)):
            return found
    return None


def _not_looked_for(folder: Path, part: str, weights: Weights) -> str | None:
    """Why the libraries would not read a part's weights, whose names and index they expect; None where they
    would."""
    stem = "diffusion_pytorch_model" if part in ("unet", "vae") else "model"
    whole = f"{stem}.{weights.variant}{SAFETENSORS}" if weights.variant else f"{stem}{SAFETENSORS}"
    present = outline.names(folder, part)
    index = index_among(present, stem, weights.variant)
    if index is None:
        if whole in weights.names:
            return None
        return f"{folder / part / weights.names[0]} is not read under that name; call it {whole}"
    if stem == "model" and whole in weights.names:  # transformers then passes over the index
        return None
    listed = json.loads((folder / part / index).read_text("utf-8"))["weight_map"]
    if gone := sorted(set(listed.values()) - set(present)):
        either = f"; remove {index}, if {whole} is of the same model" if whole in weights.names else ""
        return f"{folder / part} lacks {gone[0]}, which {index} names; fetch the whole folder{either}"
    return None


def weights_of(folder: Path, part: str, variant: str) -> Weights:
    """The files of weights that are used of a part, there or known in the folder's outline."""
    return weights_among(outline.names(folder, part), variant)


def _needed(folder: Path) -> tuple[str, ...]:
    """Parts that a model's folder must have."""
    try:
        added = json.loads((folder / "unet" / "config.json").read_text()).get("addition_embed_type")
    except (OSError, ValueError, AttributeError):
        added = None  # what is wrong there is said by who reads it
    return (*NEEDED, *SECOND) if added == supported.SDXL else NEEDED


def weighty(folder: Path) -> tuple[str, ...]:
    """The parts of a model's folder that hold weights."""
    return tuple(p for p in _needed(folder) if p in COMPONENTS or p == "text_encoder_2")


def model_digest(settings: ModelSettings, folder: Path | None = None) -> str:
    """Short sha256 of the model's weights, those of the variant that is used, and of its configuration."""
    folder = model_folder(settings, folder)
    digest = hashlib.sha256()
    for part in _needed(folder)[1:]:
        weights = weights_of(folder, part, settings.variant).names
        for name in outline.names(folder, part):
            if name in weights or name.endswith((".json", ".txt")):
                digest.update(f"{part}/{name}\0".encode())
                digest.update(bytes.fromhex(outline.digest_of(folder, f"{part}/{name}")))
    if SECOND[0] in weighty(folder):  # SDXL's index says what an empty prompt is
        with loading(settings):
            index = json.loads((folder / "model_index.json").read_text())
        digest.update(f"empty {index.get('force_zeros_for_empty_prompt', True)}".encode())
    return digest.hexdigest()[:16]


def weights_bytes(settings: ModelSettings, folder: Path | None = None) -> int:
    """Size of the model's weights on disk, in bytes."""
    folder = model_folder(settings, folder)
    return sum(
        outline.size_of(folder, f"{part}/{name}")
        for part in weighty(folder)
        for name in weights_of(folder, part, settings.variant).names
    )


@dataclass(frozen=True)
class Description:
    """What a model's folder says of it, short of its weights."""

    tokenizers: tuple[Any, ...]
    """One for each text encoder: two of SDXL."""
    encoders: tuple[str, ...]
    """Each text encoder's class in transformers, one of ENCODERS."""
    side: int
    """Pixels of an image's side."""
    scheduler: dict[str, Any]
    """Configuration of its noise schedule."""
    prediction: str
    """What its UNet was trained to say, one of PREDICTIONS."""
    unet: dict[str, Any]
    vae: dict[str, Any]
    """Configurations."""
    empty_is_zero: bool
    """Whether an empty prompt is told as zeros (SDXL's base)."""

    @property
    def wants_size(self) -> bool:
        """Whether the UNet wants a text's sum and the image's size as well, as SDXL's."""
        return self.unet.get("addition_embed_type") == supported.SDXL


def describe(settings: ModelSettings, folder: Path | None = None) -> Description:
    """Read a model's folder without loading its weights.

    Raises:
        SettingsError: the folder is none, or the model is of a kind that is not supported.
    """
    folder = model_folder(settings, folder)

    def config(*path: str) -> dict[str, Any]:
        read: dict[str, Any] = json.loads(folder.joinpath(*path).read_text())
        return read

    with loading(settings):
        unet, vae = config("unet", "config.json"), config("vae", "config.json")
        encoders = [p for p in weighty(folder) if p.startswith("text_encoder")]
        texts = [config(part, "config.json") for part in encoders]
        schedule = config("scheduler", "scheduler_config.json")
        sdxl = unet.get("addition_embed_type") == supported.SDXL
        if reason := supported.schedule(schedule):
            raise SettingsError(f"model {settings.path!r} {reason}")
        scheduler = {k: v for k, v in schedule.items() if not k.startswith("_")} | _as_pipelines(sdxl)
        if settings.prediction:
            scheduler["prediction_type"] = settings.prediction
        tokenizers = tuple(
            _tokenizer(settings, folder / part.replace("text_encoder", "tokenizer"), text)
            for part, text in zip(encoders, texts, strict=True)
        )
        prediction = scheduler.get("prediction_type", "epsilon")
        reason = supported.networks(unet, vae, texts)
        if reason:
            raise SettingsError(f"model {settings.path!r} {reason}")
        side = unet["sample_size"] * 2 ** (len(vae["block_out_channels"]) - 1)
        zero = bool(config("model_index.json").get("force_zeros_for_empty_prompt", sdxl))
    kinds = tuple(
        "BertModel" if supported.is_bert(text) else kind for kind, text in zip(ENCODERS, texts, strict=False)
    )
    return Description(tokenizers, kinds, side, scheduler, prediction, unet, vae, zero)


def _as_pipelines(sdxl: bool) -> dict[str, Any]:
    """What diffusers' pipelines set of every noise schedule, as old folders do not say it and the schedulers'
    own defaults are of models of pixels."""
    return {"clip_sample": False} if sdxl else {"clip_sample": False, "steps_offset": 1}


def _tokenizer(settings: ModelSettings, folder: Path, text: dict[str, Any]) -> Any:
    """A text encoder's tokenizer, with the encoder's length where its own files say none."""
    with loading(settings, folder.name):
        tokenizer = (BertTokenizer if supported.is_bert(text) else CLIPTokenizer).from_pretrained(folder)
        longest: int = text.get("max_position_embeddings", tokenizer.model_max_length)
        tokenizer.model_max_length = min(tokenizer.model_max_length, longest)
    return tokenizer
