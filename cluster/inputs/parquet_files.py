"""Lists a Parquet file whose rows hold the images: by its footer and its other columns. No image is read.

pyarrow's metadata of a column (``RowGroupMetaData.column``) is not used: on a damaged or encrypted one it
ends the process, where reading the column raises.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.parquet as pq

from cluster.inputs.container_file import ContainerFile, Fetch
from cluster.inputs.container_listings import ContainerListing
from cluster.inputs.locations import Container
from cluster.inputs.table_options import ImageTable
from cluster.inputs.table_rows import TableRows, check_rows, joined_rows
from cluster.inputs.unreadable import Unreadable

_BATCH_ROWS = 1024
"""Rows whose values are held at once: at most 64 KiB each."""
_BUFFER = 4 * 2**20
"""Bytes of one request for a column."""


def open_parquet(container: Container, fetch: Fetch) -> tuple[pq.ParquetFile, ContainerFile]:
    """Open a Parquet file by its footer.

    Raises:
        Unreadable: it is no such file, or damaged, or its footer is encrypted.
        Outage, Refused, MachineFault: its store or disk fails.
    """
    file = ContainerFile(container, fetch)
    with file.errors(container.uri):
        opened = pq.ParquetFile(pa.PythonFile(file, "r"), buffer_size=_BUFFER, pre_buffer=False)
        list(opened.schema_arrow.names)  # they may not be UTF-8
        # Behind a readable footer of a file with encrypted columns is a signature.
        if int.from_bytes(file.tail[:4], "little") > opened.metadata.serialized_size:
            raise Unreadable("unreadable", f"{container.uri} has encrypted columns; decrypt it first")
    return opened, file


def list_parquet(container: Container, how: ImageTable, fetch: Fetch) -> ContainerListing:
    """List the rows of a file. If it is damaged, it has a separate row, behind those that were found.

    Raises:
        Outage, Refused, MachineFault: its store or disk fails.
    """
    parts: list[pa.Table] = []
    skipped: Counter[str] = Counter()
    try:
        opened, file = open_parquet(container, fetch)
        schema = opened.schema_arrow
        rows = TableRows(container.uri, schema, how, skipped)
        check_rows(container.uri, opened.metadata.num_rows, container.size)
        found = _parts(container.uri, opened, file, rows)
        while (part := next(found, None)) is not None:  # one by one: what precedes damage is kept
            parts.append(part)
    except Unreadable as error:
        parts.append(ContainerListing.of_problem(container.uri, error.message).table)
    return ContainerListing(joined_rows(parts), skipped)


def _parts(uri: str, opened: pq.ParquetFile, file: ContainerFile, rows: TableRows) -> Iterator[pa.Table]:
    """The rows in parts; raises Unreadable where the file is damaged."""
    names = [column.name for column in rows.columns]
    schema = opened.schema_arrow
    # As dictionaries, long values that are repeated are held once until they are measured.
    text = [n for n in names if n in schema.names and pa.types.is_string(schema.field(n).type)]
    metadata = opened.metadata
    reader = pq.ParquetFile(
        pa.PythonFile(file, "r"),
        metadata=metadata,
        read_dictionary=text,
        buffer_size=_BUFFER,
        pre_buffer=False,
    )
    start = 0
    for group in range(metadata.num_row_groups):
        with file.errors(f"{uri}: row group {group}"):
            if not names:
                count = metadata.row_group(group).num_rows
                check_rows(uri, count, metadata.num_rows)
                yield rows.table(start, count, None)
                start += count
                continue
            for batch in reader.iter_batches(_BATCH_ROWS, [group], names, use_threads=False):
                yield rows.table(start, batch.num_rows, batch)
                start += batch.num_rows


def parquet_schema(container: Container, fetch: Fetch) -> pa.Schema:
    """The columns of a Parquet file.

    Raises:
        Unreadable, Outage, Refused, MachineFault: as of :func:`open_parquet`.
    """
    opened, file = open_parquet(container, fetch)
    with file.errors(container.uri):
        return opened.schema_arrow
