"""Settings as a person gives them: named presets, YAML files over one, flags over all."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from originality.settings import AuditSettings, DomainMissing, SettingsError, nearest

_PAPER: dict[str, Any] = {  # no domain: what the images show is asked for
    "model": {
        "path": "CompVis/stable-diffusion-v1-4",
        "revision": "133a221b8aa7292a167afc5127cb63fb5005638b",
        "dtype": "fp16",
    },
}
_PAPER_SHAPES: dict[str, Any] = {
    "redraw": {"steps": 50, "guidance_scale": 3.0},  # at 7.5 the small model draws no shapes any more
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
"""Fewer and larger steps of fewer samples, over draws that come again, until they bring too little
(docs/bench/README.md)."""


def _merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    if over.get("path", base.get("path")) != base.get("path"):
        merged.pop("revision", None)  # a commit of another model
    for key, value in over.items():
        if isinstance(value, Mapping) and isinstance(merged.get(key), Mapping):
            merged[key] = _merge(merged[key], value)
        else:
            merged[key] = value
    return merged


PRESETS: dict[str, dict[str, Any]] = {
    "paper": _PAPER,
    "paper-shapes": _PAPER_SHAPES,
    "fast": _merge(_PAPER, _FAST),
    "fast-shapes": _merge(_PAPER_SHAPES, _FAST),
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
``paper-shapes``: Appendix E.1 on the world of shapes; ``fast`` and ``fast-shapes``: meant to say the same for
a twentieth of the cost (docs/bench/README.md); ``laptop``: the model that ships, on two cores."""

DEFAULT_PRESET = "laptop"


def load_settings(
    preset: str | None = None,
    files: Path | Sequence[Path] | None = None,
    flags: Mapping[str, Any] | None = None,
) -> AuditSettings:
    """Settings from a preset, over it YAML files, a later one over an earlier, over all the flags (a nested
    mapping).

    A YAML file may name its own ``preset``; a preset given by flag beats it.

    Raises:
        DomainMissing: no domain is given, and none follows from the metric.
        SettingsError: an unknown key, preset or domain, or an impossible value.
    """
    chosen: dict[str, Any] = {}
    for file in [files] if isinstance(files, Path) else files or ():
        chosen = _merge(chosen, read_yaml(file))
    chosen.pop("cluster", None)  # the engine's own part
    file_preset = chosen.pop("preset", None)
    name = preset or file_preset or DEFAULT_PRESET
    if not isinstance(name, str) or name not in PRESETS:
        raise SettingsError(f"preset {name!r} is unknown{nearest(str(name), PRESETS)}")
    values = _merge(_merge(PRESETS[name], chosen), flags or {})
    try:
        return AuditSettings.model_validate(values)
    except ValidationError as error:
        causes = [problem.get("ctx", {}).get("error") for problem in error.errors(include_url=False)]
        kind = DomainMissing if isinstance(causes[0], DomainMissing) else SettingsError
        raise kind(one_line(error)) from error


def read_yaml(file: Path) -> dict[str, Any]:
    """A file of settings.

    Raises:
        SettingsError: it cannot be read, or holds something else.
    """
    try:
        if file.exists() and not (file.is_file() or file.is_dir()):  # a pipe gives its text only once
            raise SettingsError(f"cannot read {file}: it is a pipe, socket or device; save it as a file")
        text = file.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise SettingsError(f"cannot read {file}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise SettingsError(f"{file} is not a text file in UTF-8; save it as one") from error
    if re.search(r"\\u[dD][89a-fA-F]", text):
        raise SettingsError(
            f"{file} writes a character in two halves (\\ud83d and the like); write it as itself"
        )
    try:
        values = yaml.load(text, _EachKeyOnce) or {}
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: a date that is none
        mark = getattr(error, "problem_mark", None)
        line = f" at line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or str(error).partition("\n")[0]
        if mark and "\t" in "".join(text.splitlines()[mark.line : mark.line + 1]):
            problem = "it holds a tab; indent with spaces"
        raise SettingsError(f"{file} is not valid YAML{line}{f': {problem}' if problem else ''}") from error
    if not isinstance(values, dict):
        raise SettingsError(f"{file} must hold settings as 'key: value' lines")
    return values


class _EachKeyOnce(yaml.SafeLoader):
    """Refuses a mapping that has a key twice, of which YAML's own loaders silently take the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if key.value in seen and isinstance(key, yaml.ScalarNode) and key.tag != _MERGE:
                raise yaml.constructor.ConstructorError(
                    None, None, f"{key.value!r} is there twice; leave one", key.start_mark
                )
            seen.add(str(key.value))
        return super().construct_mapping(node, deep)


_MERGE = "tag:yaml.org,2002:merge"


def one_line(error: ValidationError, prefix: str = "", root: type[BaseModel] = AuditSettings) -> str:
    """The first problem of a validation of ``root``, with the setting's path and the nearest known key."""
    problems = error.errors(include_url=False)
    # a misspelt key is the cause where its right one is missed
    problem = next((p for p in problems if p["type"] == "extra_forbidden"), problems[0])
    path = prefix + ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        model = root
        for part in problem["loc"][:-1]:
            field = model.model_fields.get(str(part))  # none: the name of a user's domain
            annotation = field and field.annotation
            for inner in (annotation, *get_args(annotation)):
                if isinstance(inner, type) and issubclass(inner, BaseModel):
                    model = inner
        key = str(problem["loc"][-1])
        return f"unknown setting {path!r}{nearest(key, model.model_fields)}"
    if problem["type"] == "value_error":
        return str(problem["ctx"]["error"]) if "ctx" in problem else problem["msg"]
    if problem["type"] == "missing":
        return f"setting {path!r} is missing; write it"
    return f"setting {path!r}: {problem['msg']} (given: {problem['input']!r})"
