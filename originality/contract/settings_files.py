"""Settings in YAML files, and the first problem of a validation in one line."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from originality.contract.config import SettingsError, nearest


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


def one_line(error: ValidationError, root: type[BaseModel], prefix: str = "") -> str:
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
