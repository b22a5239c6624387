"""Uploads weights to where other machines find them: a prefix of a bucket, or a folder."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

import obstore

from cluster.storage.damage import damage_errors
from cluster.storage.store import NotFound, Store
from cluster.weights.cache import DIGESTS
from originality.contract.node_cache import sha256
from originality.contract.transfer_progress import Progress

_CHUNK = 8 << 20
"""Bytes sent at a time."""


def put(files: Mapping[str, Path], store: Store) -> None:
    """Copy files to their paths in a store, and add them to its digests.json.

    Identical files that exist already are not sent again, so an interrupted call may be repeated. The digests
    are written last: while a prefix is being filled, its old digests do not match the new files, so that
    nobody mixes the two.

    Raises:
        StoreError: the store cannot be written to.
    """
    digests = {path: sha256(file) for path, file in sorted(files.items())}
    missing = [path for path, digest in digests.items() if _digest(store, path, files[path]) != digest]
    if missing:
        size = sum(files[path].stat().st_size for path in missing)
        with Progress(f"weights to {store.url}", size, doing="sending") as progress:
            for path in missing:
                chunks = partial(_chunks, files[path], progress)
                store.request(
                    path,
                    lambda path=path, chunks=chunks: obstore.put(store.objects, path, chunks()),  # type: ignore[misc]
                    size=files[path].stat().st_size,
                )
    try:
        with damage_errors(store, DIGESTS):
            digests = dict(json.loads(store.read(DIGESTS))) | digests
    except NotFound:
        pass
    store.write(DIGESTS, json.dumps(digests, indent=2, sort_keys=True).encode())


def _chunks(file: Path, progress: Progress) -> Iterator[bytes]:
    with file.open("rb") as handle:
        while chunk := handle.read(_CHUNK):
            yield chunk
            progress.add(len(chunk))


def _digest(store: Store, path: str, file: Path) -> str | None:
    """sha256 of an object that may be a copy of a file; None if it does not exist or has a different size."""

    def ask() -> str:
        total = hashlib.sha256()
        for chunk in obstore.get(store.objects, path):
            total.update(chunk)
        return total.hexdigest()

    try:
        if "://" not in store.url:
            return sha256(Path(store.url) / path)
        size = file.stat().st_size
        return store.request(path, ask, size) if store.size(path) == size else None
    except (NotFound, FileNotFoundError):
        return None
