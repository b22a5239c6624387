"""Models in a single file, local or in a bucket: unpacked into a folder once per node.

The caller unpacks it, as this package does not know models. Here it is fetched and cached like the copies of
:mod:`cluster.weights.node_copy`: by the first process while others wait, completely or not at all, with a
digest of every file.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import obstore

from cluster.storage.store import StoreError, open_store
from cluster.weights.bucket import Listed, copy_objects
from cluster.weights.cache import DIGESTS, cache_errors, clear_leftovers
from originality.contract.config import SettingsError
from originality.contract.download import FetchError, check_disk_space, is_disk_full
from originality.contract.file_lock import locked
from originality.contract.node_cache import cache_path, sha256

_PICKLED = (".ckpt", ".pt", ".pth", ".bin")


def is_single_file(uri: str) -> bool:
    """Whether a model is given as one file of weights, and not as a folder."""
    return uri.lower().endswith((".safetensors", *_PICKLED)) and not Path(uri).is_dir()


def unpacked_copy(uri: str, unpack: Callable[[Path, Path], object], variant: str = "") -> Path:
    """The folder on this machine into which a single file was unpacked.

    Args:
        unpack: ``unpack(file, into)`` writes the folder ``into``, or raises SettingsError.
        variant: anything else that the folder depends on.

    Raises:
        SettingsError: the file cannot be unpacked.
        StoreError: the bucket cannot be read.
        FetchError: this machine cannot fetch or write it.
    """
    if uri.lower().endswith(_PICKLED):
        raise SettingsError(
            f"model {uri!r} is a pickle, which may run code and is not loaded; convert it to .safetensors"
        )
    with cache_errors(cache_path()):
        return _of_bucket(uri, unpack, variant) if "://" in uri else _of_file(Path(uri), unpack, variant)


def _of_file(file: Path, unpack: Callable[[Path, Path], object], variant: str) -> Path:
    if not file.is_file():
        raise SettingsError(f"model file {str(file)!r} does not exist; give another path")
    return _cached([sha256(file), variant], file.stat().st_size, lambda part: unpack(file, part / "model"))


def _of_bucket(uri: str, unpack: Callable[[Path, Path], object], variant: str) -> Path:
    prefix, _, name = uri.rpartition("/")
    store = open_store(prefix)
    meta = store.request(name, lambda: obstore.head(store.objects, name))
    found = Listed(name, meta["size"], meta["e_tag"] or str(meta["last_modified"]))

    def make(part: Path) -> None:
        copy_objects(store, [found], part / "file")
        try:
            unpack(part / "file" / name, part / "model")
        except SettingsError as error:  # it names the copy, which the user does not know
            raise SettingsError(str(error).replace(str(part / "file" / name), uri)) from error

    return _cached([store.url, *found, variant], 2 * found.size, make)


def _cached(identity: list[object], size: int, make: Callable[[Path], object]) -> Path:
    """The cached folder for an identity: an existing complete one, or a new one.

    Args:
        size: bytes of disk that ``make`` needs.
        make: ``make(part)`` writes the folder ``part / "model"``.
    """
    folder = cache_path() / hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:16]
    if _is_complete(folder):
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    clear_leftovers(folder.parent, but=folder)
    part = folder.with_suffix(".part")
    with locked(folder.with_suffix(".lock"), "a model of one file"):
        if _is_complete(folder):
            return folder
        model = part / "model"
        shutil.rmtree(model, ignore_errors=True)
        part.mkdir(exist_ok=True)
        try:
            check_disk_space(part, size, "the model")
            make(part)
            files = [file for file in model.rglob("*") if file.is_file()]
            digests = {file.relative_to(model).as_posix(): sha256(file) for file in files}
            (model / DIGESTS).write_text(json.dumps(digests, indent=2))
            with suppress(FileNotFoundError):
                shutil.rmtree(folder)
            model.rename(folder)
        except (StoreError, FetchError) as error:
            if is_disk_full(error):
                shutil.rmtree(part, ignore_errors=True)
            raise  # the part that was fetched stays, to be resumed
        except BaseException:
            shutil.rmtree(part, ignore_errors=True)
            raise
        shutil.rmtree(part, ignore_errors=True)
    return folder


def _is_complete(folder: Path) -> bool:
    """Whether a folder has all files, undamaged by their digests."""
    try:
        digests = json.loads((folder / DIGESTS).read_text())
        return all(
            (folder / name).is_file() and sha256(folder / name) == digest for name, digest in digests.items()
        )
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return False
