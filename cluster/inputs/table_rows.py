"""The rows of a table that holds images, as a listing has them: each row's uri, and its other columns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from cluster.inputs.container_listings import SCHEMA
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
from cluster.inputs.locations import CELL_SCHEMA
from cluster.inputs.manifest import WORD
from cluster.inputs.table_options import ImageTable
from cluster.inputs.unreadable import Unreadable

FIXED = SCHEMA.append(CELL_SCHEMA.field("container_row"))
"""The columns that every listing of a table has."""
LEFT_OUT = "value over 64 KiB a row"
"""Kind of what is skipped."""
_FEW_ROWS = 1_000_000
"""Rows that a file may have, however small it is."""


class TableRows:
    """The rows of one file."""

    def __init__(self, uri: str, schema: pa.Schema, how: ImageTable, skipped: Counter[str]) -> None:
        """
        Args:
            uri: of the file.
            schema: of its columns.
            how: which of them are meant.
            skipped: counts what is left out.

        Raises:
            Unreadable: it has no such column of images.
        """
        place = schema.get_field_index(how.image)
        if place < 0 or not (is_image(schema.field(place).type) or is_bytes(schema.field(place).type)):
            raise Unreadable("unreadable", f"{uri} has no column {how.image!r} of images")
        self._uri = uri
        self._skipped = skipped
        bytes_columns = [field.name for field in schema if not is_kept(field.type) or is_image(field.type)]
        # A file of several may lack a column.
        wanted = None if how.columns is None else _known(how.columns, schema.names)
        kept = kept_columns(uri, schema.names, {how.image, *bytes_columns}, wanted)
        columns = [column for column in kept if len(schema.get_all_field_indices(column.name)) == 1]
        path = _path_column(schema, how, {column.kept_as for column in columns})
        self.columns = [*columns, *([path] if path else [])]
        """Columns that are kept. The path in a struct of images has a name with a dot."""

    def table(
        self, start: int, rows: int, batch: pa.RecordBatch | None, others: Mapping[str, pa.Array] = {}
    ) -> pa.Table:
        """Rows of a listing.

        Args:
            start: number of the first row in the file.
            rows: how many.
            batch: has the values of their columns; None if no column is kept.
            others: further columns of FIXED.
        """
        columns = self.columns if batch is not None else []
        values = [_values(batch, column.name) for column in columns]
        values, left_out = within_size(columns, values)
        if left_out:
            self._skipped[LEFT_OUT] += sum(left_out.values())
        numbers = pa.array(range(start, start + rows), pa.int64())
        uris = pc.binary_join_element_wise(self._uri, numbers.cast(pa.string()), "#")
        table = {"uri": uris, "container_row": numbers, **others}
        for column, value in zip(columns, values, strict=True):
            table[column.kept_as] = _word(value) if column.kept_as == WORD.name else value
        return pa.table(table)


def joined_rows(parts: Sequence[pa.Table]) -> pa.Table:
    """The parts of one file's listing as one table."""
    return pa.concat_tables([FIXED.empty_table(), *parts], promote_options="permissive")


def check_rows(uri: str, rows: int, size: int) -> None:
    """Check a number of rows that a file claims.

    Args:
        uri: of the file.
        rows: how many it claims, in all.
        size: bytes of the file.

    Raises:
        Unreadable: it cannot have so many.
    """
    if not 0 <= rows <= max(_FEW_ROWS, size):
        raise Unreadable("unreadable", f"{uri} claims {rows} rows in {size} bytes")


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
