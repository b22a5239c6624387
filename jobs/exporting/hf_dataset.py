"""Results as a data set of Hugging Face's ``datasets``, with the images: a folder of Parquet files.

``datasets.load_dataset("FOLDER")`` reads it, and so does ``originality audit``.
"""

from __future__ import annotations

import io
import json

import pyarrow as pa
import pyarrow.parquet as pq

from cluster.run.folder import RunFolder
from cluster.storage.store import Store
from jobs.auditing.results_table import results_tables
from jobs.exporting.pictures import ROWS, ending_of, parts, pictures
from jobs.exporting.tables import as_json

_IMAGE = "image"
_CARD = """---
configs:
- config_name: default
  data_files: data/*.parquet
---

The images of an originality audit with what was found of each: `{run}`.
"""


def write_dataset(run: RunFolder, store: Store) -> int:
    """Write the data set into a folder; the number of its Parquet files."""
    files = -(-len(run.manifest) // ROWS)
    start = 0
    for part, table in enumerate(parts(results_tables(run))):
        numbers = range(start, start := start + table.num_rows)
        images = [
            None if data is None else {"bytes": data, "path": f"{number:08}{ending_of(run.manifest, number)}"}
            for number, data in zip(numbers, pictures(run.manifest, numbers), strict=True)
        ]
        kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
        name = _IMAGE
        while name in table.column_names:
            name += "_"
        table = table.add_column(0, name, pa.array(images, kind))
        sink = io.BytesIO()
        pq.write_table(_described(_flat(table), name), sink, compression="zstd", row_group_size=100)
        store.write(f"data/train-{part:05}-of-{files:05}.parquet", sink.getvalue())
    store.write("README.md", _CARD.format(run=run.store.url).encode())
    return files


def _flat(table: pa.Table) -> pa.Table:
    """Nested columns as JSON text, for which no features need be described."""
    for place, field in enumerate(table.schema):
        if pa.types.is_list(field.type):
            texts = [None if value is None else as_json(value) for value in table[place].to_pylist()]
            table = table.set_column(place, field.name, pa.array(texts, pa.string()))
    return table


def _described(table: pa.Table, image: str) -> pa.Table:
    """With the features that ``datasets`` reads, by which it decodes the images."""
    features = {
        field.name: {"_type": "Image"}
        if field.name == image
        else {"dtype": _dtype(field.type), "_type": "Value"}
        for field in table.schema
    }
    about = json.dumps({"info": {"features": features}})
    return table.replace_schema_metadata({"huggingface": about})


def _dtype(kind: pa.DataType) -> str:
    """The name that ``datasets`` has for a type."""
    return "float64" if pa.types.is_float64(kind) else str(kind)
