"""Loads settings: a named preset, YAML files that override it, and flags that override both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from originality.contract.config import SettingsError, nearest
from originality.contract.settings_files import merged, one_line, read_yaml
from originality.settings.audit import AuditSettings, DomainMissing

_PAPER: dict[str, Any] = {  # without a domain: the user must say what the images show
    "model": {
        "path": "CompVis/stable-diffusion-v1-4",
        "revision": "133a221b8aa7292a167afc5127cb63fb5005638b",
        "dtype": "fp16",
    },
}
_PAPER_SHAPES: dict[str, Any] = {
    "redraw": {"steps": 50, "guidance_scale": 3.0},  # at 7.5 the small model no longer draws shapes
    "distance": {"metric": "elements"},
    "in_distribution": {"check": "positions"},
}
_FAST: dict[str, Any] = {
    "inversion": {
        "steps": 320,
        "batch_size": 5,
        "learning_rate": 1e-2,
        "timesteps": "stratified",
        "templates": 2,
        "cycle": 40,
        "stop": "settled",
        "tolerance": 0.05,
        "cooldown": 80,
        "lanes": 8,
        "ahead": True,
    },
    "redraw": {"steps": 15, "scheduler": "dpm++", "round": 4, "together": 20},
    "in_distribution": {"ask": "redrawn"},
}
"""Fewer and larger steps with fewer samples, over noise that repeats in cycles, until a cycle no longer
lowers the loss by enough (docs/bench/README.md)."""


PRESETS: dict[str, dict[str, Any]] = {
    "paper": _PAPER,
    "paper-shapes": _PAPER_SHAPES,
    "fast": merged(_PAPER, _FAST),
    "fast-shapes": merged(_PAPER_SHAPES, _FAST),
    "laptop": {
        "inversion": {
            "steps": 60,
            "batch_size": 8,
            "learning_rate": 1e-2,
            "timesteps": "stratified",
            "lanes": 3,
        },
        "redraw": {"steps": 15, "scheduler": "dpm++", "guidance_scale": 3.0},
        "distance": {"metric": "elements"},
        "in_distribution": {"check": "positions"},
    },
}
"""Named settings. ``paper``: Section 4.2 on Stable Diffusion v1-4, for a domain that must be given;
``paper-shapes``: Appendix E.1 on the world of shapes; ``fast`` and ``fast-shapes``: meant to give the same
verdicts at a twentieth of the cost (docs/bench/README.md); ``laptop``: the model that ships, on two cores."""

DEFAULT_PRESET = "laptop"


def load_settings(
    preset: str | None = None,
    files: Path | Sequence[Path] | None = None,
    flags: Mapping[str, Any] | None = None,
) -> AuditSettings:
    """Merge a preset, YAML files and flags, in this order: a later value overrides an earlier one.

    A YAML file may name its own ``preset``, which the argument overrides. ``flags`` is a nested mapping.

    Raises:
        DomainMissing: no domain is given, and the metric does not imply one.
        SettingsError: an unknown key, preset or domain, or an invalid value.
    """
    chosen: dict[str, Any] = {}
    for file in [files] if isinstance(files, Path) else files or ():
        chosen = merged(chosen, read_yaml(file))
    chosen.pop("cluster", None)  # the engine's settings, which cluster.settings reads
    file_preset = chosen.pop("preset", None)
    name = preset or file_preset or DEFAULT_PRESET
    if not isinstance(name, str) or name not in PRESETS:
        raise SettingsError(f"preset {name!r} is unknown{nearest(str(name), PRESETS)}")
    values = merged(merged(PRESETS[name], chosen), flags or {})
    return validated(values)


def validated(values: Mapping[str, Any]) -> AuditSettings:
    """Settings of nested values.

    Raises:
        SettingsError: a setting is unknown or invalid. DomainMissing: the domain must be given.
    """
    try:
        return AuditSettings.model_validate(values)
    except ValidationError as error:
        causes = [problem.get("ctx", {}).get("error") for problem in error.errors(include_url=False)]
        kind = DomainMissing if isinstance(causes[0], DomainMissing) else SettingsError
        raise kind(one_line(error, AuditSettings)) from error
