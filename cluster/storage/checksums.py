"""JSON and Parquet with a checksum inside, so that damage is never read as different contents.

A JSON object has it in the field "checksum", computed over its other fields; a Parquet file has it in its
metadata, computed over all its bytes. Files of earlier versions have none, and are read unchecked.
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

from cluster.storage.damage import damage_errors
from cluster.storage.store import Store
from originality.contract import checksum

FIELD = "checksum"
_VALUE = re.compile(r"sha256:[0-9a-f]{64}")


def json_bytes(values: Mapping[str, Any], indent: int | None = None) -> bytes:
    """Encode plain JSON values with their checksum.

    Raises:
        ValueError: a value is not plain JSON, or is NaN.
    """
    plain = json.loads(json.dumps(values, allow_nan=False))
    return json.dumps({**plain, FIELD: _checksum(plain)}, indent=indent, sort_keys=True).encode()


def json_values(data: bytes) -> dict[str, Any]:
    """Decode what :func:`json_bytes` encoded.

    Raises:
        ValueError: it is damaged.
    """
    values = json.loads(data)
    if not isinstance(values, dict):
        raise ValueError("not a JSON object")
    # The checksum is recognised by its name and by its value: if one of the two is damaged, the other still
    # shows that there was one, and the object does not pass for one of an earlier version.
    named = [key for key, value in values.items() if isinstance(value, str) and _VALUE.fullmatch(value)]
    if FIELD not in values and not named:
        return values
    found = values.pop(FIELD, None)
    if found != _checksum(values):
        raise checksum.Mismatch
    return values


def read_json(store: Store, path: str) -> dict[str, Any]:
    """Read a JSON object and check it.

    Raises:
        NotFound: there is no such object.
        Damaged: it is not JSON, or its checksum does not match.
    """
    with damage_errors(store, path):
        return json_values(store.read(path))


def parquet_bytes(table: pa.Table) -> bytes:
    """Encode a table as a Parquet file with its checksum."""
    buffer = io.BytesIO()
    with pq.ParquetWriter(buffer, table.schema, compression="zstd") as writer:
        writer.write_table(table)
        writer.add_key_value_metadata({checksum.KEY: checksum.PLACEHOLDER})
    return checksum.stamp(buffer.getvalue())


def checked_parquet(data: bytes) -> pa.BufferReader:
    """A checked Parquet file, for pyarrow. The check comes first: pyarrow may crash the process over a
    damaged file.

    Raises:
        ValueError: it is damaged.
    """
    checksum.check(data)
    return pa.BufferReader(data)


def _checksum(values: Mapping[str, Any]) -> str:
    return "sha256:" + hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
