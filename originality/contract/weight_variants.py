"""Which files of a folder are its weights: the plain ones, or a variant of them ("model.fp16.safetensors").

The rule is the same for a folder on disk, a listing of a bucket and a listing of the hub, so that the machine
that plans a run and those that work on it mean the same files.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import NamedTuple

SUFFIX = ".safetensors"
_FALLBACK = "fp16"
"""The variant that "auto" takes of a folder without plain weights: the only one in common use."""
_PIECE = r"(-\d+-of-\d+)?"


class Weights(NamedTuple):
    """A choice among the names of one folder."""

    variant: str | None
    """As diffusers and transformers name it; None: the plain files."""
    names: list[str]


def weights_among(names: Iterable[str], wanted: str = "none") -> Weights:
    """The names of files of weights that are used.

    Args:
        names: of files in one folder; those that are no safetensors are passed over.
        wanted: "none": plain files alone. "auto": those, or fp16 where there are none. Any other: that
            variant, or the plain files of a folder without it.
    """
    found = sorted(name for name in names if name.endswith(SUFFIX))
    plain = Weights(None, [name for name in found if PurePosixPath(name).suffixes == [SUFFIX]])
    if wanted == "none" or (wanted == "auto" and plain.names):
        return plain
    variant = _FALLBACK if wanted == "auto" else wanted
    pattern = re.compile(rf".+{_PIECE}\.{re.escape(variant)}{_PIECE}\{SUFFIX}")
    special = [name for name in found if pattern.fullmatch(name)]
    return Weights(variant, special) if special else plain
