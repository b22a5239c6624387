"""Checks that a folder holds a model as diffusers writes it, before any library reads it."""

from __future__ import annotations

import json
from pathlib import Path

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
from originality.model.library_errors import library_errors
from originality.settings.parts import SHIPPED_MODEL, ModelSettings

MODELS = Path(__file__).parents[1] / "weights"
"""Models that come with the package."""

COMPONENTS = ("unet", "vae", "text_encoder")
NEEDED = ("model_index.json", *COMPONENTS, "tokenizer", "scheduler")
SECOND = ("text_encoder_2", "tokenizer_2")
"""What SDXL has besides."""
PARTS = (*NEEDED, *SECOND)
"""What is taken of a diffusers folder, as far as it is there."""


def place_of(settings: ModelSettings) -> Path:
    """The folder that the settings name, or that of the model that ships."""
    return MODELS / SHIPPED_MODEL if settings.path == SHIPPED_MODEL else Path(settings.path)


def check_folder(settings: ModelSettings, folder: Path) -> None:
    """Check that a folder holds a complete model of a supported kind, in the variant that the settings name.

    Only names, configurations and headers are read, no weights.

    Raises:
        SettingsError: the folder does not exist, is not a diffusers model, or holds no safetensors.
    """
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
    for part in needed_parts(folder):
        if not (folder / part).exists():
            hint = " (SDXL's refiner has none, and cannot be asked alone)" if part == "text_encoder" else ""
            raise SettingsError(
                f"model folder {settings.path!r} has no {part}{hint}; it must be a diffusers folder as "
                "StableDiffusionPipeline.save_pretrained writes it"
            )
    with library_errors(f"model folder {settings.path!r}"):
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
        with library_errors(f"model folder {settings.path!r}: its {part}"):
            reason = _not_looked_for(folder, part, weights)
        if reason:
            raise SettingsError(f"model folder {settings.path!r} cannot be loaded: {reason}")
    named = settings.variant not in ("auto", "none")
    if named and not any(weights.variant for weights in found.values()):
        raise SettingsError(
            f"model folder {settings.path!r} has no variant {settings.variant!r}; use --set "
            "model.variant=auto"
        )


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
    for part in needed_parts(folder)[1:]:
        place = folder / part
        config = "scheduler_config.json" if part == "scheduler" else "config.json"
        if not part.startswith("tokenizer") and not (place / config).exists():
            return f"{place} lacks {config}; fetch the whole folder"
        if found := damaged_part(place, weights_of(folder, part, variant).names):
            return found
    for part in weighty(folder):
        if found := missing_shard(folder / part):
            return found
    for part in (part for part in needed_parts(folder) if part.startswith("tokenizer")):
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


def needed_parts(folder: Path) -> tuple[str, ...]:
    """Parts that a model's folder must have."""
    try:
        added = json.loads((folder / "unet" / "config.json").read_text()).get("addition_embed_type")
    except (OSError, ValueError, AttributeError):
        added = None  # what is wrong there is said by who reads it
    return (*NEEDED, *SECOND) if added == supported.SDXL else NEEDED


def weighty(folder: Path) -> tuple[str, ...]:
    """The parts of a model's folder that hold weights."""
    return tuple(part for part in needed_parts(folder) if holds_weights(part))


def holds_weights(part: str) -> bool:
    """Whether a part of a model's folder holds weights."""
    return part in COMPONENTS or part == SECOND[0]
