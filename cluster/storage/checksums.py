"""Objects of a run folder with a checksum inside, so that a damaged one is never read as another.

A JSON object has it in the field "checksum", over its other fields; a Parquet file among its metadata, over
all its bytes. Those that older versions wrote have none, and are read as they are.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from cluster.storage.store import Store, whole
from originality.contract import checksum

FIELD = "checksum"
_VALUE = re.compile(r"sha256:[0-9a-f]{64}")


def json_bytes(values: Mapping[str, Any], indent: int | None = None) -> bytes:
    """Plain JSON values with their checksum.

    Raises:
        ValueError: they are not plain JSON, or hold a NaN.
    """
    plain = json.loads(json.dumps(values, allow_nan=False))
    return json.dumps({**plain, FIELD: _checksum(plain)}, indent=indent, sort_keys=True).encode()


def json_values(data: bytes) -> dict[str, Any]:
    """What :func:`json_bytes` was given.

    Raises:
        ValueError: it is damaged.
    """
    values = json.loads(data)
    if not isinstance(values, dict):
        raise ValueError("it holds no JSON object")
    # by name and by value: where one of the two is damaged, the other still says that there was a checksum
    named = [key for key, value in values.items() if isinstance(value, str) and _VALUE.fullmatch(value)]
    if FIELD not in values and not named:
        return values
    found = values.pop(FIELD, None)
    if found != _checksum(values):
        raise checksum.Mismatch
    return values


def read_json(store: Store, path: str) -> dict[str, Any]:
    """Raises:
    NotFound: there is none.
    Damaged: it is no JSON object, or another than was written.
    """
    with whole(store, path):
        return json_values(store.read(path))


def parquet_bytes(table: pa.Table) -> bytes:
    """A table as a Parquet file with its checksum."""
    buffer = io.BytesIO()
    with pq.ParquetWriter(buffer, table.schema, compression="zstd") as writer:
        writer.write_table(table)
        writer.add_key_value_metadata({checksum.KEY: checksum.PLACEHOLDER})
    return checksum.stamp(buffer.getvalue())


def checked_parquet(data: bytes) -> pa.BufferReader:
    """A Parquet file for pyarrow; a damaged one may end the process where it is parsed.

    Raises:
        ValueError: it is damaged.
    """
    checksum.check(data)
    return pa.BufferReader(data)


def _checksum(values: Mapping[str, Any]) -> str:
    return "sha256:" + hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
