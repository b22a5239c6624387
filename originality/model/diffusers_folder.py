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
REQUIRED = ("model_index.json", *COMPONENTS, "tokenizer", "scheduler")
SECOND_ENCODER = ("text_encoder_2", "tokenizer_2")
"""Parts that SDXL has in addition: its second text encoder and that one's tokenizer."""
PARTS = (*REQUIRED, *SECOND_ENCODER)
"""Parts that are copied of a diffusers folder, if it has them."""


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
    if reason := _unsupported(folder):
        raise SettingsError(f"model folder {settings.path!r} {reason}")
    for part in ("transformer", "prior"):
        if (folder / part).exists() and not (folder / "unet").exists():
            raise SettingsError(
                f"model folder {settings.path!r} holds a {part} and no UNet; {supported.ONLY}"
            )
    for part in required_parts(folder):
        if not (folder / part).exists():
            hint = (
                " (SDXL's refiner has none: it cannot be audited by itself)" if part == "text_encoder" else ""
            )
            raise SettingsError(
                f"model folder {settings.path!r} has no {part}{hint}; it must be a diffusers folder as "
                "StableDiffusionPipeline.save_pretrained writes it"
            )
    with library_errors(f"model folder {settings.path!r}"):
        reason = _damaged(folder, settings.variant)
    if reason:
        raise SettingsError(f"model folder {settings.path!r} cannot be loaded: {reason}")
    found = {part: weights_of(folder, part, settings.variant) for part in parts_with_weights(folder)}
    for part, weights in found.items():
        if not weights.names:
            raise SettingsError(
                f"model folder {settings.path!r} has no safetensors in {part} for model.variant "
                f"{settings.variant!r}; pickled weights are not loaded: save the model with "
                "safe_serialization=True, or name a variant that is there"
            )
        with library_errors(f"model folder {settings.path!r}: its {part}"):
            reason = _not_found_by_libraries(folder, part, weights)
        if reason:
            raise SettingsError(f"model folder {settings.path!r} cannot be loaded: {reason}")
    named = settings.variant not in ("auto", "none")
    if named and not any(weights.variant for weights in found.values()):
        raise SettingsError(
            f"model folder {settings.path!r} has no variant {settings.variant!r}; use --set "
            "model.variant=auto"
        )


def _unsupported(folder: Path) -> str | None:
    """Why a folder's pipeline is unsupported, by its model_index.json; None if it is supported."""
    index = folder / "model_index.json"
    if not index.exists():
        return None
    if found := damage(index):
        return f"cannot be loaded: {index} {found}"
    return supported.pipeline(json.loads(index.read_text("utf-8")))


def _damaged(folder: Path, variant: str) -> str | None:
    """What is damaged or missing within a folder's parts, with the file's name; None if nothing is."""
    for part in required_parts(folder)[1:]:
        place = folder / part
        config = "scheduler_config.json" if part == "scheduler" else "config.json"
        if not part.startswith("tokenizer") and not (place / config).exists():
            return f"{place} lacks {config}; fetch the complete folder"
        if found := damaged_part(place, weights_of(folder, part, variant).names):
            return found
    for part in parts_with_weights(folder):
        if found := missing_shard(folder / part):
            return found
    for part in (part for part in required_parts(folder) if part.startswith("tokenizer")):
        text = json.loads((folder / part.replace("tokenizer", "text_encoder") / "config.json").read_text())
        if found := incomplete_tokenizer(folder / part, bert=supported.is_bert(text)):
            return found
    return None


def _not_found_by_libraries(folder: Path, part: str, weights: Weights) -> str | None:
    """Why the libraries would not find a part's weight files by name or index; None if they would."""
    # The libraries look for fixed names. Under another name they would report that there are no weights.
    stem = "diffusion_pytorch_model" if part in ("unet", "vae") else "model"
    single = f"{stem}.{weights.variant}{SAFETENSORS}" if weights.variant else f"{stem}{SAFETENSORS}"
    present = outline.names(folder, part)
    index = index_among(present, stem, weights.variant)
    if index is None:
        if single in weights.names:
            return None
        return f"{folder / part / weights.names[0]} is not found under that name; rename it to {single}"
    if stem == "model" and single in weights.names:  # transformers then ignores the index
        return None
    listed = json.loads((folder / part / index).read_text("utf-8"))["weight_map"]
    if gone := sorted(set(listed.values()) - set(present)):
        either = f"; remove {index}, if {single} is of the same model" if single in weights.names else ""
        return f"{folder / part} lacks {gone[0]}, which {index} names; fetch the complete folder{either}"
    return None


def weights_of(folder: Path, part: str, variant: str) -> Weights:
    """The weight files of a part that are used, on disk or listed in the folder's outline."""
    return weights_among(outline.names(folder, part), variant)


def required_parts(folder: Path) -> tuple[str, ...]:
    """Parts that a model's folder must have, model_index.json first."""
    try:
        added = json.loads((folder / "unet" / "config.json").read_text()).get("addition_embed_type")
    except (OSError, ValueError, AttributeError):
        added = None  # whoever reads that file next reports what is wrong with it
    return (*REQUIRED, *SECOND_ENCODER) if added == supported.SDXL else REQUIRED


def parts_with_weights(folder: Path) -> tuple[str, ...]:
    """The parts of a model's folder that hold weights."""
    return tuple(part for part in required_parts(folder) if holds_weights(part))


def holds_weights(part: str) -> bool:
    """Whether a part of a model's folder holds weights."""
    return part in COMPONENTS or part == SECOND_ENCODER[0]
