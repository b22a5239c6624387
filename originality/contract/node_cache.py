"""This machine's cache of weights: where it lies, taking turns at it, and checksums, each computed once.

A checksum is remembered by a file's path, size, times and inode, in a small record of its own below the
cache, so that a second start does not read gigabytes again. A record that is damaged, or that cannot be
written, only means that the file is read again.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
import uuid
from contextlib import suppress
from pathlib import Path

from originality.contract.config import SettingsError

CHECKSUMS = "checksums"
"""Folder of the records, below the cache."""
_REMEMBERED_BYTES = 1 << 20
"""Smaller files are read faster than they are looked up."""
_SETTLED_NS = 100_000_000
"""A file written this recently may change again within one tick of the file system's clock, unseen."""

_known: dict[Path, tuple[list[int], str]] = {}
"""What this process has computed or read: also where no record can be written."""


def cache_path() -> Path:
    """ORIGINALITY_CACHE, or a folder below the user's own cache."""
    chosen = os.environ.get("ORIGINALITY_CACHE")
    if chosen:
        return Path(chosen).expanduser().absolute()
    return Path.home() / ".cache" / "originality" / "weights"


def check_cache() -> None:
    """Checks that the cache is a folder, or can be made one.

    Raises:
        SettingsError: ORIGINALITY_CACHE is a file, or leads through one.
    """
    place = cache_path()
    there = next((path for path in (place, *place.parents) if path.exists()), place)
    if there.exists() and not there.is_dir():
        raise SettingsError(f"ORIGINALITY_CACHE={place}: {there} is not a folder; give a folder for weights")


def sha256(file: Path) -> str:
    """Of a file's contents; a big file is read once as long as it is not written to."""
    about, began = _about(file), time.time_ns()
    if about[0] < _REMEMBERED_BYTES:
        return _computed(file)
    if (known := _recall(file, about)) is not None:
        return known
    digest = _computed(file)
    if _about(file) == about and began - about[1] > _SETTLED_NS:
        _record(file, about, digest)
    return digest


def remember(file: Path, digest: str) -> None:
    """Enters a checksum that was computed while the file was written, by who alone writes it."""
    about = _about(file)
    if about[0] >= _REMEMBERED_BYTES:
        _record(file, about, digest)


def _computed(file: Path) -> str:
    with file.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _about(file: Path) -> list[int]:
    """Size, time of writing, inode, and time of any change (which ``touch`` cannot set back)."""
    stat = file.stat()
    return [stat.st_size, stat.st_mtime_ns, stat.st_ino, stat.st_ctime_ns]


def _place(file: Path) -> Path:
    name = hashlib.sha256(os.fsencode(file.resolve())).hexdigest()[:32]
    return cache_path() / CHECKSUMS / f"{name}.json"


def _sealed(path: str, about: list[int], digest: str) -> str:
    """What makes a record that was damaged, or belongs to another file, recognisable."""
    return hashlib.sha256(json.dumps([path, about, digest]).encode()).hexdigest()[:16]


def _recall(file: Path, about: list[int]) -> str | None:
    resolved = file.resolve()
    if resolved in _known and _known[resolved][0] == about:
        return _known[resolved][1]
    try:
        record = json.loads(_place(file).read_text())
        digest = str(record["sha256"])
        if record["about"] != about or record["seal"] != _sealed(str(resolved), about, digest):
            return None
    except (OSError, ValueError, LookupError, TypeError):
        return None
    _known[resolved] = about, digest
    return digest


def _record(file: Path, about: list[int], digest: str) -> None:
    resolved = file.resolve()
    _known[resolved] = about, digest
    record = {"path": str(resolved), "about": about, "sha256": digest}
    place = _place(file)
    written = place.with_suffix(f".{uuid.uuid4().hex}")
    with suppress(OSError):  # a cache that cannot be written: the file is read again next time
        place.parent.mkdir(parents=True, exist_ok=True)
        written.write_text(json.dumps({**record, "seal": _sealed(str(resolved), about, digest)}))
        written.replace(place)
