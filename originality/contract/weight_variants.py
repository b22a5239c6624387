"""Selects the weight files of a folder: the plain ones, or a variant ("model.fp16.safetensors").

The rule is the same for a folder on disk, a listing of a bucket and a listing of the hub, so that the machine
that plans a run and the workers select the same files.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import NamedTuple

SUFFIX = ".safetensors"
_FALLBACK = "fp16"
"""The variant that "auto" selects in a folder without plain weights: the only one in common use."""
_PIECE = r"(-\d+-of-\d+)?"


class Weights(NamedTuple):
    """Weight files selected in one folder."""

    variant: str | None
    """Name of the variant in diffusers and transformers; None: the plain files."""
    names: list[str]


def weights_among(names: Iterable[str], wanted: str = "none") -> Weights:
    """Select among the files of one folder.

    Args:
        names: file names; those that are not safetensors are ignored.
        wanted: "none": plain files only. "auto": plain files, or fp16 if there are none. Any other: that
            variant, or the plain files if the folder lacks it.
    """
    found = sorted(name for name in names if name.endswith(SUFFIX))
    plain = Weights(None, [name for name in found if PurePosixPath(name).suffixes == [SUFFIX]])
    if wanted == "none" or (wanted == "auto" and plain.names):
        return plain
    variant = _FALLBACK if wanted == "auto" else wanted
    pattern = re.compile(rf".+{_PIECE}\.{re.escape(variant)}{_PIECE}\{SUFFIX}")
    special = [name for name in found if pattern.fullmatch(name)]
    return Weights(variant, special) if special else plain
