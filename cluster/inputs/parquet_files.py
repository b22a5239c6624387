"""Lists a Parquet file whose rows hold the images: by its footer and its other columns. No image is read.

pyarrow's metadata of a column (``RowGroupMetaData.column``) is not used: on a damaged or encrypted one it
ends the process, where reading the column raises.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from cluster.inputs.container_file import ContainerFile, Fetch
from cluster.inputs.container_listings import SCHEMA, ContainerListing
from cluster.inputs.csv_lists import normalised
from cluster.inputs.image_columns import is_bytes, is_image
from cluster.inputs.list_columns import (
    MOST_ROW_BYTES,
    Column,
    is_kept,
    kept_columns,
    plain_values,
    within_size,
)
from cluster.inputs.locations import CELL_SCHEMA, Container
from cluster.inputs.manifest import WORD
from cluster.inputs.table_options import ImageTable
from cluster.inputs.unreadable import Unreadable

_BATCH_ROWS = 1024
"""Rows whose values are held at once: at most 64 KiB each."""
_BUFFER = 4 * 2**20
"""Bytes of one request for a column."""
ROW = CELL_SCHEMA.field("container_row")
LEFT_OUT = "value over 64 KiB a row"


def open_parquet(container: Container, fetch: Fetch) -> tuple[pq.ParquetFile, ContainerFile]:
    """Open a Parquet file by its footer.

    Raises:
        Unreadable: it is none, or damaged, or its footer is encrypted.
        Outage, Refused, MachineFault: its store or disk fails.
    """
    file = ContainerFile(container, fetch)
    with file.errors(container.uri):
        opened = pq.ParquetFile(pa.PythonFile(file, "r"), buffer_size=_BUFFER, pre_buffer=False)
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
        place = schema.get_field_index(how.image)
        if place < 0 or not (is_image(schema.field(place).type) or is_bytes(schema.field(place).type)):
            raise Unreadable("unreadable", f"{container.uri} has no column {how.image!r} of images")
        found = _Rows(container, opened, file, how, skipped).parts()
        while (part := next(found, None)) is not None:  # one by one: what precedes damage is kept
            parts.append(part)
    except Unreadable as error:
        parts.append(ContainerListing.of_problem(container.uri, error.message).table)
    fixed = SCHEMA.append(ROW)
    table = pa.concat_tables([fixed.empty_table(), *parts], promote_options="permissive")
    return ContainerListing(table, skipped)


class _Rows:
    """The rows of one file, as tables of a listing."""

    def __init__(
        self,
        container: Container,
        opened: pq.ParquetFile,
        file: ContainerFile,
        how: ImageTable,
        skipped: Counter[str],
    ) -> None:
        self._uri = container.uri
        self._metadata = opened.metadata
        self._file = file
        self._skipped = skipped
        schema = opened.schema_arrow
        bytes_columns = [field.name for field in schema if not is_kept(field.type) or is_image(field.type)]
        without = {how.image, *bytes_columns}
        # A file of several may lack a column.
        wanted = None if how.columns is None else _known(how.columns, schema.names)
        kept = kept_columns(container.uri, schema.names, without, wanted)
        self._columns = [column for column in kept if len(schema.get_all_field_indices(column.name)) == 1]
        self._path = _path_column(schema, how, {column.kept_as for column in kept})
        text = [c.name for c in self._columns if pa.types.is_string(schema.field(c.name).type)]
        # As dictionaries, long values that are repeated are held once until they are measured.
        self._opened = pq.ParquetFile(
            pa.PythonFile(file, "r"),
            metadata=opened.metadata,
            read_dictionary=text,
            buffer_size=_BUFFER,
            pre_buffer=False,
        )

    def parts(self) -> Iterator[pa.Table]:
        """Raises Unreadable where the file is damaged."""
        start = 0
        columns = self._read_columns()
        for group in range(self._metadata.num_row_groups):
            with self._file.errors(f"{self._uri}: row group {group}"):
                rows = self._metadata.row_group(group).num_rows
            if not columns:
                yield self._table(start, rows, [], [])
                start += rows
                continue
            with self._file.errors(f"{self._uri}: row group {group}"):
                for batch in self._opened.iter_batches(
                    _BATCH_ROWS, [group], [c.name for c in columns], use_threads=False
                ):
                    values = [_values(batch, column.name) for column in columns]
                    yield self._table(start, batch.num_rows, columns, values)
                    start += batch.num_rows

    def _read_columns(self) -> list[Column]:
        return [*self._columns, *([self._path] if self._path else [])]

    def _table(self, start: int, rows: int, columns: list[Column], values: list[pa.Array]) -> pa.Table:
        values, left_out = within_size(columns, values)
        self._skipped.update({LEFT_OUT: sum(left_out.values())} if left_out else {})
        numbers = pa.array(range(start, start + rows), pa.int64())
        uris = pc.binary_join_element_wise(self._uri, numbers.cast(pa.string()), "#")
        table = {"uri": uris, "container_row": numbers}
        for column, value in zip(columns, values, strict=True):
            table[column.kept_as] = _word(value) if column.kept_as == WORD.name else value
        return pa.table(table)


def _known(wanted: Sequence[str], names: Sequence[str]) -> list[str]:
    known = {normalised(name) for name in names}
    return [name for name in wanted if normalised(name) in known]


def _path_column(schema: pa.Schema, how: ImageTable, taken: set[str]) -> Column | None:
    """The name of each image's file, which Hugging Face's struct has beside the bytes, as a column."""
    kind = schema.field(how.image).type
    if how.columns is not None or not is_image(kind) or (place := kind.get_field_index("path")) < 0:
        return None
    kept_as = f"{how.image}_path"
    if not pa.types.is_string(kind.field(place).type) or kept_as in taken:
        return None
    return Column(f"{how.image}.path", kept_as)


def _values(batch: pa.RecordBatch, name: str) -> pa.Array:
    """Values of a column as they are kept. Values that are too long for any row are null."""
    if name in batch.schema.names:
        values = batch.column(name)
    else:
        values = pc.struct_field(batch.column(name.rpartition(".")[0]), "path")
    if isinstance(values, pa.DictionaryArray) and pa.types.is_string(values.dictionary.type):
        values = _without_long(values)
    return plain_values(values)


def _without_long(values: pa.DictionaryArray) -> pa.DictionaryArray:
    """Values without those that are too long for any row, before each row has a copy."""
    short = pc.fill_null(pc.less_equal(pc.binary_length(values.dictionary), MOST_ROW_BYTES), True)
    if pc.all(short).as_py():
        return values
    places = pc.if_else(short, pc.subtract(pc.cumulative_sum(short.cast(pa.int32())), 1), None)
    return pa.DictionaryArray.from_arrays(places.take(values.indices), values.dictionary.filter(short))


def _word(value: pa.Array) -> pa.Array:
    """A column of words, as in a list: text without spaces around it, or null."""
    trimmed = pc.utf8_trim_whitespace(value.cast(pa.string()))
    return pc.if_else(pc.equal(trimmed, ""), None, trimmed)
