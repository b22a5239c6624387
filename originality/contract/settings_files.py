"""Reads and merges settings, and reports the first validation error in one line."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from originality.contract.config import SettingsError, nearest

_HOLDS_FOR = {"path": "revision", "metric": "threshold"}
"""Settings that hold for one value of another: a commit belongs to a model, a threshold to a metric."""


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of ``base`` with the values of ``over``; nested mappings are merged recursively.

    If ``over`` replaces a model or a metric, the old one's revision or threshold is dropped.
    """
    both = dict(base)
    for key, dependent in _HOLDS_FOR.items():
        if over.get(key, base.get(key)) != base.get(key):
            both.pop(dependent, None)
    for key, value in over.items():
        inner = both.get(key)
        if isinstance(value, Mapping) and isinstance(inner, Mapping):
            both[key] = merged(inner, value)
        else:
            both[key] = value
    return both


def read_yaml(file: Path) -> dict[str, Any]:
    """Read a settings file.

    Raises:
        SettingsError: the file cannot be read, or does not contain settings.
    """
    try:
        if file.exists() and not (file.is_file() or file.is_dir()):  # a pipe can be read only once
            raise SettingsError(f"cannot read {file}: it is a pipe, socket or device; save it as a file")
        text = file.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise SettingsError(f"cannot read {file}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise SettingsError(f"{file} is not a text file in UTF-8; save it as one") from error
    if re.search(r"\\u[dD][89a-fA-F]", text):
        raise SettingsError(
            f"{file} contains half of a character (an escape such as \\ud83d); write the character itself"
        )
    try:
        values = yaml.load(text, _EachKeyOnce) or {}
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: an impossible date
        mark = getattr(error, "problem_mark", None)
        line = f" at line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or str(error).partition("\n")[0]
        if mark and "\t" in "".join(text.splitlines()[mark.line : mark.line + 1]):
            problem = "it contains a tab; indent with spaces"
        raise SettingsError(f"{file} is not valid YAML{line}{f': {problem}' if problem else ''}") from error
    if not isinstance(values, dict):
        raise SettingsError(f"{file} must contain settings as 'key: value' lines")
    return values


class _EachKeyOnce(yaml.SafeLoader):
    """Rejects a repeated key. YAML's own loaders silently use its last value, which hides mistakes."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if key.value in seen and isinstance(key, yaml.ScalarNode) and key.tag != _MERGE:
                raise yaml.constructor.ConstructorError(
                    None, None, f"{key.value!r} is repeated; keep one", key.start_mark
                )
            seen.add(str(key.value))
        return super().construct_mapping(node, deep)


_MERGE = "tag:yaml.org,2002:merge"


def one_line(error: ValidationError, root: type[BaseModel], prefix: str = "") -> str:
    """Describe the first error of a validation of ``root`` in one line: the setting's path, and the nearest
    known key if it is unknown."""
    problems = error.errors(include_url=False)
    # A misspelt key causes two errors: the key is unknown, and the right one is missing. Report the cause.
    problem = next((p for p in problems if p["type"] == "extra_forbidden"), problems[0])
    path = prefix + ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        model = root
        for part in problem["loc"][:-1]:
            field = model.model_fields.get(str(part))  # None: a key of a mapping, such as a domain's name
            annotation = field and field.annotation
            for inner in (annotation, *get_args(annotation)):
                if isinstance(inner, type) and issubclass(inner, BaseModel):
                    model = inner
        key = str(problem["loc"][-1])
        return f"unknown setting {path!r}{nearest(key, model.model_fields)}"
    if problem["type"] == "value_error":
        return str(problem["ctx"]["error"]) if "ctx" in problem else problem["msg"]
    if problem["type"] == "missing":
        return f"setting {path!r} is missing; add it"
    return f"setting {path!r}: {problem['msg']} (given: {problem['input']!r})"
