"""Fetches weights from a prefix of a bucket, each file once per node; an interrupted copy is resumed."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import shutil
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import obstore

from cluster.storage.damage import damage_errors
from cluster.storage.store import NotFound, Store, StoreError
from cluster.weights.cache import DIGESTS, cache_errors, clear_leftovers
from cluster.weights.wanted import SMALL, Wanted
from originality.contract import outline
from originality.contract.download import FetchError, check_disk_space, is_disk_full
from originality.contract.file_lock import locked
from originality.contract.node_cache import cache_path, remember, sha256
from originality.contract.transfer_progress import Progress

_log = logging.getLogger(__name__)

RANGE_BYTES = 32 * 2**20
"""Bytes of one request: even the one big file of a model comes over several connections."""
CONNECTIONS = 8
"""Requests at once."""
_JOURNAL = "pieces"
"""File in an incomplete copy that lists the pieces which are on the disk."""


class Listed(NamedTuple):
    """An object as the bucket lists it."""

    path: str
    size: int
    tag: str
    """Changes with the bytes: the store's entity tag, or the time of writing."""


def from_bucket(store: Store, wanted: Wanted, outlined: bool) -> Path:
    """The folder of the copy on this machine; see :func:`cluster.weights.node_copy.local_copy`."""
    # The name of a copy follows from the listing with its entity tags. A prefix that changed gives another
    # name, so that no process ever reads a mixture of two versions.
    listed = _list(store, wanted)
    complete = _folder_of(store, listed)
    if _is_complete(complete, listed):
        return complete
    absent = _checksums_of_big_files(store, listed) if outlined else {}
    folder = _folder_of(store, listed, sorted(absent.items())) if absent else complete
    here = [found for found in listed if found.path not in absent]
    with cache_errors(folder.parent):
        folder.parent.mkdir(parents=True, exist_ok=True)
        clear_leftovers(folder.parent, but=folder)
        with locked(folder.with_suffix(".lock"), store.url):
            if not _is_complete(folder, here):
                _download(store, wanted, listed, folder, absent)
    return folder


def _folder_of(store: Store, listed: Sequence[Listed], *more: object) -> Path:
    return cache_path() / hashlib.sha256(json.dumps([store.url, listed, *more]).encode()).hexdigest()[:16]


def _list(store: Store, wanted: Wanted) -> list[Listed]:
    """The wanted objects under the prefix. Store refuses names with "..", so no file lands outside the
    folder."""

    def ask() -> list[Listed]:
        return sorted(
            Listed(meta["path"], meta["size"], meta["e_tag"] or str(meta["last_modified"]))
            for page in obstore.list(store.objects)
            for meta in page
        )

    found = store.request("", ask)
    chosen = wanted.select(one.path for one in found)
    if not chosen:
        raise NotFound(f"{store.url} contains no model; give the prefix of its folder")
    return [one for one in found if one.path in chosen]


def _is_complete(folder: Path, listed: Sequence[Listed]) -> bool:
    """Whether a copy has all files, undamaged by their digests."""
    try:
        digests = json.loads((folder / DIGESTS).read_text())
        return all(
            (folder / found.path).stat().st_size == found.size
            and sha256(folder / found.path) == digests[found.path]
            for found in listed
        )
    except (OSError, ValueError, LookupError, TypeError):
        return False


def _checksums_of_big_files(store: Store, listed: Sequence[Listed]) -> dict[str, outline.Absent]:
    """Size and checksum of each big file, from the prefix; empty, with a line on stderr, if a checksum is
    missing."""
    digests = _digests_in(store)
    big = [found for found in listed if Path(found.path).suffix not in SMALL]
    unknown = [found.path for found in big if not re.fullmatch("[0-9a-f]{64}", digests.get(found.path, ""))]
    if unknown:
        _log.info(
            "%s has no checksum of %s (`originality models fetch` writes %s): its weights are fetched to "
            "this machine too, to compute it",
            store.url,
            unknown[0],
            DIGESTS,
        )
        return {}
    return {found.path: outline.Absent(found.size, digests[found.path]) for found in big}


def _digests_in(store: Store) -> dict[str, str]:
    """The digests.json of the prefix; empty if there is none."""
    try:
        with damage_errors(store, DIGESTS):
            return {str(path): str(digest) for path, digest in json.loads(store.read(DIGESTS)).items()}
    except NotFound:
        return {}


class _Changed(StoreError):  # noqa: N818 - names what happened
    """The copied files differ from those in the prefix, or from its digests.json."""


def _download(
    store: Store,
    wanted: Wanted,
    listed: Sequence[Listed],
    folder: Path,
    absent: Mapping[str, outline.Absent],
) -> None:
    """Copy all files that are not ``absent`` to a temporary folder, and rename that to ``folder`` at the end.

    A damaged copy is replaced. An interrupted copy stays in the temporary folder, to be resumed.
    """
    part, old = folder.with_suffix(".part"), folder.with_suffix(".old")
    try:
        digests = copy_objects(store, [found for found in listed if found.path not in absent], part)
        if _list(store, wanted) != listed:
            raise _Changed(f"{store.url} changed while it was copied; start again")
        published = _digests_in(store)
        wrong = [path for path in digests if published.get(path, digests[path]) != digests[path]]
        if wrong:
            raise _Changed(
                f"{store.url}/{wrong[0]} does not match {DIGESTS} beside it; upload the complete folder again"
            )
        (part / DIGESTS).write_text(json.dumps(digests, indent=2))
        if absent:
            outline.write(part, absent)
        with suppress(FileNotFoundError):
            folder.rename(old)
        part.rename(folder)
    except (_Changed, OSError, FetchError) as error:
        if isinstance(error, _Changed) or is_disk_full(error):  # on a full disk, make room for others
            shutil.rmtree(part, ignore_errors=True)
        raise
    finally:
        shutil.rmtree(old, ignore_errors=True)
    for path, digest in digests.items():
        remember(folder / path, digest)


def copy_objects(store: Store, listed: Sequence[Listed], folder: Path) -> dict[str, str]:
    """Copy objects into a folder over several connections at once.

    Pieces that an earlier call copied, by the folder's journal, are not copied again.

    Returns:
        The sha256 of each object, by path.
    """
    journal = _Journal(folder / _JOURNAL)
    # Checked before the list of pieces is made: a listing may claim any size.
    check_disk_space(folder, sum(found.size for found in listed) - len(journal.done) * RANGE_BYTES, store.url)
    for found in listed:
        file = folder / found.path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    pieces = [
        (found, start)
        for found in listed
        for start in range(0, found.size, RANGE_BYTES)
        if (found.path, start) not in journal.done
    ]
    missing = sum(min(RANGE_BYTES, found.size - start) for found, start in pieces)

    def copy_range(piece: tuple[Listed, int]) -> None:
        found, start = piece
        length = min(RANGE_BYTES, found.size - start)
        data = store.request(
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
            os.fdatasync(handle.fileno())  # the journal may name only pieces that are on the disk
        journal.enter(found.path, start)
        progress.add(length)

    with Progress(f"weights from {store.url}", missing) as progress, ThreadPoolExecutor(CONNECTIONS) as pool:
        for _ in pool.map(copy_range, pieces):
            pass
        hashes = pool.map(sha256, [folder / found.path for found in listed])
        digests = dict(zip([found.path for found in listed], hashes, strict=True))
    journal.remove()
    return digests


class _Journal:
    """The pieces of a copy that are on the disk, one per line."""

    def __init__(self, file: Path) -> None:
        self._file, self._lock = file, threading.Lock()
        text = file.read_text() if file.exists() else ""
        text = text[: text.rfind("\n") + 1]  # a truncated last line counts for nothing
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        lines = (line.partition(" ") for line in text.splitlines())
        self.done = {(path, int(start)) for start, _, path in lines}

    def enter(self, path: str, start: int) -> None:
        """Note that a piece is on the disk."""
        with self._lock, self._file.open("a") as handle:
            handle.write(f"{start} {path}\n")

    def remove(self) -> None:
        """Delete the journal, as the copy is complete."""
        self._file.unlink()
