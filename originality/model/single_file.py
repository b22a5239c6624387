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
from originality.contract.wrong_content import wrong_content
from originality.model import file_header
from originality.model.families import FAMILIES, write_configuration
from originality.model.library_errors import without_progress_bars
from originality.model.single_file_weights import FIRST_WEIGHT, TEXTS, UNET, VAE, write_weights

FORMAT = 2
"""Raise with every change of the folder that is written from a file: copies of older formats are not used."""

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
"""Models with a UNet in this layout that belong to no supported family, by the names of their tensors."""
_NO_UNET = (
    (r"lora_|.*\.lora[._]|.*\.hada_w1|.*\.lokr_w", "a LoRA, not a model; merge it into one"),
    (r"emb_params$|clip_[lg]$|string_to_param|<.*>$", "a textual inversion, not a model"),
    (r"control_model\.|controlnet_", "a ControlNet"),
    (r"(model\.diffusion_model\.)?joint_blocks\.", "Stable Diffusion 3, which has no UNet"),
    (r"(model\.diffusion_model\.)?(double_blocks|single_blocks)\.", "Flux, which has no UNet"),
    (r"model_ema\.", "only the running average of a training; save that as plain weights"),
    (r"(diffusion_model\.)?(input|output|middle)_block", "a UNet without text encoder and VAE"),
    (r"(first_stage_model\.)?(encoder|decoder)\.(down|up|conv_in|mid)", "a VAE alone"),
    (r"down_blocks\.|text_model\.|embeddings\.", "one part of a diffusers folder; give the complete folder"),
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
        """Names of the tensors that begin with a prefix."""
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
            write_weights(file, family, source, into)
    if prediction:
        _set_values(into / "scheduler" / "scheduler_config.json", prediction_type=prediction)
    return into


def recognise(file: Path, tensors: Tensors) -> str:
    """The family of a file: "sd1", "sd2" or "sdxl".

    Raises:
        SettingsError: the file is something else, which the message names.
    """
    names = list(tensors.shapes)
    if FIRST_WEIGHT not in tensors.shapes:
        for pattern, what in _NO_UNET:
            if any(re.match(pattern, name) for name in names):
                raise _refused(file, what)
        raise _refused(file, f"no UNet in CompVis' layout (it holds {', '.join(names[:3]) or 'nothing'})")
    for pattern, what in _OTHERS:
        if any(re.match(pattern, name) for name in names):
            raise _refused(file, what)
    shape = tensors.shapes[FIRST_WEIGHT]
    channels = shape[1] if len(shape) == 4 else 0
    if channels != 4:
        raise _refused(file, _INPUTS.get(channels, f"a UNet of {channels} input channels"))
    family = next((name for name, prefixes in TEXTS.items() if all(map(tensors.under, prefixes))), None)
    if family is None:
        raise _refused(file, "without a text encoder of Stable Diffusion 1.x, 2.x or XL")
    if not tensors.under(VAE):
        raise _refused(file, "without a VAE; save it with one baked in")
    parts = (UNET, VAE, *TEXTS[family])
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
    if start and (found := wrong_content(start)):
        return found
    return f"is cut off or damaged ({str(error).splitlines()[0]}); download it again"


def _set_values(file: Path, **values: Any) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}, indent=2) + "\n")
