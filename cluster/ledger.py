"""Records written once, whoever writes them and however often.

A record is one object, created with put-if-absent: that is the commit, and there is no other. So
compute may happen twice, a record not. Compaction copies records into Parquet parts and takes
nothing away, so that it may be repeated, or die, at any point.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from cluster.store import Store, whole

_PART_ROWS = 50_000
"""Rows of one compacted part, so that a part fits in memory many times over."""


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
        if self.store.exists(path):
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
            return dict(json.loads(self.store.read(path)).items())

    def recorded(self) -> set[str]:
        """The images that have a record: what a resume leaves out."""
        return {_image_id(f.path) for f in self.store.list("records") if f.path.endswith(".json")}

    def compact(self, schema: pa.Schema) -> list[str]:
        """Copies the records that are in no part yet into new ``verdicts/part-*.parquet``; the
        paths of these. The engine does not know what a record holds, so the job gives the schema;
        its columns that a record lacks are null.

        A part is named by its contents: the same step done twice makes the same object.
        """
        new = sorted(self.recorded() - {row["image_id"] for row in self._compacted(["image_id"])})
        parts = []
        for start in range(0, len(new), _PART_ROWS):
            rows = [self.record(image_id) for image_id in new[start : start + _PART_ROWS]]
            digest = hashlib.sha256(b"\n".join(_canonical(row) for row in rows)).hexdigest()
            part = f"verdicts/part-{digest[:16]}.parquet"
            self.store.create(part, _to_parquet(rows, schema))
            parts.append(part)
        return parts

    def rows(self) -> Iterator[dict[str, Any]]:
        """Every image's row once, from parts and records alike, as plain JSON values (times as ISO
        8601 text), in no order."""
        seen: set[str] = set()
        for row in self._compacted():
            if row["image_id"] not in seen:
                seen.add(row["image_id"])
                yield row
        for image_id in sorted(self.recorded() - seen):
            yield self.record(image_id)

    def _compacted(self, columns: list[str] | None = None) -> Iterator[dict[str, Any]]:
        for found in self.store.list("verdicts"):
            if not found.path.endswith(".parquet"):
                continue
            with whole(self.store, found.path):
                part = pq.ParquetFile(io.BytesIO(self.store.read(found.path)))
            for batch in part.iter_batches(columns=columns):
                for row in batch.to_pylist():
                    yield {name: _plain(value) for name, value in row.items()}


def sign(said: Mapping[str, Any], *, blank: Mapping[str, Any], attempts: int, worker: str) -> dict[str, Any]:
    """What was said of an image as a whole record: the run's blank filled in, and signed by the
    engine with who said it, when, and at which attempt."""
    signature = {"attempts": attempts, "worker": worker, "finished_at": _now()}
    return {**blank, **said, **signature}


def record_path(image_id: str) -> str:
    """Spread over 256 prefixes, as stores limit the writes to each."""
    return f"records/{image_id[:2]}/{image_id}.json"


def _image_id(path: str) -> str:
    return path.rpartition("/")[2].removesuffix(".json")


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
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), buffer, compression="zstd")
    return buffer.getvalue()
