"""What every part of the settings is made of: the frozen model, and checks that parts share."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict


def nearest(word: str, known: Any) -> str:
    """The end of an error message: what may have been meant."""
    names = sorted(str(k) for k in known)
    close = difflib.get_close_matches(word, names, n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; known are {', '.join(names)}"


class Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False)


Precision = Literal["fp32", "fp16", "bf16"]


def commit_of(setting: str) -> Callable[[str | None], str | None]:
    """A check of a setting that names a commit of the hub."""

    def checked(revision: str | None) -> str | None:
        if revision is not None and not re.fullmatch("[0-9a-f]{40}", revision):
            raise ValueError(
                f"{setting} {revision!r} must be a commit of 40 hex digits, as branches move; the "
                "model's page on the hub lists them"
            )
        return revision

    return checked
