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
"""Raised with every change of what becomes of a file."""

_UNET, _VAE = "model.diffusion_model.", "first_stage_model."
_FIRST = f"{_UNET}input_blocks.0.0.weight"
_CLIP, _OPENCLIP = "cond_stage_model.transformer.", "cond_stage_model.model."
_XL_CLIP, _XL_OPENCLIP = "conditioner.embedders.0.transformer.", "conditioner.embedders.1.model."
_TEXTS = {"sd1": (_CLIP,), "sd2": (_OPENCLIP,), "sdxl": (_XL_CLIP, _XL_OPENCLIP)}
"""Where the text encoders of a family are, in the order of its folder."""
_DTYPES = ("F16", "BF16", "F32", "I64", "I32")
"""Integers are positions."""

_INPUTS = {
    9: "an inpainting model",
    8: "an InstructPix2Pix model",
    7: "an upscaler",
    5: "a depth-to-image model",
}
"""Models whose UNet sees more than the noisy latents, by channels."""
_OTHERS = (
    (r"edm_mean$", "Playground v2.5"),
    (r"edm_vpred\.", "an SDXL on EDM's noise (CosXL)"),
    (r"ztsnr$", "an SDXL of zero terminal signal-to-noise ratio"),
    (r"conditioner\.embedders\.0\.model\.", "the SDXL refiner"),
    (r"noise_augmentor\.|embedder\.model\.visual\.", "an SD 2.1 unCLIP"),
)
"""What has a UNet in this layout and yet is none of the families."""
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
"""What else comes as .safetensors, by the names of its tensors."""


@dataclass(frozen=True)
class Tensors:
    """What a file says of its tensors."""

    dtypes: Mapping[str, str]
    shapes: Mapping[str, tuple[int, ...]]
    said: Mapping[str, str] = field(default_factory=dict)
    """What the header says beside its tensors: modelspec's and kohya's keys."""

    def under(self, prefix: str) -> list[str]:
        return [name for name in self.shapes if name.startswith(prefix)]


def unpack(file: Path, into: Path, prediction: str | None, configuration: Path | None = None) -> Path:
    """Writes a single-file checkpoint as a diffusers folder, in the file's own precision.

    Args:
        into: the folder, which is made.
        prediction: what the UNet was trained to say; None: what the file says (see
            :func:`originality.model.file_header.claims`), else the noise. Needed for a Stable Diffusion 2.x
            that says nothing.
        configuration: a folder as write_configuration makes it, in place of the family's own.

    Raises:
        SettingsError: the file is no whole checkpoint of a supported family, or says something else of its
            prediction.
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
        SettingsError: it is something else, which the message names.
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


def prediction_of(file: Path, family: str, tensors: Tensors, asked: str | None) -> str | None:
    """What a file's UNet was trained to say; None: what is usual in its family.

    Args:
        asked: by the settings.

    Raises:
        SettingsError: the file contradicts the settings or itself, says something that is not supported, or
            is a Stable Diffusion 2.x of which nobody says it.
    """
    if other := file_header.unsupported(tensors.said, family):
        raise _refused(file, other)
    said = file_header.claims(tensors.said, "v_pred" in tensors.shapes)
    told = ", ".join(f"{prediction} by {source}" for source, prediction in said.items())
    if asked is None and len(set(said.values())) > 1:
        raise SettingsError(
            f"model file {str(file)!r} contradicts itself ({told}); set model.prediction to what is true"
        )
    if asked is not None and said and asked not in said.values():
        raise SettingsError(
            f"model file {str(file)!r} says that it predicts {told}, and model.prediction is {asked!r}; "
            "leave model.prediction out, or correct the file's header"
        )
    prediction = asked or next(iter(said.values()), None)
    if family == "sd2" and prediction is None:
        raise SettingsError(
            f"model file {str(file)!r} is a Stable Diffusion 2.x and does not tell what it predicts: set "
            "model.prediction to v_prediction (v2, v2-1: 768 pixels) or epsilon (v2-base, v2-1-base: 512)"
        )
    return prediction


def _refused(file: Path, what: str) -> SettingsError:
    return SettingsError(
        f"model file {str(file)!r} is {what}; supported are Stable Diffusion 1.x, 2.x and XL base"
    )


def _read_header(file: Path) -> Tensors:
    """Names, types and shapes, after the library has compared the file's length with them."""
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
            f"model file {str(file)!r} cannot be read ({error.strerror or error}); give a file that is there"
        ) from error
    except SafetensorError as error:
        with file.open("rb") as handle:
            start = handle.read(256)
        raise SettingsError(f"model file {str(file)!r} {_damage(start, error)}") from error


def _damage(start: bytes, error: SafetensorError) -> str:
    if start.startswith(b"PK\x03\x04") or (start[:1] == b"\x80" and any(start[2:8])):
        return "is a pickle by another name, which is not loaded, as it may run code; convert it"
    if start and (found := impostor(start)):
        return found
    return f"is cut off or damaged ({str(error).splitlines()[0]}); download it again"


def _say(file: Path, **values: Any) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}, indent=2) + "\n")


# Weights


def _write_weights(file: Path, family: str, source: Path, into: Path) -> None:
    from safetensors.torch import load_file

    weights = load_file(file)  # mapped, so that parts come into memory as they are used
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
    """A model without memory of its own, with these weights in their own precision, or in fp32 if they have
    several."""
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
    """UNet or VAE. diffusers' own from_single_file leaves out what is missing without a word, so that only
    its renaming is used."""
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
    # The published folders hold the running average of training, which some files have beside the last step.
    average = {name: value for name, value in weights.items() if name.startswith("model_ema.")}
    return _filled(model, convert_ldm_unet_checkpoint(own | average, config, extract_ema=True), part)


def _text_encoder(part: str, prefix: str, weights: Mapping[str, Any], source: Path) -> Any:
    """CLIP's text encoder of transformers, from transformers' names or from OpenCLIP's."""
    import torch
    import transformers

    config = transformers.CLIPTextConfig.from_pretrained(source / part)
    (kind,) = config.architectures
    with torch.device("meta"):
        model = getattr(transformers, kind)(config)
    expected = model.state_dict().keys()
    own = {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}
    renamed = _of_openclip(own) if prefix.endswith(".model.") else _of_clip(own)
    if any(name.startswith("text_model.") for name in expected):  # it depends on class and version
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
    """Its attention keeps query, key and value in one matrix, and multiplies the projection from the left."""
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
