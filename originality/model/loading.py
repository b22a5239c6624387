"""Loads networks from folders: with all their weights, each in its precision, on a device."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers

from originality.contract.config import SettingsError
from originality.model.device import DTYPES
from originality.model.library_errors import library_errors, without_progress_bars
from originality.model.model_folder import Description, ModelFolder
from originality.model.prompt_embeddings import TextEncoders
from originality.settings.parts import ModelSettings

_OPTIONS: dict[str, dict[str, Any]] = {"BertModel": {"add_pooling_layer": False}}
"""By class of text encoder, options of ``from_pretrained``. BERT's pooling layer is not used, and folders
need not hold its weights."""


def precisions(settings: ModelSettings, about: Description) -> tuple[torch.dtype, torch.dtype]:
    """The dtypes of the UNet and of the VAE.

    SDXL's VAE overflows in fp16 on most images, so it runs in fp32 unless its configuration states
    ``force_upcast: false``, as VAEs repaired for fp16 do. The key counts for SDXL alone: it is diffusers'
    default, so a Stable Diffusion 1.x may state it too, whose VAE does not overflow.
    """
    named = settings.vae_dtype
    if named is None:
        overflows = about.wants_size and about.vae.get("force_upcast", True)
        named = "fp32" if overflows and settings.dtype == "fp16" else settings.dtype
    return DTYPES[settings.dtype], DTYPES[named]


def load_network(
    loader: Any,
    folder: Path,
    device: str | torch.device,
    dtype: torch.dtype = torch.float32,
    variant: str | None = None,
    **options: Any,
) -> Any:
    """Load a network with all its weights for inference: frozen and in evaluation mode.

    Args:
        loader: a class of diffusers or transformers with ``from_pretrained``.
        variant: of the weight files (originality.contract.weight_variants).
        options: more of ``from_pretrained``.

    Raises:
        ValueError: weights are missing. The libraries would only warn, and draw those at random.
    """
    # A module draws its first weights from the global generator: leave that in the state it was in.
    with without_progress_bars(), torch.random.fork_rng(devices=[]):
        network, found = loader.from_pretrained(
            folder,
            use_safetensors=True,
            dtype=dtype,
            output_loading_info=True,
            variant=variant,
            local_files_only=True,
            **options,
        )
    if missing := sorted(found["missing_keys"]):
        raise ValueError(
            f"{folder.name} lacks {len(missing)} weights of a {type(network).__name__}, {missing[0]} first"
        )
    return network.eval().requires_grad_(False).to(device)


def load_part(
    folder: ModelFolder,
    part: str,
    loader: Any,
    device: torch.device,
    dtype: torch.dtype = torch.float32,
    **options: Any,
) -> Any:
    """Load one network of a model: "unet", "vae" or a text encoder; see :func:`load_network`.

    Raises:
        SettingsError: it cannot be loaded, or weights are missing.
    """
    variant = folder.parts[part].variant
    with library_errors(f"model folder {folder.name!r}: its {part}"):
        return load_network(loader, folder.path / part, device, dtype, variant, **options)


def load_text_encoders(folder: ModelFolder, device: torch.device) -> TextEncoders:
    """Load the text encoder, or SDXL's two, with their tokenizers, in fp32.

    Raises:
        SettingsError: one cannot be loaded, or a tokenizer has more tokens than its encoder.
    """
    about = folder.description
    encoders = [
        load_part(folder, part, getattr(transformers, kind), device, **_OPTIONS.get(kind, {}))
        for kind, part in zip(about.encoders, folder.encoder_parts, strict=True)
    ]
    text = TextEncoders(about.tokenizers, encoders)
    for part, tokenizer, table in zip(folder.encoder_parts, text.tokenizers, text.tables, strict=True):
        if len(tokenizer) > table.num_embeddings:
            raise SettingsError(
                f"model folder {folder.name!r}: the tokenizer of {part} has {len(tokenizer)} tokens, the "
                f"encoder {table.num_embeddings}; provide both from the same model"
            )
    return text
