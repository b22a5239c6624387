"""A model's networks from its folder: whole, each in its precision, on a device."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers

from originality.contract.config import SettingsError
from originality.model import nvidia
from originality.model.diffusers_folder import Description, weights_of, weighty
from originality.model.prompt_embeddings import TextEncoders
from originality.settings.audit import ModelSettings

_LOADED_WITH = {"BertModel": {"add_pooling_layer": False}}
"""What a class of text encoders must be told, that it wants no weights that are not used."""

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


def torch_device(settings: ModelSettings) -> torch.device:
    """The device that the settings mean, here.

    Raises:
        SettingsError: a GPU is asked for and torch sees none.
    """
    device = settings.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        why = nvidia.missing()
        raise SettingsError(
            "device is cuda, but torch sees no GPU" + (f": {why}, or" if why else ";") + " use --device cpu"
        )
    return torch.device(device)


def device_name(device: torch.device) -> str:
    """ "CPU", or the kind of GPU."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"


def precisions(settings: ModelSettings, about: Description) -> tuple[torch.dtype, torch.dtype]:
    """Of the UNet and of the VAE: SDXL's overflows in fp16 on most images, unless it says that it was mended.
    (Stable Diffusion 1.x's may say the same, as it is diffusers' default, and does not.)"""
    named = settings.vae_dtype
    if named is None:
        narrow = about.wants_size and about.vae.get("force_upcast", True)
        named = "fp32" if narrow and settings.dtype == "fp16" else settings.dtype
    return DTYPES[settings.dtype], DTYPES[named]


def whole(kind: Any, folder: Path, dtype: torch.dtype, **more: Any) -> Any:
    """A network with all its weights: where some are not there, the libraries only warn, and draw others.

    Raises:
        ValueError: some are missing.
    """
    network, found = kind.from_pretrained(
        folder, use_safetensors=True, dtype=dtype, output_loading_info=True, local_files_only=True, **more
    )
    if absent := sorted(found["missing_keys"]):
        raise ValueError(f"{folder.name} lacks {len(absent)} of its weights, {absent[0]} first")
    return network


def text_encoders(
    folder: Path, about: Description, device: torch.device, variant: str = "auto"
) -> TextEncoders:
    """One, or SDXL's two, with their tokenizers.

    Raises:
        ValueError: weights are missing, or a tokenizer knows more tokens than its encoder.
    """
    parts = [part for part in weighty(folder) if part.startswith("text_encoder")]
    encoders = [
        whole(
            getattr(transformers, kind),
            folder / part,
            torch.float32,
            variant=weights_of(folder, part, variant).variant,
            **_LOADED_WITH.get(kind, {}),
        ).to(device)
        for kind, part in zip(about.encoders, parts, strict=True)
    ]
    text = TextEncoders(about.tokenizers, encoders)
    for tokenizer, table in zip(text.tokenizers, text.tables, strict=True):
        if len(tokenizer) > table.num_embeddings:
            raise ValueError(
                f"the tokenizer knows {len(tokenizer)} tokens, its encoder {table.num_embeddings}"
            )
    return text
