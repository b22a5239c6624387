"""Records written once, whoever writes them and however often.

A record is one object, created with put-if-absent: that is the commit, and there is no other. So
compute may happen twice, a record not. Compaction copies records into Parquet parts and takes
nothing away, so that it may be repeated, or die, at any point.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from cluster.lock import Lock
from cluster.store import Store, whole

_PART_ROWS = 10_000
"""Rows of one compacted part, so that a part fits in memory many times over."""
_READERS = 16
"""Reads at once: a bucket answers each after a while, and any number together."""
_LOCK = "progress/compacting.json"
_LISTED = 50_000
"""Names that are held as Python objects at once."""


class Ledger:
    """The records of one run folder."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def commit(self, image_id: str, record: Mapping[str, Any], files: Mapping[str, bytes]) -> bool:
        """Writes artefacts, then the record. True if this one counts; False if the image had a
        record already, which then stays as it is, artefacts included.

        Raises:
            ValueError: the record is not plain JSON, or holds a NaN.
        """
        path = record_path(image_id)
        data = _canonical({**record, "image_id": image_id})
        if files and self.store.exists(path):
            return False
        for name, content in files.items():
            self.store.write(f"images/{image_id}/{name}", content)
        return self.store.create(path, data)

    def record(self, image_id: str) -> dict[str, Any]:
        """One image's record.

        Raises:
            NotFound: it has none yet.
        """
        path = record_path(image_id)
        with whole(self.store, path):
            record = dict(json.loads(self.store.read(path)).items())
            if not (record["image_id"] == image_id and record["status"]):
                raise ValueError("it is of another image, or of none")
            return record

    def has_record(self, image_id: str) -> bool:
        return self.store.exists(record_path(image_id))

    def recorded(self) -> pa.Array:
        """The image_ids that have a record, in no order: what a resume leaves out."""
        chunks: list[pa.Array] = []
        names: list[str] = []
        for found in self.store.list("records"):
            if found.path.endswith(".json"):
                names.append(found.path.rpartition("/")[2].removesuffix(".json"))
            if len(names) >= _LISTED:
                chunks.append(pa.array(names, pa.string()))
                names = []
        return pa.concat_arrays([*chunks, pa.array(names, pa.string())])

    def compact(self, schema: pa.Schema, *, full_parts_only: bool = False) -> list[str]:
        """Copies the records that are in no part yet into new ``verdicts/part-*.parquet``, when nobody
        else changes the parts; the paths of these. The engine does not know what a record holds, so the
        job gives the schema; its columns that a record lacks are null.

        A part is named by its contents: the same step done twice makes the same object.
        ``full_parts_only``: what is too little for a part waits, as there is more to come.
        """
        with Lock(self.store, _LOCK) as lock:
            new = self._recorded_beside([ids for _, ids in self._parts()])
            parts = []
            if full_parts_only:
                new = new[: len(new) // _PART_ROWS * _PART_ROWS]
            for start in range(0, len(new), _PART_ROWS):
                rows = list(self._read_records(new[start : start + _PART_ROWS].to_pylist()))
                digest = hashlib.sha256(b"\n".join(_canonical(row) for row in rows)).hexdigest()
                part = f"verdicts/part-{digest[:16]}.parquet"
                lock.keep()
                self.store.create(part, _to_parquet(rows, schema))
                parts.append(part)
        return parts

    def _recorded_beside(self, parts: Sequence[pa.Array]) -> pa.Array:
        """Sorted image_ids that have a record and are in none of these parts."""
        recorded = self.recorded()
        if parts:
            recorded = recorded.filter(pc.invert(pc.is_in(recorded, pa.concat_arrays(parts))))
        return recorded.sort()

    def rows(
        self, columns: Sequence[str] | None = None, of: pa.Array | None = None
    ) -> Iterator[dict[str, Any]]:
        """Every image's row once, from parts and records alike, as plain JSON values (times as ISO
        8601 text), in no order. ``columns``: only these, where the row has them. ``of``: only the rows of
        these image_ids."""
        parts = list(self._parts())
        firsts = _first_of_each([ids for _, ids in parts])
        for (path, ids), first in zip(parts, firsts, strict=True):
            wanted = first if of is None else first & pc.is_in(ids, of).to_numpy(zero_copy_only=False)
            if wanted.any():
                yield from self._rows_of(path, wanted, columns)
        # Beside the parts that were read above: what became a part since is read as records.
        beside = self._recorded_beside([ids for _, ids in parts])
        if of is not None:
            beside = beside.filter(pc.is_in(beside, of))
        for record in self._read_records(beside.to_pylist()):
            yield {c: record[c] for c in columns if c in record} if columns else record

    def drop(self, unwanted: Callable[[Mapping[str, Any]], bool], columns: Sequence[str]) -> list[str]:
        """Takes back the rows of which ``unwanted`` says so by these columns, as if their images had
        never been judged; their image_ids. Only while nobody works on the run.

        First from the parts, each rewritten in one go, then the records: what dies in between leaves
        rows that are still there, and a repetition finds them.
        """
        wanted = ["image_id", *columns]
        with Lock(self.store, _LOCK) as lock:
            chosen = [str(row["image_id"]) for row in self.rows(wanted) if unwanted(row)]
            gone = pa.array(chosen, pa.string())
            for path, ids in list(self._parts()):
                stays = pc.invert(pc.is_in(ids, gone))
                if pc.all(stays).as_py():
                    continue
                lock.keep()
                left = pq.read_table(io.BytesIO(self.store.read(path))).filter(stays)
                if left.num_rows:
                    self.store.write(path, _parquet(left))
                else:
                    self.store.delete(path)
            with ThreadPoolExecutor(_READERS) as pool:
                list(pool.map(lambda image_id: self.store.delete(record_path(image_id)), chosen))
        return chosen

    def _parts(self) -> Iterator[tuple[str, pa.Array]]:
        """Path and image_ids of every part, in the order of their names."""
        for path in sorted(f.path for f in self.store.list("verdicts") if f.path.endswith(".parquet")):
            with whole(self.store, path):
                table = pq.read_table(io.BytesIO(self.store.read(path)), columns=["image_id"])
                yield path, table["image_id"].combine_chunks()

    def _rows_of(
        self, path: str, wanted: np.ndarray, columns: Sequence[str] | None
    ) -> Iterator[dict[str, Any]]:
        with whole(self.store, path):
            part = pq.ParquetFile(io.BytesIO(self.store.read(path)))
        known = [c for c in columns if c in part.schema_arrow.names] if columns else None
        start = 0
        for batch in part.iter_batches(batch_size=1000, columns=known):
            kept = batch.filter(pa.array(wanted[start : start + len(batch)]))
            start += len(batch)
            for row in kept.to_pylist():
                yield {name: _plain(value) for name, value in row.items()}

    def _read_records(self, image_ids: Iterable[str]) -> Iterator[dict[str, Any]]:
        """In the order given, several at a time, never more in memory than are read ahead."""
        with ThreadPoolExecutor(_READERS) as pool:
            waiting = iter(image_ids)
            while batch := list(islice(waiting, _READERS * 16)):
                yield from pool.map(self.record, batch)


def sign(said: Mapping[str, Any], *, blank: Mapping[str, Any], attempts: int, worker: str) -> dict[str, Any]:
    """What was said of an image as a whole record: the run's blank filled in, and signed by the
    engine with who said it, when, and at which attempt."""
    signature = {"attempts": attempts, "worker": worker, "finished_at": _now()}
    return {**blank, **said, **signature}


def record_path(image_id: str) -> str:
    """Spread over 256 prefixes, as stores limit the writes to each."""
    return f"records/{image_id[-2:]}/{image_id}.json"


def _first_of_each(parts: Sequence[pa.Array]) -> list[np.ndarray]:
    """For every part, which of its rows are the first with their image_id: two compactions at once may
    have copied a record twice."""
    if len(parts) < 2:
        return [np.ones(len(ids), bool) for ids in parts]
    every = pa.concat_arrays(parts).dictionary_encode()
    _, at = np.unique(every.indices.to_numpy(), return_index=True)
    first = np.zeros(len(every), bool)
    first[at] = True
    return np.split(first, np.cumsum([len(ids) for ids in parts])[:-1])


def _now() -> str:
    return datetime.now(UTC).isoformat()


def _canonical(record: Mapping[str, Any]) -> bytes:
    return json.dumps(record, sort_keys=True, allow_nan=False).encode()


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else value


def _to_parquet(rows: list[dict[str, Any]], schema: pa.Schema) -> bytes:
    times = [field.name for field in schema if pa.types.is_timestamp(field.type)]
    for row in rows:
        row.update({t: datetime.fromisoformat(row[t]) for t in times if row.get(t)})
    return _parquet(pa.Table.from_pylist(rows, schema=schema))


def _parquet(table: pa.Table) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    return buffer.getvalue()
