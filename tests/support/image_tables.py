"""Tables that hold images, as Hugging Face's data sets and others write them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq


def hugging_face(images: Sequence[bytes | None], **others: Any) -> pa.Table:
    """A table with a column "image" of structs, and the note on its type that the library leaves."""
    structs = [None if data is None else {"bytes": data, "path": f"{n}.png"} for n, data in enumerate(images)]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    table = pa.table({"image": pa.array(structs, kind), **others})
    return table.replace_schema_metadata(noted({"image": "Image", **dict.fromkeys(others, "Value")}))


def noted(features: Mapping[str, str]) -> dict[str, str]:
    """A schema's metadata as Hugging Face's library leaves it. ``features``: type by column."""
    about = {name: {"_type": kind} for name, kind in features.items()}
    return {"huggingface": json.dumps({"info": {"features": about}})}


def parquet(table: pa.Table, **how: Any) -> bytes:
    """A table as a Parquet file."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, **how)
    return sink.getvalue().to_pybytes()
