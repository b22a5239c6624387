"""The cache of weights on a node: digests, leftovers of killed processes, errors of a full disk."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cluster.storage.store import StoreError
from originality.contract.download import disk_errors_explained
from originality.contract.file_lock import locked_if_free

DIGESTS = "digests.json"
"""File in every copy from a bucket, and in a prepared prefix: the sha256 of each file, by path."""


@contextmanager
def cache_errors(folder: Path) -> Iterator[None]:
    """Like disk_errors_explained, for code that also makes requests to a store, whose errors pass
    unchanged."""
    try:
        yield
    except StoreError:
        raise
    except OSError as error:
        with disk_errors_explained(folder):
            raise error


def clear_leftovers(cache: Path, but: Path | None = None) -> None:
    """Remove the incomplete copies that killed processes left. ``but``: the model whose copy is resumed."""
    for leftover in [*cache.glob("*.part"), *cache.glob("*.old")]:
        if but is not None and leftover == but.with_suffix(".part"):
            continue
        with locked_if_free(leftover.with_suffix(".lock")) as free:
            if free:  # no process is working on it
                shutil.rmtree(leftover, ignore_errors=True)
