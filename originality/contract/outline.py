"""Outlines: folders of networks without their weights.

An outline contains configuration and vocabulary, and the sizes and checksums of the weight files in place of
the files. That is enough to check settings and to compute the digest on a machine that loads no model.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from originality.contract.node_cache import sha256

FILE = "outline.json"
"""File of an outline: size and sha256 of each weight file, by path."""


class Absent(NamedTuple):
    """A weight file that an outline lists."""

    size: int
    """Bytes."""
    sha256: str


def write(folder: Path, weights: Mapping[str, Absent]) -> None:
    """Make a folder an outline."""
    part = folder / f"{FILE}.{os.getpid()}"
    part.write_text(json.dumps(weights, indent=1, sort_keys=True))
    part.replace(folder / FILE)


def absent(folder: Path) -> dict[str, Absent]:
    """Weight files that are listed but missing, by path; empty for an ordinary folder."""
    try:
        known = json.loads((folder / FILE).read_text())
    except (FileNotFoundError, NotADirectoryError):
        return {}
    return {path: Absent(*about) for path, about in known.items() if not (folder / path).is_file()}


def names(folder: Path, part: str = "") -> list[str]:
    """Sorted names of the files directly in a part of a folder, including absent weights."""
    place = folder / part
    # Broken links are included, so that loading them fails with a message instead of passing over them.
    here = [file.name for file in place.iterdir() if not file.is_dir()] if place.is_dir() else []
    paths = (path.rpartition("/") for path in absent(folder))
    return sorted({*here, *(name for parent, _, name in paths if parent == part)})


def size_of(folder: Path, path: str) -> int:
    """Size in bytes of a file, present or absent."""
    gone = absent(folder).get(path)
    return gone.size if gone else (folder / path).stat().st_size


def digest_of(folder: Path, path: str) -> str:
    """sha256 of a file, present or absent."""
    gone = absent(folder).get(path)
    return gone.sha256 if gone else sha256(folder / path)
