"""Compacted records: Parquet parts that are created once, and replaced by others rather than changed."""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cluster.store import NotFound, Store, whole

_FOLDER = "verdicts"
_NAME = re.compile(rf"{_FOLDER}/part-(\d{{6}})-[0-9a-f]+\.parquet")


@dataclass(frozen=True)
class Part:
    """One part, and whose rows it holds."""

    path: str
    ids: pa.Array
    """image_id of each row."""

    @property
    def retries(self) -> int:
        """How many retries its writer knew of."""
        name = _NAME.fullmatch(self.path)
        return int(name[1]) if name else 0


def read_parts(store: Store) -> list[Part]:
    """All there are, in the order of their names. One that is replaced meanwhile is looked for anew."""
    while True:
        try:
            return list(_parts(store))
        except NotFound:  # what took its place was there before it went
            continue


def _parts(store: Store) -> Iterator[Part]:
    for path in sorted(f.path for f in store.list(_FOLDER) if f.path.endswith(".parquet")):
        with whole(store, path):
            table = pq.read_table(io.BytesIO(store.read(path)), columns=["image_id"])
            yield Part(path, table["image_id"].combine_chunks())


def rows_of(
    store: Store, part: Part, wanted: np.ndarray, columns: Sequence[str] | None
) -> Iterator[dict[str, Any]]:
    """Those rows of a part that are ``wanted`` (bool, one a row), as plain JSON values.

    Raises:
        NotFound: it was replaced meanwhile. Then no row was yielded.
    """
    with whole(store, part.path):
        file = pq.ParquetFile(io.BytesIO(store.read(part.path)))
    known = [c for c in columns if c in file.schema_arrow.names] if columns else None
    start = 0
    for batch in file.iter_batches(batch_size=1000, columns=known):
        kept = batch.filter(pa.array(wanted[start : start + len(batch)]))
        start += len(batch)
        for row in kept.to_pylist():
            yield {name: _plain(value) for name, value in row.items()}


def write_part(store: Store, rows: list[dict[str, Any]], schema: pa.Schema, retries: int) -> str:
    """A part of these records; its path. It is named by its contents: the same step done twice makes the same
    object."""
    digest = hashlib.sha256(b"\n".join(canonical(row) for row in rows)).hexdigest()
    times = [field.name for field in schema if pa.types.is_timestamp(field.type)]
    for row in rows:
        row.update({t: datetime.fromisoformat(row[t]) for t in times if row.get(t)})
    path = _path(retries, digest)
    store.create(path, _parquet(pa.Table.from_pylist(rows, schema=schema)))
    return path


def replace_part(
    store: Store, part: Part, stays: np.ndarray, retries: int, before: Callable[[], None]
) -> None:
    """Another part, of those rows alone that stay, in the place of one. ``before`` is called before the old
    one goes."""
    with whole(store, part.path):
        left = pq.read_table(io.BytesIO(store.read(part.path))).filter(pa.array(stays))
    if left.num_rows:
        data = _parquet(left)
        store.create(_path(retries, hashlib.sha256(data).hexdigest()), data)
    before()
    store.delete(part.path)


def _path(retries: int, digest: str) -> str:
    return f"{_FOLDER}/part-{retries:06}-{digest[:16]}.parquet"


def firsts(parts: Sequence[Part], counts: Sequence[np.ndarray]) -> list[np.ndarray]:
    """For every part, which of the rows that count are the first of their image: two compactions at once may
    have copied a record twice."""
    if not parts:
        return []
    every = pa.concat_arrays([part.ids for part in parts]).dictionary_encode()
    counted = np.flatnonzero(np.concatenate(counts))
    _, at = np.unique(every.indices.to_numpy()[counted], return_index=True)
    first = np.zeros(len(every), bool)
    first[counted[at]] = True
    return np.split(first, np.cumsum([len(part.ids) for part in parts])[:-1])


def canonical(record: Mapping[str, Any]) -> bytes:
    return json.dumps(record, sort_keys=True, allow_nan=False).encode()


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else value


def _parquet(table: pa.Table) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    return buffer.getvalue()
