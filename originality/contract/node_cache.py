"""This machine's cache of weights: its folder, and checksums of files, each computed once.

A checksum is remembered by a file's path, size, times and inode in a small record below the cache, so that a
second start does not read gigabytes again. If a record is damaged or cannot be written, the file is read
again.
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
"""Folder of the records of checksums, below the cache."""
_REMEMBERED_BYTES = 1 << 20
"""Size from which on a checksum is remembered: reading a smaller file is as fast as looking it up."""
_SETTLED_NS = 100_000_000
"""A file written this recently may change again within the same tick of the file system's clock, so that its
times would not show it."""

known_digests: dict[Path, tuple[list[int], str]] = {}
"""By resolved path, what identifies the file's state (size, times, inode) and its sha256, as this process
computed or read it. They serve also if no record can be written."""


def cache_path() -> Path:
    """Folder of the cache: ORIGINALITY_CACHE, or a folder below the user's cache."""
    chosen = os.environ.get("ORIGINALITY_CACHE")
    if chosen:
        return Path(chosen).expanduser().absolute()
    return Path.home() / ".cache" / "originality" / "weights"


def check_cache() -> None:
    """Check that the cache is a folder or can be created.

    Raises:
        SettingsError: ORIGINALITY_CACHE is a file, or a file is among its parent folders.
    """
    place = cache_path()
    there = next((path for path in (place, *place.parents) if path.exists()), place)
    if there.exists() and not there.is_dir():
        raise SettingsError(f"ORIGINALITY_CACHE={place}: {there} is not a folder; give a folder for weights")


def sha256(file: Path) -> str:
    """sha256 of a file's content. A large file is read once, until it is written again."""
    about, began = _about(file), time.time_ns()
    if about[0] < _REMEMBERED_BYTES:
        return computed_digest(file)
    if (known := _recall(file, about)) is not None:
        return known
    digest = computed_digest(file)
    # A checksum is remembered only if the file cannot have changed since: not while it was read, and not
    # within the clock tick of its last write. Otherwise a later change could go unnoticed for ever.
    if _about(file) == about and began - about[1] > _SETTLED_NS:
        _record(file, about, digest)
    return digest


def remember(file: Path, digest: str) -> None:
    """Record a checksum that the file's only writer computed while writing it."""
    about = _about(file)
    if about[0] >= _REMEMBERED_BYTES:
        _record(file, about, digest)


def computed_digest(file: Path) -> str:
    """sha256 of a file's content, in hex digits, always read from the file."""
    with file.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _about(file: Path) -> list[int]:
    """Size, modification time, inode, and change time, which unlike the modification time no program can set
    back."""
    stat = file.stat()
    return [stat.st_size, stat.st_mtime_ns, stat.st_ino, stat.st_ctime_ns]


def _place(file: Path) -> Path:
    name = hashlib.sha256(os.fsencode(file.resolve())).hexdigest()[:32]
    return cache_path() / CHECKSUMS / f"{name}.json"


def _sealed(path: str, about: list[int], digest: str) -> str:
    """Checksum of a record, by which a damaged record, or one of a different file, is recognised."""
    return hashlib.sha256(json.dumps([path, about, digest]).encode()).hexdigest()[:16]


def _recall(file: Path, about: list[int]) -> str | None:
    resolved = file.resolve()
    if resolved in known_digests and known_digests[resolved][0] == about:
        return known_digests[resolved][1]
    try:
        record = json.loads(_place(file).read_text())
        digest = str(record["sha256"])
        if record["about"] != about or record["seal"] != _sealed(str(resolved), about, digest):
            return None
    except (OSError, ValueError, LookupError, TypeError):
        return None
    known_digests[resolved] = about, digest
    return digest


def _record(file: Path, about: list[int], digest: str) -> None:
    resolved = file.resolve()
    known_digests[resolved] = about, digest
    record = {"path": str(resolved), "about": about, "sha256": digest}
    place = _place(file)
    written = place.with_suffix(f".{uuid.uuid4().hex}")
    with suppress(OSError):  # the cache cannot be written: the file is read again next time
        place.parent.mkdir(parents=True, exist_ok=True)
        written.write_text(json.dumps({**record, "seal": _sealed(str(resolved), about, digest)}))
        written.replace(place)
