"""Weights of a single-file checkpoint, converted to diffusers' and transformers' names."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from originality.contract.config import SettingsError
from originality.contract.faults import is_machine_fault
from originality.model import vae_names

UNET, VAE = "model.diffusion_model.", "first_stage_model."
FIRST_WEIGHT = f"{UNET}input_blocks.0.0.weight"
"""The weight of the UNet's first layer, whose shape tells what the UNet reads."""
_CLIP, _OPENCLIP = "cond_stage_model.transformer.", "cond_stage_model.model."
_XL_CLIP, _XL_OPENCLIP = "conditioner.embedders.0.transformer.", "conditioner.embedders.1.model."
TEXTS = {"sd1": (_CLIP,), "sd2": (_OPENCLIP,), "sdxl": (_XL_CLIP, _XL_OPENCLIP)}
"""Prefixes of the tensors of a family's text encoders, in the order of its folder."""


def write_weights(file: Path, family: str, source: Path, into: Path) -> None:
    """Write the weights of a single-file checkpoint as the parts of a diffusers folder.

    Args:
        family: as recognise tells it.
        source: a folder with the configurations of the parts.

    Raises:
        SettingsError: weights are missing, or there are others than the family's.
    """
    from safetensors.torch import load_file

    weights = load_file(file)  # memory-mapped: each part is read when it is used
    try:
        for part, prefix in (("unet", UNET), ("vae", VAE)):
            diffusers_part(part, prefix, weights, source).save_pretrained(into / part)
        for suffix, prefix in zip(("", "_2"), TEXTS[family], strict=False):
            part = f"text_encoder{suffix}"
            text_encoder(part, prefix, weights, source).save_pretrained(into / part)
    except (ValueError, LookupError, AttributeError, RuntimeError, TypeError) as error:
        if is_machine_fault(error):
            raise
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise SettingsError(
            f"model file {str(file)!r} names its weights as {family} does, but they differ ({reason}); "
            "pruned or distilled models are not supported"
        ) from error


def _filled(model: Any, renamed: Mapping[str, Any], part: str) -> Any:
    """Assign weights to a model on the meta device, in their own precision, or in fp32 if that differs."""
    expected = model.state_dict().keys()
    missing = sorted(expected - renamed.keys())
    if missing:
        raise ValueError(f"the {part} has no {missing[0]}")
    weights = {name: renamed[name] for name in expected}
    if len({value.dtype for value in weights.values()}) > 1:
        weights = {name: value.float() for name, value in weights.items()}
    model.load_state_dict(weights, assign=True)
    return model


def diffusers_part(part: str, prefix: str, weights: Mapping[str, Any], source: Path) -> Any:
    """Convert the UNet or the VAE.

    Of diffusers' from_single_file only the renaming is used: the rest silently ignores missing weights.
    """
    import torch
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint

    config = json.loads((source / part / "config.json").read_text())
    own = {name: value for name, value in weights.items() if name.startswith(prefix)}
    kind: Any = UNet2DConditionModel if part == "unet" else AutoencoderKL
    with torch.device("meta"):
        model = kind.from_config(config)
    if part == "vae":
        return _filled(model, vae_names.of_diffusers(own, VAE, config), part)
    if len(own) > len(model.state_dict()):
        raise ValueError("the unet has more weights than the family's")
    # Some files hold the running average of training beside the last step. The published folders hold the
    # average, so it is preferred.
    average = {name: value for name, value in weights.items() if name.startswith("model_ema.")}
    return _filled(model, convert_ldm_unet_checkpoint(own | average, config, extract_ema=True), part)


def text_encoder(part: str, prefix: str, weights: Mapping[str, Any], source: Path) -> Any:
    """Convert a text encoder to transformers' CLIP, from transformers' names or from OpenCLIP's."""
    import torch
    import transformers

    config = transformers.CLIPTextConfig.from_pretrained(source / part)
    (kind,) = config.architectures
    with torch.device("meta"):
        model = getattr(transformers, kind)(config)
    expected = model.state_dict().keys()
    own = {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}
    renamed = _of_openclip(own) if prefix.endswith(".model.") else _of_clip(own)
    if any(name.startswith("text_model.") for name in expected):  # depends on class and version
        renamed = {n if n in expected else f"text_model.{n}": value for n, value in renamed.items()}
    return _filled(model, renamed, part)


def _of_clip(own: Mapping[str, Any]) -> dict[str, Any]:
    return {name.removeprefix("text_model."): value for name, value in own.items()}


_OPENCLIP_NAMES = (
    (r"^positional_embedding$", "embeddings.position_embedding.weight"),
    (r"^token_embedding\.", "embeddings.token_embedding."),
    (r"^ln_final\.", "final_layer_norm."),
    (r"^transformer\.resblocks\.", "encoder.layers."),
    (r"\.ln_([12])\.", r".layer_norm\1."),
    (r"\.c_fc\.", ".fc1."),
    (r"\.c_proj\.", ".fc2."),
    (r"\.attn\.", ".self_attn."),
)


def _of_openclip(own: Mapping[str, Any]) -> dict[str, Any]:
    """Rename OpenCLIP's weights as transformers'.

    OpenCLIP's attention stores query, key and value in one matrix, and its text projection is transposed.
    """
    found = {}
    for name, value in own.items():
        if name == "text_projection":
            found["text_projection.weight"] = value.T.contiguous()
            continue
        for pattern, new in _OPENCLIP_NAMES:
            name = re.sub(pattern, new, name)
        head, split, kind = name.partition("in_proj_")
        if split:
            for letter, part in zip("qkv", value.chunk(3), strict=True):
                found[f"{head}{letter}_proj.{kind}"] = part.contiguous()
        else:
            found[name] = value
    return found
