"""Models that come as one file, local or in a bucket: unpacked into a folder once a node.

Who knows the model unpacks it; here it is fetched, and kept as :mod:`cluster.weights` keeps its copies: by
the first process while others wait, whole or not at all, with a digest of every file.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import obstore

from cluster import weights
from cluster.store import StoreError, open_store
from cluster.weights import DIGESTS
from originality.settings import SettingsError

_PICKLED = (".ckpt", ".pt", ".pth", ".bin")


def is_single_file(uri: str) -> bool:
    """Whether a model is named by one file of weights, and not by its folder."""
    return uri.lower().endswith((".safetensors", *_PICKLED)) and not Path(uri).is_dir()


def unpacked_copy(uri: str, unpack: Callable[[Path, Path], object], variant: str = "") -> Path:
    """The folder on this machine that a single file became.

    Args:
        unpack: ``unpack(file, into)`` makes the folder ``into`` of the file, or raises SettingsError.
        variant: whatever else the folder depends on.

    Raises:
        SettingsError: the file is none that can be unpacked.
        StoreError: bucket or disk cannot be used.
    """
    if uri.lower().endswith(_PICKLED):
        raise SettingsError(
            f"model {uri!r} is a pickle, which may run code and is not loaded; convert it to .safetensors"
        )
    try:
        made = _of_bucket(uri, unpack, variant) if "://" in uri else _of_file(Path(uri), unpack, variant)
    except (SettingsError, StoreError):
        raise
    except OSError as error:
        raise StoreError(
            f"weights cannot be kept in {weights.cache_path()} ({error.strerror or error}); set "
            "ORIGINALITY_CACHE to a folder with room for them"
        ) from error
    weights._checked.add(made)
    return made


def _of_file(file: Path, unpack: Callable[[Path, Path], object], variant: str) -> Path:
    if not file.is_file():
        raise SettingsError(f"model file {str(file)!r} does not exist; give another path")
    return _kept([_sha256(file), variant], file.stat().st_size, lambda part: unpack(file, part / "model"))


def _of_bucket(uri: str, unpack: Callable[[Path, Path], object], variant: str) -> Path:
    prefix, _, name = uri.rpartition("/")
    store = open_store(prefix)
    meta = store.ask(name, lambda: obstore.head(store.objects, name))
    found = weights._Listed(name, meta["size"], meta["e_tag"] or str(meta["last_modified"]))

    def make(part: Path) -> None:
        sys.stderr.write(f"copying {found.size / 1e6:.0f} MB of weights from {uri} to {part.parent}\n")
        (part / "file").mkdir()
        weights._copy(store, [found], part / "file")
        try:
            unpack(part / "file" / name, part / "model")
        except SettingsError as error:  # it names the copy, which nobody gave
            raise SettingsError(str(error).replace(str(part / "file" / name), uri)) from error

    return _kept([store.url, *found, variant], 2 * found.size, make)


def _kept(identity: list[object], size: int, make: Callable[[Path], object]) -> Path:
    """The folder of this identity: one that is whole, or what ``make(part)`` leaves in part/model.

    ``size``: bytes on the disk that making takes.
    """
    key = hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:16]
    folder = weights.cache_path() / key
    if _is_whole(folder):
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    weights._clear_leftovers(folder.parent)
    part = folder.with_suffix(".part")
    with weights._alone(folder.with_suffix(".lock")):
        if _is_whole(folder):
            return folder
        free = shutil.disk_usage(folder.parent).free
        if size > free:
            raise StoreError(
                f"the model takes {size / 1e9:.1f} GB, and {folder.parent} has {free / 1e9:.1f} GB left; "
                "make room, or set ORIGINALITY_CACHE to a folder on a larger disk"
            )
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir()
        try:
            make(part)
            model = part / "model"
            files = [file for file in model.rglob("*") if file.is_file()]
            digests = {file.relative_to(model).as_posix(): _sha256(file) for file in files}
            (model / DIGESTS).write_text(json.dumps(digests, indent=2))
            with suppress(FileNotFoundError):
                shutil.rmtree(folder)
            model.rename(folder)
        finally:
            shutil.rmtree(part, ignore_errors=True)
    return folder


def _is_whole(folder: Path) -> bool:
    """Digests are compared when this process has not yet done so, and else that the files are there."""
    try:
        digests = json.loads((folder / DIGESTS).read_text())
        return all(
            (folder / name).is_file() and (folder in weights._checked or _sha256(folder / name) == digest)
            for name, digest in digests.items()
        )
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return False


def _sha256(file: Path) -> str:
    with file.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
