"""The base of all settings: the frozen model, the error, and checks that several settings share."""

from __future__ import annotations

import difflib
import math
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from originality.contract.scorer import Unusable


def nearest(word: str, known: Any) -> str:
    """The end of an error message about an unknown name: the nearest known one, or all of them."""
    names = sorted(str(k) for k in known)
    close = difflib.get_close_matches(word, names, n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; known are {', '.join(names)}"


def leaves(tree: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every value of nested mappings that is not a mapping, with its dotted path: "redraw.steps"."""
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from leaves(value, f"{path}{key}.")
        else:
            yield f"{path}{key}", value


def seconds_from_environment(variable: str, usual: float, refusal: Callable[[str], Exception]) -> float:
    """Read seconds from an environment variable; ``usual`` if it is unset or empty.

    Raises:
        Exception: the variable is not a number of seconds; ``refusal`` makes the error from its message.
    """
    given = os.environ.get(variable)
    if not given:
        return usual
    with suppress(ValueError):
        if 0 <= (seconds := float(given)) < math.inf:
            return seconds
    raise refusal(f"{variable} is {given!r}; write a number of seconds")


class Frozen(BaseModel):
    """Base of all settings: immutable, unknown keys are errors, and each docstring describes its field."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        validate_default=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,
    )


Precision = Literal["fp32", "fp16", "bf16"]


def commit_of(setting: str) -> Callable[[str | None], str | None]:
    """Return a check of a setting that must name a commit of the Hugging Face hub."""

    def checked(revision: str | None) -> str | None:
        if revision is not None and not re.fullmatch("[0-9a-f]{40}", revision):
            raise ValueError(
                f"{setting} {revision!r} must be a commit of 40 hex digits, as branches move; the "
                "model's page on the hub lists them"
            )
        return revision

    return checked


class SettingsError(Unusable):
    """Invalid settings; the message is one line that ends with the fix."""
