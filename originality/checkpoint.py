"""A model's folder, as diffusers writes it: what it says of itself, and which it is."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from transformers import CLIPTokenizer

from originality.settings import SHIPPED_MODEL, ModelSettings, SettingsError

MODELS = Path(__file__).parent / "models"
"""Models that come with the package."""

PREDICTIONS = ("epsilon", "v_prediction")
"""What a UNet may have been trained to say of noisy latents: their noise (Stable Diffusion 1.x, 2.x-base), or
their velocity (2.x at 768 pixels; Salimans and Ho, arXiv 2202.00512, Appendix D)."""

COMPONENTS = ("unet", "vae", "text_encoder")
PARTS = ("model_index.json", *COMPONENTS, "tokenizer", "scheduler")
"""What is needed of a diffusers folder."""


def model_folder(settings: ModelSettings, folder: Path | None = None) -> Path:
    """Where the model lies; ``folder`` is its copy on this machine, where the settings name none.

    Raises:
        SettingsError: there is no such folder, it is no diffusers model, or it holds no safetensors.
    """
    folder = folder or (MODELS / SHIPPED_MODEL if settings.path == SHIPPED_MODEL else Path(settings.path))
    if not folder.is_dir():
        raise SettingsError(
            f"model folder {settings.path!r} does not exist; give a diffusers folder, or "
            f"{SHIPPED_MODEL!r} for the model that ships"
        )
    for part in PARTS:
        if not (folder / part).exists():
            raise SettingsError(
                f"model folder {settings.path!r} has no {part}; it must be a diffusers folder as "
                "StableDiffusionPipeline.save_pretrained writes it"
            )
    for part in COMPONENTS:
        if not any(map(_is_loaded, (folder / part).glob("*"))):
            raise SettingsError(
                f"model folder {settings.path!r} has no safetensors in {part}; pickled weights are "
                'not loaded, nor are variants ("fp16"): save the model with safe_serialization=True'
            )
    return folder


def model_digest(settings: ModelSettings, folder: Path | None = None) -> str:
    """Short sha256 of the model's weights and configuration."""
    folder = model_folder(settings, folder)
    digest = hashlib.sha256()
    for part in (*COMPONENTS, "tokenizer", "scheduler"):
        for file in sorted((folder / part).iterdir()):
            if _is_loaded(file) or file.suffix in (".json", ".txt"):
                digest.update(f"{part}/{file.name}\0".encode())
                with file.open("rb") as handle:
                    digest.update(hashlib.file_digest(handle, "sha256").digest())
    return digest.hexdigest()[:16]


def weights_bytes(settings: ModelSettings, folder: Path | None = None) -> int:
    """Size of the model's weights on disk, in bytes."""
    folder = model_folder(settings, folder)
    files = (file for part in COMPONENTS for file in (folder / part).iterdir())
    return sum(file.stat().st_size for file in files if _is_loaded(file))


def _is_loaded(file: Path) -> bool:
    """Whether a file holds weights that are used: variants ("x.fp16.safetensors") are not, so that the same
    model with and without them is one."""
    return file.suffixes == [".safetensors"]


@dataclass(frozen=True)
class Copies:
    """Where this machine has the weights that the settings name in a bucket or on the hub; None: where the
    settings say."""

    model: Path | None = None
    distance: Path | None = None
    """Of the metric."""
    detector: Path | None = None
    """Of the check of editability."""


@dataclass(frozen=True)
class Description:
    """What a model's folder says of it, short of its weights."""

    tokenizer: Any
    side: int
    """Pixels of an image's side."""
    scheduler: dict[str, Any]
    """Configuration of its noise schedule."""
    prediction: str
    """What its UNet was trained to say, one of PREDICTIONS."""


def describe(settings: ModelSettings, folder: Path | None = None) -> Description:
    """Read a model's folder without loading its weights.

    Raises:
        SettingsError: the folder is none, or the model is of a kind that is not supported.
    """
    folder = model_folder(settings, folder)
    with loading(settings):
        config = {
            part: json.loads((folder / part / name).read_text())
            for part, name in (
                ("unet", "config.json"),
                ("vae", "config.json"),
                ("text_encoder", "config.json"),
                ("scheduler", "scheduler_config.json"),
            )
        }
        scheduler = {k: v for k, v in config["scheduler"].items() if not k.startswith("_")}
        side = config["unet"]["sample_size"] * 2 ** (len(config["vae"]["block_out_channels"]) - 1)
        tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer")
    prediction = scheduler.get("prediction_type", "epsilon")
    if prediction not in PREDICTIONS:
        known = " and ".join(PREDICTIONS)
        raise SettingsError(f"model {settings.path!r} predicts {prediction!r}; only {known} are supported")
    return Description(tokenizer, side, scheduler, prediction)


@contextmanager
def loading(settings: ModelSettings) -> Iterator[None]:
    """Whatever the libraries raise over a damaged folder, as one line that names the folder."""
    try:
        yield
    except (
        OSError,
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
        RuntimeError,
        SafetensorError,
    ) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise SettingsError(
            f"model folder {settings.path!r} cannot be loaded ({type(error).__name__}: {reason}); "
            "give a whole diffusers folder, as StableDiffusionPipeline.save_pretrained writes it"
        ) from error
