"""Single-file checkpoints (.safetensors in the layout of CompVis, as WebUIs use them) as diffusers folders.

The names of a file's tensors tell the family; its configuration comes from :mod:`originality.model.families`,
and nothing from a hub.
"""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from originality.contract.config import SettingsError
from originality.contract.faults import is_machine_fault
from originality.contract.impostor import impostor
from originality.model import file_header, vae_names
from originality.model.families import FAMILIES, write_configuration
from originality.model.library_errors import without_progress_bars

FORMAT = 2
"""Raise with every change of the folder that is written from a file: copies of older formats are not used."""

_UNET, _VAE = "model.diffusion_model.", "first_stage_model."
_FIRST = f"{_UNET}input_blocks.0.0.weight"
_CLIP, _OPENCLIP = "cond_stage_model.transformer.", "cond_stage_model.model."
_XL_CLIP, _XL_OPENCLIP = "conditioner.embedders.0.transformer.", "conditioner.embedders.1.model."
_TEXTS = {"sd1": (_CLIP,), "sd2": (_OPENCLIP,), "sdxl": (_XL_CLIP, _XL_OPENCLIP)}
"""Prefixes of the tensors of a family's text encoders, in the order of its folder."""
_DTYPES = ("F16", "BF16", "F32", "I64", "I32")
"""The integers hold positions."""

_INPUTS = {
    9: "an inpainting model",
    8: "an InstructPix2Pix model",
    7: "an upscaler",
    5: "a depth-to-image model",
}
"""Models whose UNet reads more than the noisy latents, by its input channels."""
_OTHERS = (
    (r"edm_mean$", "Playground v2.5"),
    (r"edm_vpred\.", "an SDXL on EDM's noise (CosXL)"),
    (r"ztsnr$", "an SDXL of zero terminal signal-to-noise ratio"),
    (r"conditioner\.embedders\.0\.model\.", "the SDXL refiner"),
    (r"noise_augmentor\.|embedder\.model\.visual\.", "an SD 2.1 unCLIP"),
)
"""Models with a UNet in this layout that belong to none of the families, by the names of their tensors."""
_NO_UNET = (
    (r"lora_|.*\.lora[._]|.*\.hada_w1|.*\.lokr_w", "a LoRA, not a model; merge it into one"),
    (r"emb_params$|clip_[lg]$|string_to_param|<.*>$", "a textual inversion, not a model"),
    (r"control_model\.|controlnet_", "a ControlNet"),
    (r"(model\.diffusion_model\.)?joint_blocks\.", "Stable Diffusion 3, which has no UNet"),
    (r"(model\.diffusion_model\.)?(double_blocks|single_blocks)\.", "Flux, which has no UNet"),
    (r"model_ema\.", "only the running average of a training; save that as plain weights"),
    (r"(diffusion_model\.)?(input|output|middle)_block", "a UNet without text encoder and VAE"),
    (r"(first_stage_model\.)?(encoder|decoder)\.(down|up|conv_in|mid)", "a VAE alone"),
    (r"down_blocks\.|text_model\.|embeddings\.", "one part of a diffusers folder; give the whole folder"),
)
"""Other kinds of .safetensors files, by the names of their tensors."""


@dataclass(frozen=True)
class Tensors:
    """The header of a file."""

    dtypes: Mapping[str, str]
    shapes: Mapping[str, tuple[int, ...]]
    header: Mapping[str, str] = field(default_factory=dict)
    """Its text values apart from the tensors: keys of modelspec and of kohya's trainers."""

    def under(self, prefix: str) -> list[str]:
        return [name for name in self.shapes if name.startswith(prefix)]


def unpack(file: Path, into: Path, prediction: str | None, configuration: Path | None = None) -> Path:
    """Write a single-file checkpoint as a diffusers folder, in the file's own precision.

    Args:
        into: the folder, which is created.
        prediction: what the UNet was trained to predict; None for what the file states (see
            :func:`originality.model.file_header.claims`), otherwise the noise. Required for a Stable
            Diffusion 2.x whose file does not state it.
        configuration: a folder as write_configuration writes it, in place of the family's own.

    Raises:
        SettingsError: the file is not a complete checkpoint of a supported family, or its header contradicts
            ``prediction``.
    """
    tensors = _read_header(file)
    family = recognise(file, tensors)
    prediction = prediction_of(file, family, tensors, prediction)
    published = FAMILIES["sd2-base" if (family, prediction) == ("sd2", "epsilon") else family]
    with tempfile.TemporaryDirectory() as made:
        source = configuration or write_configuration(published, Path(made))
        into.mkdir(parents=True, exist_ok=True)
        for part in ("model_index.json", "scheduler", *(p.name for p in source.glob("tokenizer*"))):
            copy = shutil.copytree if (source / part).is_dir() else shutil.copy
            copy(source / part, into / part)
        with without_progress_bars():
            _write_weights(file, family, source, into)
    if prediction:
        _say(into / "scheduler" / "scheduler_config.json", prediction_type=prediction)
    return into


def recognise(file: Path, tensors: Tensors) -> str:
    """The family of a file: "sd1", "sd2" or "sdxl".

    Raises:
        SettingsError: the file is something else, which the message names.
    """
    names = list(tensors.shapes)
    if _FIRST not in tensors.shapes:
        for pattern, what in _NO_UNET:
            if any(re.match(pattern, name) for name in names):
                raise _refused(file, what)
        raise _refused(file, f"no UNet in CompVis' layout (it holds {', '.join(names[:3]) or 'nothing'})")
    for pattern, what in _OTHERS:
        if any(re.match(pattern, name) for name in names):
            raise _refused(file, what)
    shape = tensors.shapes[_FIRST]
    channels = shape[1] if len(shape) == 4 else 0
    if channels != 4:
        raise _refused(file, _INPUTS.get(channels, f"a UNet of {channels} input channels"))
    family = next((name for name, prefixes in _TEXTS.items() if all(map(tensors.under, prefixes))), None)
    if family is None:
        raise _refused(file, "without a text encoder of Stable Diffusion 1.x, 2.x or XL")
    if not tensors.under(_VAE):
        raise _refused(file, "without a VAE; save it with one baked in")
    parts = (_UNET, _VAE, *_TEXTS[family])
    for name in (name for prefix in parts for name in tensors.under(prefix)):
        dtype = tensors.dtypes[name]
        if dtype not in _DTYPES:
            raise _refused(file, f"a checkpoint in {dtype}; save it in fp16, bf16 or fp32")
    return family


def prediction_of(file: Path, family: str, tensors: Tensors, setting: str | None) -> str | None:
    """What a file's UNet was trained to predict; None for what is usual in its family.

    Args:
        setting: model.prediction of the settings.

    Raises:
        SettingsError: the file contradicts the settings or itself, states an unsupported prediction, or is a
            Stable Diffusion 2.x for which neither settings nor file state it.
    """
    if other := file_header.unsupported(tensors.header, family):
        raise _refused(file, other)
    claims = file_header.claims(tensors.header, "v_pred" in tensors.shapes)
    stated = ", ".join(f"{prediction} by {source}" for source, prediction in claims.items())
    if setting is None and len(set(claims.values())) > 1:
        raise SettingsError(
            f"model file {str(file)!r} contradicts itself ({stated}); set model.prediction to the right one"
        )
    if setting is not None and claims and setting not in claims.values():
        raise SettingsError(
            f"model file {str(file)!r} states that it predicts {stated}, and model.prediction is "
            f"{setting!r}; leave model.prediction out, or correct the file's header"
        )
    prediction = setting or next(iter(claims.values()), None)
    if family == "sd2" and prediction is None:
        raise SettingsError(
            f"model file {str(file)!r} is a Stable Diffusion 2.x and does not state what it predicts: set "
            "model.prediction to v_prediction (v2, v2-1: 768 pixels) or epsilon (v2-base, v2-1-base: 512)"
        )
    return prediction


def _refused(file: Path, what: str) -> SettingsError:
    return SettingsError(
        f"model file {str(file)!r} is {what}; supported are Stable Diffusion 1.x, 2.x and XL base"
    )


def _read_header(file: Path) -> Tensors:
    """Names, types and shapes; the library compares the file's length with them first."""
    try:
        with safe_open(file, framework="pt") as opened:
            slices = {name: opened.get_slice(name) for name in opened.keys()}  # noqa: SIM118
            return Tensors(
                {name: part.get_dtype() for name, part in slices.items()},
                {name: tuple(part.get_shape()) for name, part in slices.items()},
                opened.metadata() or {},
            )
    except OSError as error:
        if is_machine_fault(error):
            raise
        raise SettingsError(
            f"model file {str(file)!r} cannot be read ({error.strerror or error}); check the path"
        ) from error
    except SafetensorError as error:
        with file.open("rb") as handle:
            start = handle.read(256)
        raise SettingsError(f"model file {str(file)!r} {_damage(start, error)}") from error


def _damage(start: bytes, error: SafetensorError) -> str:
    if start.startswith(b"PK\x03\x04") or (start[:1] == b"\x80" and any(start[2:8])):
        return "is a pickle by another name, which is not loaded, because it may run code; convert it"
    if start and (found := impostor(start)):
        return found
    return f"is cut off or damaged ({str(error).splitlines()[0]}); download it again"


def _say(file: Path, **values: Any) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}, indent=2) + "\n")


# Weights


def _write_weights(file: Path, family: str, source: Path, into: Path) -> None:
    from safetensors.torch import load_file

    weights = load_file(file)  # memory-mapped: each part is read when it is used
    try:
        for part, prefix in (("unet", _UNET), ("vae", _VAE)):
            _diffusers_part(part, prefix, weights, source).save_pretrained(into / part)
        for suffix, prefix in zip(("", "_2"), _TEXTS[family], strict=False):
            part = f"text_encoder{suffix}"
            _text_encoder(part, prefix, weights, source).save_pretrained(into / part)
    except (ValueError, LookupError, AttributeError, RuntimeError, TypeError) as error:
        if is_machine_fault(error):
            raise
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise SettingsError(
            f"model file {str(file)!r} has names of {family} and other weights ({reason}); pruned or "
            "distilled models are not supported"
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


def _diffusers_part(part: str, prefix: str, weights: Mapping[str, Any], source: Path) -> Any:
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
        return _filled(model, vae_names.of_diffusers(own, _VAE, config), part)
    if len(own) > len(model.state_dict()):
        raise ValueError("the unet has more weights than the family's")
    # Some files hold the running average of training beside the last step. The published folders hold the
    # average, so it is preferred.
    average = {name: value for name, value in weights.items() if name.startswith("model_ema.")}
    return _filled(model, convert_ldm_unet_checkpoint(own | average, config, extract_ema=True), part)


def _text_encoder(part: str, prefix: str, weights: Mapping[str, Any], source: Path) -> Any:
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
