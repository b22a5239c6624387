"""What the header of a single-file checkpoint says of the model, beside its tensors.

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
"""Other families and adapters by what modelspec.architecture says."""
_FAMILIES = {
    _ARCHITECTURE: {
        "stable-diffusion-v1": "sd1",
        "stable-diffusion-v2": "sd2",
        "stable-diffusion-xl": "sdxl",
    },
    _BASE: {"sd_v1": "sd1", "sd_v2": "sd2", "sdxl": "sdxl"},
    "ss_v2": {"true": "sd2"},
}
"""Families by how the value of a key begins."""


def claims(said: Mapping[str, str], marked: bool) -> dict[str, str]:
    """What a file says that its UNet predicts, "epsilon" or "v_prediction", by where it says so.

    Args:
        said: the header's keys, of which ``unsupported`` finds nothing.
        marked: whether it has a tensor "v_pred", which says so by being there.
    """
    found = {"its tensor v_pred": "v_prediction"} if marked else {}
    if (kind := _plain(said, _TYPE)) in _PREDICTIONS:
        found[_TYPE] = _PREDICTIONS[kind]
    architecture = _plain(said, _ARCHITECTURE)
    if architecture.startswith("stable-diffusion-v2-768-v"):
        found[_ARCHITECTURE] = "v_prediction"
    if architecture.startswith("stable-diffusion-v2-512"):
        found[_ARCHITECTURE] = "epsilon"
    if _plain(said, _BASE).endswith("_v"):
        found[_BASE] = "v_prediction"
    if (value := _plain(said, "ss_v_parameterization")) in (*_TRUE, *_FALSE):
        found["ss_v_parameterization"] = "v_prediction" if value in _TRUE else "epsilon"
    return found


def unsupported(said: Mapping[str, str], family: str) -> str | None:
    """What a file of a family is by its header, if it cannot be used; None where it can.

    Args:
        family: by its tensors.
    """
    kind, process = _plain(said, _TYPE), _plain(said, "modelspec.noise_process")
    if "flow" in kind or "flow" in process:
        return "trained by flow matching by its header"
    if kind and kind not in _PREDICTIONS:
        return f"a model that predicts {kind!r} by its header ({_TYPE})"
    if _is_true(said, "ss_zero_terminal_snr"):
        return "trained with zero terminal signal-to-noise ratio by its header (ss_zero_terminal_snr)"
    if other := _OTHERS.search(architecture := _plain(said, _ARCHITECTURE)):
        return f"of another kind, {other[0]}, by its header ({_ARCHITECTURE} {architecture!r})"
    for key, families in _FAMILIES.items():
        value = _plain(said, key)
        named = next((of for start, of in families.items() if value.startswith(start)), family)
        if named != family:
            return f"{named} by its header ({key} {value!r}) and {family} by its tensors"
    if family == "sd2" and _plain(said, "ss_v2") == "false":
        return f"no sd2 by its header (ss_v2 'false') and {family} by its tensors"
    return None


def _plain(said: Mapping[str, str], key: str) -> str:
    return str(said.get(key) or "").strip().lower()


def _is_true(said: Mapping[str, str], key: str) -> bool:
    return _plain(said, key) in _TRUE
