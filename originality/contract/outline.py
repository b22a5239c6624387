"""A folder of a network without its weights: configuration and words are there, of the weights only their
sizes and checksums. Enough to check settings and to know the digest on a machine that loads nothing."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from originality.contract.node_cache import sha256

FILE = "outline.json"
"""In such a folder: size and sha256 of each file of weights, by its path."""


class Absent(NamedTuple):
    size: int
    """Bytes."""
    sha256: str


def write(folder: Path, weights: Mapping[str, Absent]) -> None:
    part = folder / f"{FILE}.{os.getpid()}"
    part.write_text(json.dumps(weights, indent=1, sort_keys=True))
    part.replace(folder / FILE)


def absent(folder: Path) -> dict[str, Absent]:
    """The weights that are known and not there, by path; none in a usual folder."""
    try:
        known = json.loads((folder / FILE).read_text())
    except (FileNotFoundError, NotADirectoryError):
        return {}
    return {path: Absent(*about) for path, about in known.items() if not (folder / path).is_file()}


def names(folder: Path, part: str = "") -> list[str]:
    """Names of the files directly in a part of a folder, absent weights among them, in order."""
    place = folder / part
    # links to files that are gone count, so that what is wrong with them is told
    here = [file.name for file in place.iterdir() if not file.is_dir()] if place.is_dir() else []
    paths = (path.rpartition("/") for path in absent(folder))
    return sorted({*here, *(name for parent, _, name in paths if parent == part)})


def size_of(folder: Path, path: str) -> int:
    """Bytes of a file, there or absent."""
    gone = absent(folder).get(path)
    return gone.size if gone else (folder / path).stat().st_size


def digest_of(folder: Path, path: str) -> str:
    """sha256 of a file, there or absent."""
    gone = absent(folder).get(path)
    return gone.sha256 if gone else sha256(folder / path)
