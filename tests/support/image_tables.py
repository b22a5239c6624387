"""Tables that hold images, as Hugging Face's data sets and others write them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from cluster.storage.store import Store


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


def arrow(table: pa.Table, rows: int | None = None, is_file: bool = False, **how: Any) -> bytes:
    """A table as an Arrow stream, as Hugging Face's data sets are kept, or as an Arrow file.

    Args:
        table: to write.
        rows: of a batch; None: all in one.
        is_file: whether it is a file, which has a table of contents at its end.
        how: further options of Arrow.
    """
    sink = pa.BufferOutputStream()
    write = pa.ipc.new_file if is_file else pa.ipc.new_stream
    with write(sink, table.schema, options=pa.ipc.IpcWriteOptions(**how)) as writer:
        writer.write_table(table, rows)
    return sink.getvalue().to_pybytes()


def save_to_disk(store: Store, folder: str, tables: Sequence[pa.Table]) -> None:
    """Write a data set as Hugging Face's ``save_to_disk`` does, each table in a file."""
    names = [f"data-{n:05}-of-{len(tables):05}.arrow" for n in range(len(tables))]
    for name, table in zip(names, tables, strict=True):
        store.write(f"{folder}/{name}", arrow(table, rows=10))
    state = {"_data_files": [{"filename": name} for name in names], "_fingerprint": "0" * 16, "_split": None}
    store.write(f"{folder}/state.json", json.dumps(state).encode())
    store.write(f"{folder}/dataset_info.json", b"{}")
