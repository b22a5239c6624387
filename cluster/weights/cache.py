"""What all copies of weights on a node share: digests, leftovers, a full disk."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cluster.storage.store import StoreError
from originality.contract.download import disk_errors_explained
from originality.contract.file_lock import locked_if_free

DIGESTS = "digests.json"
"""In every copy from a bucket, and in a prefix that was prepared: the sha256 of each file, by its path."""


@contextmanager
def keeping(folder: Path) -> Iterator[None]:
    """As disk_errors_explained, around what asks a store too, whose errors are told as they are."""
    try:
        yield
    except StoreError:
        raise
    except OSError as error:
        with disk_errors_explained(folder):
            raise error


def clear_leftovers(cache: Path, but: Path | None = None) -> None:
    """Removes what killed processes left half done, of any other model."""
    for leftover in [*cache.glob("*.part"), *cache.glob("*.old")]:
        if but is not None and leftover == but.with_suffix(".part"):
            continue  # it is resumed
        with locked_if_free(leftover.with_suffix(".lock")) as free:
            if free:  # no process is working on it
                shutil.rmtree(leftover, ignore_errors=True)
