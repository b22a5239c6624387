"""Compacted records in Parquet parts. A part is created once and never changed, only replaced by another.

Its name contains the number of retries that its writer knew of. A row counts unless a later retry queued its
image again, so a part that is written late, by a process that was suspended, brings back no old row.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cluster.run.layout import VERDICTS, verdicts_part_path, verdicts_part_retries
from cluster.run.retries import Retries
from cluster.storage.checksums import checked_parquet, parquet_bytes
from cluster.storage.damage import damage_errors, damaged_object
from cluster.storage.store import Damaged, NotFound, Store

_PAUSE_SECONDS = 0.1
"""Before parts are listed again: a listing may be older than a replacement."""


@dataclass(frozen=True)
class Part:
    """One part, and the images of its rows."""

    path: str
    ids: pa.Array
    """image_id of each row."""

    @property
    def retries(self) -> int:
        """How many retries its writer knew of."""
        return verdicts_part_retries(self.path)


class View(NamedTuple):
    """Which compacted rows count, at one moment."""

    retries: Retries
    parts: list[Part]
    counts: list[np.ndarray]
    """For each part, which of its rows count: those of images that were not queued again since, each image
    once."""
    damaged: list[str]
    """Paths of damaged parts."""

    @property
    def ids(self) -> pa.Array:
        """image_id of each row that counts."""
        counted = [
            part.ids.filter(pa.array(rows)) for part, rows in zip(self.parts, self.counts, strict=True)
        ]
        return pa.concat_arrays(counted) if counted else pa.array([], pa.string())


def read_parts(
    store: Store,
    passed_over: Callable[[Damaged], None] = lambda damaged: None,
    sleep: Callable[[float], None] = time.sleep,
) -> list[Part]:
    """Read all parts, in the order of their names. If one is replaced meanwhile, all are listed again.

    A part that is listed twice and found neither time counts as damaged: some stores list objects that are
    lost, and waiting for those would never end.

    Args:
        store: of the run.
        passed_over: called with each damaged part, which is skipped; its records are still there.
        sleep: waits for so many seconds.
    """
    sought: set[str] = set()
    while True:
        try:
            return list(_parts(store, sought, passed_over))
        except NotFound:  # its replacement was created before it was deleted, so it will be listed
            sleep(_PAUSE_SECONDS)


def _parts(store: Store, sought: set[str], passed_over: Callable[[Damaged], None]) -> Iterator[Part]:
    """``sought``: paths that could not be found before; those that cannot be found now are added."""
    for path in sorted(f.path for f in store.list(VERDICTS) if f.path.endswith(".parquet")):
        try:
            ids = _table(store, path, ["image_id"])["image_id"].combine_chunks()
        except NotFound:
            if path not in sought:
                sought.add(path)
                raise
            passed_over(damaged_object(store, path, "it is listed and cannot be found"))
        except Damaged as damaged:
            passed_over(damaged)
        else:
            yield Part(path, ids)


def _table(store: Store, path: str, columns: Sequence[str] | None = None) -> pa.Table:
    """Read a part's columns, of ``columns`` those that it has.

    Raises:
        NotFound: it was replaced meanwhile.
        Damaged: it is not a valid part, in which each row has an image_id.
    """
    with damage_errors(store, path):
        file = pq.ParquetFile(checked_parquet(store.read(path)))
        ids = file.schema_arrow.field("image_id")
        table = file.read([c for c in columns if c in file.schema_arrow.names] if columns else None)
        if ids.type != pa.string() or ("image_id" in table.column_names and table["image_id"].null_count):
            raise ValueError("rows of no image")
        return table


def table_of(store: Store, part: Part, wanted: np.ndarray, columns: Sequence[str] | None) -> pa.Table:
    """Rows of a part as a table.

    Args:
        store: of the run.
        part: the part.
        wanted: bool, one for each row.
        columns: to read, of those that the part has; None: all.

    Raises:
        NotFound: it was replaced meanwhile.
        Damaged: it is damaged.
    """
    table = _table(store, part.path, columns)
    with damage_errors(store, part.path):
        return table.filter(pa.array(wanted))


def rows_of(
    store: Store, part: Part, wanted: np.ndarray, columns: Sequence[str] | None
) -> Iterator[dict[str, Any]]:
    """Yield rows of a part as plain JSON values.

    Args:
        store: of the run.
        part: the part.
        wanted: bool, one for each row.
        columns: to read; None: all.

    Raises:
        NotFound: it was replaced meanwhile. No row was yielded before.
        Damaged: it is damaged. No row was yielded before.
    """
    for batch in table_of(store, part, wanted, columns).to_batches(max_chunksize=1000):
        for row in batch.to_pylist():
            yield {name: _plain(value) for name, value in row.items()}


def write_part(store: Store, rows: list[dict[str, Any]], schema: pa.Schema, retries: int) -> str:
    """Write records as a part; return its path. The part is named by its contents, so the same step done
    twice creates one object."""
    digest = hashlib.sha256(b"\n".join(canonical(row) for row in rows)).hexdigest()
    times = [field.name for field in schema if pa.types.is_timestamp(field.type)]
    for row in rows:
        row.update({t: datetime.fromisoformat(row[t]) for t in times if row.get(t)})
    path = verdicts_part_path(retries, digest)
    store.create(path, parquet_bytes(pa.Table.from_pylist(rows, schema=schema)))
    return path


def replace_part(
    store: Store, part: Part, stays: np.ndarray, retries: int, before: Callable[[], None]
) -> None:
    """Replace a part by one with only those rows that stay.

    The new part is created first: a reader may see rows twice for a moment, but never misses one. ``before``
    is called before the old one is deleted.
    """
    left = _table(store, part.path).filter(pa.array(stays))
    if left.num_rows:
        data = parquet_bytes(left)
        store.create(verdicts_part_path(retries, hashlib.sha256(data).hexdigest()), data)
    before()
    store.delete(part.path)


def firsts(parts: Sequence[Part], counts: Sequence[np.ndarray]) -> list[np.ndarray]:
    """For each part, which of the rows that count are the first of their image: two compactions at the same
    time may have copied a record twice."""
    if not parts:
        return []
    every = pa.concat_arrays([part.ids for part in parts]).dictionary_encode()
    counted = np.flatnonzero(np.concatenate(counts))
    _, at = np.unique(every.indices.to_numpy()[counted], return_index=True)
    first = np.zeros(len(every), bool)
    first[counted[at]] = True
    return np.split(first, np.cumsum([len(part.ids) for part in parts])[:-1])


def canonical(record: Mapping[str, Any]) -> bytes:
    """JSON of a record that does not depend on the order of its fields."""
    return json.dumps(record, sort_keys=True, allow_nan=False).encode()


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else value
