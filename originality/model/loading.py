"""A model's networks from its folder: whole, each in its precision, on a device."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers

from originality.model.device import DTYPES
from originality.model.model_folder import Description, ModelFolder
from originality.model.prompt_embeddings import TextEncoders
from originality.settings.parts import ModelSettings

_LOADED_WITH = {"BertModel": {"add_pooling_layer": False}}
"""What a class of text encoders must be told, that it wants no weights that are not used."""


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


def text_encoders(folder: ModelFolder, device: torch.device) -> TextEncoders:
    """One, or SDXL's two, with their tokenizers.

    Raises:
        ValueError: weights are missing, or a tokenizer knows more tokens than its encoder.
    """
    about = folder.description
    encoders = [
        whole(
            getattr(transformers, kind),
            folder.path / part,
            torch.float32,
            variant=folder.parts[part].variant,
            **_LOADED_WITH.get(kind, {}),
        ).to(device)
        for kind, part in zip(about.encoders, folder.encoder_parts, strict=True)
    ]
    text = TextEncoders(about.tokenizers, encoders)
    for tokenizer, table in zip(text.tokenizers, text.tables, strict=True):
        if len(tokenizer) > table.num_embeddings:
            raise ValueError(
                f"the tokenizer knows {len(tokenizer)} tokens, its encoder {table.num_embeddings}"
            )
    return text
