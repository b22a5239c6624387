"""Weights from a prefix of a bucket, each file once a node, resumed where it broke off."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import sys
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import obstore

from cluster.storage.store import NotFound, Store, StoreError, whole
from cluster.weights.cache import DIGESTS, clear_leftovers, keeping
from cluster.weights.wanted import SMALL, Wanted
from originality.contract import outline
from originality.contract.download import FetchError, check_disk_space, is_disk_full
from originality.contract.file_lock import locked
from originality.contract.node_cache import cache_path, remember, sha256
from originality.contract.transfer_progress import Progress

_RANGE_BYTES = 32 * 2**20
"""Of one request: the one big file of a model, too, comes over several connections."""
_CONNECTIONS = 8
_JOURNAL = "pieces"
"""In a copy that is not complete: which pieces are on the disk."""


class Listed(NamedTuple):
    path: str
    size: int
    tag: str
    """Another one for other bytes: the store's entity tag, or the time it was written."""


def from_bucket(store: Store, wanted: Wanted, outlined: bool) -> Path:
    listed = _list(store, wanted)
    complete = _folder_of(store, listed)
    if _is_whole(complete, listed):
        return complete
    absent = _known(store, listed) if outlined else {}
    folder = _folder_of(store, listed, sorted(absent.items())) if absent else complete
    here = [found for found in listed if found.path not in absent]
    with keeping(folder.parent):
        folder.parent.mkdir(parents=True, exist_ok=True)
        clear_leftovers(folder.parent, but=folder)
        with locked(folder.with_suffix(".lock"), store.url):
            if not _is_whole(folder, here):
                _download(store, wanted, listed, folder, absent)
    return folder


def _folder_of(store: Store, listed: Sequence[Listed], *more: object) -> Path:
    return cache_path() / hashlib.sha256(json.dumps([store.url, listed, *more]).encode()).hexdigest()[:16]


def _list(store: Store, wanted: Wanted) -> list[Listed]:
    """What is wanted under the prefix. The store refuses names that lead out of a folder ("..")."""

    def ask() -> list[Listed]:
        return sorted(
            Listed(meta["path"], meta["size"], meta["e_tag"] or str(meta["last_modified"]))
            for page in obstore.list(store.objects)
            for meta in page
        )

    found = store.ask("", ask)
    chosen = wanted.among(one.path for one in found)
    if not chosen:
        raise NotFound(f"{store.url} holds no model; give the prefix under which its folder lies")
    return [one for one in found if one.path in chosen]


def _is_whole(folder: Path, listed: Sequence[Listed]) -> bool:
    try:
        digests = json.loads((folder / DIGESTS).read_text())
        return all(
            (folder / found.path).stat().st_size == found.size
            and sha256(folder / found.path) == digests[found.path]
            for found in listed
        )
    except (OSError, ValueError, LookupError, TypeError):
        return False


def _known(store: Store, listed: Sequence[Listed]) -> dict[str, outline.Absent]:
    """The big files by their checksums in the prefix; nothing, and a line on stderr, where it lacks some."""
    digests = _digests_in(store)
    big = [found for found in listed if Path(found.path).suffix not in SMALL]
    unknown = [found.path for found in big if not re.fullmatch("[0-9a-f]{64}", digests.get(found.path, ""))]
    if unknown:
        sys.stderr.write(
            f"{store.url} has no checksum of {unknown[0]} (`originality models fetch` writes {DIGESTS}): its "
            "weights are fetched here too, to compute it\n"
        )
        return {}
    return {found.path: outline.Absent(found.size, digests[found.path]) for found in big}


def _digests_in(store: Store) -> dict[str, str]:
    """What lies in the bucket beside the files, where somebody put it there."""
    try:
        with whole(store, DIGESTS):
            return {str(path): str(digest) for path, digest in json.loads(store.read(DIGESTS)).items()}
    except NotFound:
        return {}


class _Changed(StoreError):  # noqa: N818 - it says what the prefix did
    """What was copied is not what the prefix holds, or not what it says that it holds."""


def _download(
    store: Store,
    wanted: Wanted,
    listed: Sequence[Listed],
    folder: Path,
    absent: Mapping[str, outline.Absent],
) -> None:
    """Copies all but what is absent into a folder beside, which at the end takes the place of a damaged one,
    or of none. When it breaks off, what is copied stays, to resume from."""
    part, old = folder.with_suffix(".part"), folder.with_suffix(".old")
    try:
        digests = copy_objects(store, [found for found in listed if found.path not in absent], part)
        if _list(store, wanted) != listed:
            raise _Changed(f"{store.url} changed while it was copied; start again")
        said = _digests_in(store)
        wrong = [path for path in digests if said.get(path, digests[path]) != digests[path]]
        if wrong:
            raise _Changed(
                f"{store.url}/{wrong[0]} is not what {DIGESTS} beside it says; put the whole folder there "
                "again"
            )
        (part / DIGESTS).write_text(json.dumps(digests, indent=2))
        if absent:
            outline.write(part, absent)
        with suppress(FileNotFoundError):
            folder.rename(old)
        part.rename(folder)
    except (_Changed, OSError, FetchError) as error:
        if isinstance(error, _Changed) or is_disk_full(error):  # on a full disk others need the room
            shutil.rmtree(part, ignore_errors=True)
        raise
    finally:
        shutil.rmtree(old, ignore_errors=True)
    for path, digest in digests.items():
        remember(folder / path, digest)


def copy_objects(store: Store, listed: Sequence[Listed], folder: Path) -> dict[str, str]:
    """Copies objects into a folder over several connections at once; the sha256 of each, by its path. What an
    earlier call brought, as the folder's journal says, is not brought again."""
    journal = _Journal(folder / _JOURNAL)
    # before the pieces are counted: a listing may claim any size
    check_disk_space(
        folder, sum(found.size for found in listed) - len(journal.done) * _RANGE_BYTES, store.url
    )
    for found in listed:
        file = folder / found.path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    pieces = [
        (found, start)
        for found in listed
        for start in range(0, found.size, _RANGE_BYTES)
        if (found.path, start) not in journal.done
    ]
    missing = sum(min(_RANGE_BYTES, found.size - start) for found, start in pieces)

    def copy_range(piece: tuple[Listed, int]) -> None:
        found, start = piece
        length = min(_RANGE_BYTES, found.size - start)
        data = store.ask(
            found.path,
            lambda: obstore.get_range(store.objects, found.path, start=start, length=length),
            size=length,
        )
        if len(data) != length:
            raise StoreError(f"{store.url}/{found.path} is shorter than it was listed; start again")
        with (folder / found.path).open("r+b") as handle:
            handle.seek(start)
            handle.write(memoryview(data))
            handle.flush()
            os.fdatasync(handle.fileno())  # the journal speaks of what is on the disk
        journal.enter(found.path, start)
        progress.add(length)

    with Progress(f"weights from {store.url}", missing) as progress, ThreadPoolExecutor(_CONNECTIONS) as pool:
        for _ in pool.map(copy_range, pieces):
            pass
        hashes = pool.map(sha256, [folder / found.path for found in listed])
        digests = dict(zip([found.path for found in listed], hashes, strict=True))
    journal.remove()
    return digests


class _Journal:
    """Which pieces of a copy are on the disk: a line each."""

    def __init__(self, file: Path) -> None:
        self._file, self._lock = file, threading.Lock()
        text = file.read_text() if file.exists() else ""
        text = text[: text.rfind("\n") + 1]  # a line that was cut off is of no piece
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        lines = (line.partition(" ") for line in text.splitlines())
        self.done = {(path, int(start)) for start, _, path in lines}

    def enter(self, path: str, start: int) -> None:
        with self._lock, self._file.open("a") as handle:
            handle.write(f"{start} {path}\n")

    def remove(self) -> None:
        self._file.unlink()
