"""Weights put where other machines find them: below a prefix of a bucket, or in a folder."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Mapping
from pathlib import Path

import obstore

from cluster.store import NotFound, Store, whole
from cluster.weights import DIGESTS, sha256


def put(files: Mapping[str, Path], store: Store) -> None:
    """Copies files to their paths in a store, and enters them in its digests.json.

    What is there already, to the bit, is not sent again, so that an interrupted call may be repeated. The
    digests come last: of a prefix that is being filled, nobody takes an old file for one of the new.

    Raises:
        StoreError: the store cannot be used.
    """
    digests = {path: sha256(file) for path, file in sorted(files.items())}
    for path, digest in digests.items():
        if _digest(store, path) != digest:
            sys.stderr.write(f"{path}: {files[path].stat().st_size / 1e6:.0f} MB to {store.url}\n")
            store.ask(path, lambda path=path: obstore.put(store.objects, path, files[path]))  # type: ignore[misc]
    try:
        with whole(store, DIGESTS):
            digests = dict(json.loads(store.read(DIGESTS))) | digests
    except NotFound:
        pass
    store.write(DIGESTS, json.dumps(digests, indent=2, sort_keys=True).encode())


def _digest(store: Store, path: str) -> str | None:
    """sha256 of an object; None where there is none."""

    def ask() -> str:
        total = hashlib.sha256()
        for chunk in obstore.get(store.objects, path):
            total.update(chunk)
        return total.hexdigest()

    try:
        return store.ask(path, ask)
    except NotFound:
        return None
