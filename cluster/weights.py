"""Weights of models and metrics on the machine that needs them, from a prefix of a bucket or from the hub.

Copied once a node and shared by its workers: the first takes a lock and copies while the others wait. A copy
appears whole or not at all, under a name that follows from what the bucket lists, so that a prefix that
changed is another copy. Every process checks the digests of what it uses, once; what is damaged is
fetched anew.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
import re
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import obstore

from cluster.hub_moves import moved
from cluster.store import NotFound, Store, StoreError, open_store, whole
from originality.settings import SettingsError

DIGESTS = "digests.json"
"""In every copy from a bucket, and in a prefix that was prepared: the sha256 of each file, by its path."""

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)
SAFE = (".safetensors", ".json", ".txt", ".model")
"""Suffixes of what is taken of a model: nothing that runs code when it is read, as pickles may."""
_VARIANT = "*.*.safetensors"
"""fp16, non_ema and the like: they are not loaded, so they are not brought."""
_RANGE_BYTES = 32 * 2**20
"""Of one request: the one big file of a model, too, comes over several connections."""
_CONNECTIONS = 8

_checked: set[Path] = set()
"""Copies of which this process has compared every digest."""


class _Wanted(NamedTuple):
    """Which files are brought."""

    parts: Sequence[str]
    suffixes: Sequence[str]

    def holds(self, path: str) -> bool:
        name = Path(path)
        variant = name.suffix == ".safetensors" and len(name.suffixes) > 1
        return path.split("/")[0] in self.parts and name.suffix in self.suffixes and not variant


def local_copy(
    uri: str,
    parts: Sequence[str],
    *,
    revision: str | None = None,
    suffixes: Sequence[str] = SAFE,
    setting: str = "model",
) -> Path | None:
    """The folder on this machine where the weights of a bucket's prefix or of the hub are; they are
    brought there if they are not. None for all other names, as there is nothing to bring: a folder of this
    machine, or a model that ships.

    Args:
        parts: names of the files and folders that are wanted, at the top of the model.
        revision: the commit of a hub's model.
        suffixes: of the files that are taken. Whoever adds pickles to them must read those as tensors only.
        setting: the part of the settings that names it, for messages.

    Raises:
        SettingsError: a hub's model without its commit or that is not to be had, or a commit of anything
            else.
        StoreError: bucket, hub or disk cannot be used, the prefix holds no model, or its files are not what
            its digests.json says.
    """
    in_hub = not Path(uri).exists() and _HUB_ID.fullmatch(uri) is not None
    if revision and not in_hub:
        raise SettingsError(
            f"{setting}.revision is for models of the hub, and {uri!r} is a folder or prefix; "
            f"use --set {setting}.revision=null"
        )
    if in_hub and not revision:
        if gone := moved(uri, setting):
            raise SettingsError(gone)
        raise SettingsError(
            f"{setting} {uri!r} is no folder here; give a folder of weights, or, for the hub's model of "
            f"that name, its commit: --set {setting}.revision=(40 hex digits)"
        )
    try:
        if in_hub:
            return _from_hub(uri, str(revision), _Wanted(parts, suffixes), setting)
        if "://" in uri:
            return _from_bucket(open_store(uri), _Wanted(parts, suffixes))
    except StoreError:
        raise
    except OSError as error:
        raise StoreError(
            f"weights cannot be kept in {cache_path()} ({error.strerror or error}); set ORIGINALITY_CACHE "
            "to a folder with room for them"
        ) from error
    return None


def cache_path() -> Path:
    chosen = os.environ.get("ORIGINALITY_CACHE")
    return Path(chosen).absolute() if chosen else Path.home() / ".cache" / "originality" / "weights"


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """Waits for its turn among this node's processes. The system ends a turn with its process, however
    that dies."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("a") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def sha256(file: Path) -> str:
    with file.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


# From a bucket


class _Listed(NamedTuple):
    path: str
    size: int
    tag: str
    """Another one for other bytes: the store's entity tag, or the time it was written."""


def _from_bucket(store: Store, wanted: _Wanted) -> Path:
    listed = _list(store, wanted)
    key = hashlib.sha256(json.dumps([store.url, listed]).encode()).hexdigest()[:16]
    folder = cache_path() / key
    if not _is_whole(folder, listed):
        folder.parent.mkdir(parents=True, exist_ok=True)
        _clear_leftovers(folder.parent)
        with _alone(folder.with_suffix(".lock")):
            if not _is_whole(folder, listed):
                _download(store, wanted, listed, folder)
    return folder


def _list(store: Store, wanted: _Wanted) -> list[_Listed]:
    """What is wanted under the prefix. The store refuses names that lead out of a folder ("..")."""

    def ask() -> list[_Listed]:
        return sorted(
            _Listed(meta["path"], meta["size"], meta["e_tag"] or str(meta["last_modified"]))
            for page in obstore.list(store.objects)
            for meta in page
            if wanted.holds(meta["path"])
        )

    listed = store.ask("", ask)
    if not listed:
        raise NotFound(f"{store.url} holds no model; give the prefix under which its folder lies")
    return listed


def _is_whole(folder: Path, listed: Sequence[_Listed]) -> bool:
    """Sizes are compared always, digests when this process has not yet done so."""
    try:
        digests = json.loads((folder / DIGESTS).read_text())
        for found in listed:
            file = folder / found.path
            if file.stat().st_size != found.size:
                return False
            if folder not in _checked and sha256(file) != digests[found.path]:
                return False
    except (OSError, ValueError, LookupError, TypeError):
        return False
    _checked.add(folder)
    return True


def _download(store: Store, wanted: _Wanted, listed: Sequence[_Listed], folder: Path) -> None:
    """Copies into a folder beside, which at the end takes the place of a damaged one, or of none."""
    part, old = folder.with_suffix(".part"), folder.with_suffix(".old")
    shutil.rmtree(part, ignore_errors=True)
    needed, free = sum(found.size for found in listed), shutil.disk_usage(folder.parent).free
    if needed > free:
        raise StoreError(
            f"{store.url} takes {needed / 1e9:.1f} GB, and {folder.parent} has {free / 1e9:.1f} GB left; "
            "make room, or set ORIGINALITY_CACHE to a folder on a larger disk"
        )
    sys.stderr.write(f"copying {needed / 1e6:.0f} MB of weights from {store.url} to {folder.parent}\n")
    try:
        digests = _copy(store, listed, part)
        if _list(store, wanted) != listed:
            raise StoreError(f"{store.url} changed while it was copied; start again")
        _compare(store, digests)
        (part / DIGESTS).write_text(json.dumps(digests, indent=2))
        with suppress(FileNotFoundError):
            folder.rename(old)
        part.rename(folder)
        _checked.add(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def _compare(store: Store, digests: Mapping[str, str]) -> None:
    """Holds a copy to the digests that lie in the bucket, where somebody put them beside the files."""
    try:
        with whole(store, DIGESTS):
            said = dict(json.loads(store.read(DIGESTS)))
    except NotFound:
        return
    wrong = [path for path in digests if path in said and said[path] != digests[path]]
    if wrong:
        raise StoreError(
            f"{store.url}/{wrong[0]} is not what {DIGESTS} beside it says; put the whole folder there again"
        )


def _copy(store: Store, listed: Sequence[_Listed], folder: Path) -> dict[str, str]:
    """Copies the objects over several connections at once; the sha256 of each, by its path."""
    for found in listed:
        file = folder / found.path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()

    def copy_range(piece: tuple[_Listed, int]) -> None:
        found, start = piece
        length = min(_RANGE_BYTES, found.size - start)
        data = store.ask(
            found.path, lambda: obstore.get_range(store.objects, found.path, start=start, length=length)
        )
        if len(data) != length:
            raise StoreError(f"{store.url}/{found.path} is shorter than it was listed; start again")
        with (folder / found.path).open("r+b") as handle:
            handle.seek(start)
            handle.write(memoryview(data))

    pieces = [(found, start) for found in listed for start in range(0, found.size, _RANGE_BYTES)]
    with ThreadPoolExecutor(_CONNECTIONS) as pool:
        for _ in pool.map(copy_range, pieces):
            pass
        hashes = pool.map(sha256, [folder / found.path for found in listed])
        return dict(zip([found.path for found in listed], hashes, strict=True))


def _clear_leftovers(cache: Path) -> None:
    """Removes what killed processes left half done, of any model."""
    for leftover in [*cache.glob("*.part"), *cache.glob("*.old")]:
        with leftover.with_suffix(".lock").open("a") as handle, suppress(BlockingIOError):
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)  # refused while somebody works on it
            shutil.rmtree(leftover, ignore_errors=True)


# From the hub


def _from_hub(repository: str, revision: str, wanted: _Wanted, setting: str) -> Path:
    """Where the hub's own library keeps the commit. It downloads under locks of its own; the digests, which
    it names its files by, are compared here."""
    folder = _snapshot(repository, revision, wanted, setting)
    damaged = [] if folder in _checked else _damaged(folder, wanted)
    if damaged:
        with _alone(cache_path() / f"{revision}.lock"):
            for file in _damaged(folder, wanted):
                file.resolve().unlink(missing_ok=True)
                file.unlink(missing_ok=True)
            _snapshot(repository, revision, wanted, setting)
            if not all(file.exists() for file in damaged) or _damaged(folder, wanted):
                names = ", ".join(str(file.relative_to(folder)) for file in damaged)
                raise StoreError(
                    f"the copy of {repository} in {folder} was damaged ({names}) and cannot be fetched anew; "
                    "go online, remove that folder and start again"
                )
    _checked.add(folder)
    return folder


def _snapshot(repository: str, revision: str, wanted: _Wanted, setting: str) -> Path:
    from huggingface_hub import constants, errors, snapshot_download  # heavy, and seldom needed

    below = (f"{part}/*{suffix}" for part in wanted.parts for suffix in wanted.suffixes)
    try:
        with _no_warnings():
            found = snapshot_download(
                repository,
                revision=revision,
                allow_patterns=[*wanted.parts, *below],
                ignore_patterns=[_VARIANT],
            )
    except errors.GatedRepoError as error:
        raise SettingsError(
            f"the hub shows {repository} only to who accepted its licence: do so at "
            f"{constants.ENDPOINT}/{repository}, then set HF_TOKEN"
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise SettingsError(
            moved(repository, setting)
            or f"the hub has no model {repository} (or a private one: set HF_TOKEN), and there is no such "
            "folder"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise SettingsError(
            f"the hub's model {repository} has no commit {revision}; set its revision to one"
        ) from error
    except errors.LocalEntryNotFoundError as error:
        raise StoreError(
            f"{repository} at {revision} is not whole in {constants.HF_HUB_CACHE}, and the hub is out of "
            "reach or HF_HUB_OFFLINE is set; go online once, or give a folder of weights"
            + (f" ({gone})" if (gone := moved(repository, setting)) else "")
        ) from error
    except Exception as error:  # of the library's network stack, whichever it is
        status = getattr(getattr(error, "response", None), "status_code", None)
        if status in (401, 404) and (gone := moved(repository, setting)):
            raise SettingsError(gone) from error
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise StoreError(f"{repository} cannot be fetched from the hub: {reason}") from error
    return Path(found)


@contextmanager
def _no_warnings() -> Iterator[None]:
    """The hub's library tells of each of its retries; what comes of them is said here."""
    logger = logging.getLogger("huggingface_hub")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _damaged(folder: Path, wanted: _Wanted) -> list[Path]:
    """The files of a snapshot that are not what their digest says. A file is a link to one that is named by
    its sha256, or by git's sha1 of a blob; on systems without links nothing is known of it."""
    links = [f for f in folder.rglob("*") if f.is_symlink()]
    files = (f for f in links if wanted.holds(f.relative_to(folder).as_posix()))
    return [f for f in files if not _is_named_by_digest(f)]


def _is_named_by_digest(link: Path) -> bool:
    name = link.readlink().name
    try:
        if re.fullmatch("[0-9a-f]{64}", name):
            return sha256(link) == name
        if re.fullmatch("[0-9a-f]{40}", name):
            data = link.read_bytes()
            blob = b"blob %d\0" % len(data) + data
            return hashlib.sha1(blob, usedforsecurity=False).hexdigest() == name
    except OSError:
        return False
    return True
