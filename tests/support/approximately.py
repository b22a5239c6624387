"""Whether what was computed here is what was computed on another machine, up to the last bits."""

from __future__ import annotations

import math
import re
from typing import Any

_NUMBER = re.compile(r"\d+\.\d+")


def nearly(ours: Any, theirs: Any) -> bool:
    """Whether two documents, as JSON has them, are the same but for the rounding of their numbers."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        return ours.keys() == theirs.keys() and all(nearly(ours[key], theirs[key]) for key in ours)
    if isinstance(ours, list) and isinstance(theirs, list):
        return len(ours) == len(theirs) and all(map(nearly, ours, theirs))
    if isinstance(ours, float) and isinstance(theirs, int | float):
        return math.isclose(ours, theirs, rel_tol=1e-9, abs_tol=1e-12)
    return bool(ours == theirs)


def nearly_text(ours: str, theirs: str) -> bool:
    """Whether two texts are the same, but that a decimal number may be off by one in its last digit."""
    if _NUMBER.split(ours) != _NUMBER.split(theirs):
        return False
    pairs = zip(_NUMBER.findall(ours), _NUMBER.findall(theirs), strict=True)
    return all(
        _digits(a) == _digits(b) and abs(float(a) - float(b)) < 1.5 * 0.1 ** _digits(b) for a, b in pairs
    )


def _digits(number: str) -> int:
    return len(number.partition(".")[2])
