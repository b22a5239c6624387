"""What the header of a single-file checkpoint states about the model, apart from its tensors.

Two sets of keys are in use: Stability's model specification ("modelspec.…") and those that kohya's trainers
write ("ss_…"). Values are text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

_PREDICTIONS = {
    **dict.fromkeys(("epsilon", "eps", "noise"), "epsilon"),
    **dict.fromkeys(("v", "v_prediction", "v-prediction", "vpred", "v_pred", "velocity"), "v_prediction"),
}
_TYPE, _ARCHITECTURE = "modelspec.prediction_type", "modelspec.architecture"
_BASE = "ss_base_model_version"
_TRUE, _FALSE = ("true", "1", "yes"), ("false", "0", "no")
_OTHERS = re.compile(
    r"^(flux|stable-diffusion-(v?3|cascade)|stable-cascade|lumina|hunyuan|sana|pixart|auraflow|chroma|qwen|wan)"
    r"|inpaint|\b(lora|textual-inversion|controlnet|refiner|unclip|depth)\b"
)
"""Other families and adapters, by modelspec.architecture."""
_FAMILIES = {
    _ARCHITECTURE: {
        "stable-diffusion-v1": "sd1",
        "stable-diffusion-v2": "sd2",
        "stable-diffusion-xl": "sdxl",
    },
    _BASE: {"sd_v1": "sd1", "sd_v2": "sd2", "sdxl": "sdxl"},
    "ss_v2": {"true": "sd2"},
}
"""For each key, families by the beginning of its value."""


def claims(header: Mapping[str, str], marked: bool) -> dict[str, str]:
    """What a file states that its UNet predicts, "epsilon" or "v_prediction", by where it states it.

    Args:
        header: of a file that ``unsupported`` accepts.
        marked: whether the file has a tensor "v_pred", whose presence means velocity prediction.
    """
    found = {"its tensor v_pred": "v_prediction"} if marked else {}
    if (kind := _value(header, _TYPE)) in _PREDICTIONS:
        found[_TYPE] = _PREDICTIONS[kind]
    architecture = _value(header, _ARCHITECTURE)
    if architecture.startswith("stable-diffusion-v2-768-v"):
        found[_ARCHITECTURE] = "v_prediction"
    if architecture.startswith("stable-diffusion-v2-512"):
        found[_ARCHITECTURE] = "epsilon"
    if _value(header, _BASE).endswith("_v"):
        found[_BASE] = "v_prediction"
    if (value := _value(header, "ss_v_parameterization")) in (*_TRUE, *_FALSE):
        found["ss_v_parameterization"] = "v_prediction" if value in _TRUE else "epsilon"
    return found


def unsupported(header: Mapping[str, str], family: str) -> str | None:
    """Why a file is unsupported by its header; None if it is supported.

    Args:
        family: as its tensors tell.
    """
    kind, process = _value(header, _TYPE), _value(header, "modelspec.noise_process")
    if "flow" in kind or "flow" in process:
        return "trained by flow matching by its header"
    if kind and kind not in _PREDICTIONS:
        return f"a model that predicts {kind!r} by its header ({_TYPE})"
    if _is_true(header, "ss_zero_terminal_snr"):
        return "trained with zero terminal signal-to-noise ratio by its header (ss_zero_terminal_snr)"
    if other := _OTHERS.search(architecture := _value(header, _ARCHITECTURE)):
        return f"of another kind, {other[0]}, by its header ({_ARCHITECTURE} {architecture!r})"
    for key, families in _FAMILIES.items():
        value = _value(header, key)
        named = next((of for start, of in families.items() if value.startswith(start)), family)
        if named != family:
            return f"{named} by its header ({key} {value!r}) and {family} by its tensors"
    if family == "sd2" and _value(header, "ss_v2") == "false":
        return f"not sd2 by its header (ss_v2 'false') and {family} by its tensors"
    return None


def _value(header: Mapping[str, str], key: str) -> str:
    return str(header.get(key) or "").strip().lower()


def _is_true(header: Mapping[str, str], key: str) -> bool:
    return _value(header, key) in _TRUE
