"""The images of a run, read from its collection."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath

import pyarrow as pa

from cluster.inputs.images import Limits, Rejection, check_size
from cluster.inputs.manifest import Manifest
from cluster.inputs.sources import Unreadable, read_image
from cluster.storage.parallel import map_in_order

_log = logging.getLogger(__name__)

ROWS = 500
"""Rows whose images are held at once: some hundred megabytes of photographs."""
_THREADS = 16
"""Reads at once."""


def parts(tables: Iterator[pa.Table]) -> Iterator[pa.Table]:
    """The same rows in tables of at most ROWS."""
    for table in tables:
        for start in range(0, table.num_rows, ROWS):
            yield table.slice(start, ROWS)


def pictures(manifest: Manifest, numbers: Sequence[int]) -> Iterator[bytes | None]:
    """The bytes of some inputs, in their order; None where they cannot be read or are too large.

    Raises:
        StoreError: the store is unavailable or refuses all.
        MachineFault: this machine cannot read.
    """
    return map_in_order(lambda number: _picture(manifest, number), numbers, _THREADS)


def ending_of(manifest: Manifest, number: int) -> str:
    """The extension of an input's name: ".png"; empty if it has none."""
    return PurePosixPath(manifest.uri(number)).suffix.lower()


def _picture(manifest: Manifest, number: int) -> bytes | None:
    def check(size: int) -> None:
        check_size(size, Limits())

    try:
        return read_image(manifest.uri(number), check, manifest.location(number))
    except (Unreadable, Rejection) as problem:
        _log.warning("%s is exported without its image: %s", manifest.path(number), problem)
        return None
