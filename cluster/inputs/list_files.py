"""Opens lists of images: CSV, JSON Lines and Parquet files with a column of uris, and reads their columns."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import pyarrow as pa
import pyarrow.parquet as pq

from cluster.inputs.csv_lists import normalised, open_csv
from cluster.inputs.json_lists import open_json_lines
from cluster.inputs.list_columns import plain_values, without_secrets
from cluster.inputs.list_formats import decompressed
from cluster.inputs.manifest import InputError
from originality.contract.wrong_content import wrong_content

_BATCH = 50_000
_BEGINNING = 256
"""Bytes that show whether a file is only a stand-in for one, such as a pointer of Git LFS."""


@dataclass(frozen=True)
class ListFile:
    """An open list."""

    shown_as: str
    """The list as the user named it, for messages."""
    names: Sequence[str]
    """Names of its columns."""
    rows: Iterator[list[str]] | None = None
    """Rows of a CSV, without the header; None if the columns have types."""
    schema: pa.Schema | None = None
    """Types of the columns; None for a CSV."""
    read: Callable[[list[str]], Iterator[pa.RecordBatch]] | None = None
    """Reads columns that have types, in batches."""

    def column(self, wanted: str) -> str | None:
        """The exact name of a column in the file; None if there is no such column.

        Raises:
            InputError: there are several columns of that name.
        """
        named = [name for name in self.names if normalised(name) == normalised(wanted)]
        if len(named) > 1:
            raise InputError(f"{self.shown_as} has several columns named {wanted}; leave one")
        return named[0] if named else None

    def of_bytes(self, name: str) -> InputError:
        """The error for a column that contains bytes."""
        return InputError(
            f"{self.shown_as} holds bytes (column {name!r}), not uris; to audit them as images write them "
            "with the type binary, or list uris in a column uri"
        )

    def batches(self, columns: Sequence[str], others: Sequence[str] = ()) -> Iterator[list[pa.Array]]:
        """The values of some columns, in batches.

        Args:
            columns: whose values are text.
            others: whose values may be of any type; see :mod:`cluster.inputs.list_columns`. Of a CSV they are
                text, and null where the cell is empty.

        Raises:
            InputError: one of ``columns`` does not contain text.
            ValueError: the file is damaged.
        """
        if self.read is not None:
            for batch in self.read([*columns, *others]):
                values = [plain_values(batch[name]) for name in others]
                yield [*(self._text(name, batch[name]) for name in columns), *values]
            return
        assert self.rows is not None
        places = [self.names.index(name) for name in columns]
        other_places = [self.names.index(name) for name in others]
        numbered = enumerate(self.rows, 1)
        while part := list(islice(numbered, _BATCH)):
            for number, row in part:
                if len(row) != len(self.names):
                    reason = f"Expected {len(self.names)} columns, got {len(row)}"
                    raise ValueError(f"CSV parse error: row {number}: {reason}")
            texts = [pa.array([row[place] for _, row in part], pa.string()) for place in places]
            cells = [pa.array([row[place] or None for _, row in part], pa.string()) for place in other_places]
            yield [*texts, *(without_secrets(cell) for cell in cells)]

    def _text(self, name: str, column: pa.Array) -> pa.Array:
        if column.null_count == len(column):  # of any type
            return pa.nulls(len(column), pa.string())
        if not _may_be_text(column.type):
            error = ValueError(f"column {name!r} contains {column.type}; write it as text (string)")
            raise unreadable_list(self.shown_as, error)
        try:
            text = column.cast(pa.string())
            text.validate(full=True)  # text in Parquet may not be valid UTF-8
        except pa.ArrowInvalid:
            if is_binary(column.type):
                raise self.of_bytes(name) from None
            raise
        return text


def open_list(shown_as: str, name: str, data: bytes, delimiter: str | None = None) -> ListFile:
    """Open a list from its bytes.

    Args:
        shown_as: the list as the user named it, for messages.
        name: of the file; its extension decides the format and compression.
        data: the bytes of the file.
        delimiter: of a CSV; None: as its header shows, or a tab for a .tsv.

    Raises:
        InputError: it cannot be read in that format.
    """
    try:
        if data and (found := wrong_content(data[:_BEGINNING])):
            raise InputError(f"{shown_as} {found}")
        plain, data = decompressed(name, data)
        if plain.lower().endswith((".csv", ".tsv")):
            tab = "\t" if plain.lower().endswith(".tsv") else None
            return ListFile(shown_as, *open_csv(data, delimiter or tab))
        if plain.lower().endswith((".jsonl", ".ndjson")):
            table = open_json_lines(data)
            return ListFile(
                shown_as,
                table.column_names,
                schema=table.schema,
                read=lambda names: iter(table.select(names).to_batches(_BATCH)),
            )
        parquet = pq.ParquetFile(pa.BufferReader(data))
    except InputError:
        raise
    except (pa.ArrowException, OSError, ValueError) as error:
        raise unreadable_list(shown_as, error) from None
    schema = parquet.schema_arrow
    return ListFile(
        shown_as, schema.names, schema=schema, read=lambda names: parquet.iter_batches(columns=names)
    )


def is_binary(kind: pa.DataType) -> bool:
    return (
        pa.types.is_binary(kind)
        or pa.types.is_large_binary(kind)
        or pa.types.is_binary_view(kind)
        or pa.types.is_fixed_size_binary(kind)
    )


def _may_be_text(kind: pa.DataType) -> bool:
    """Whether values of a type are text, or bytes that may be; numbers and times would be taken for file
    names."""
    if pa.types.is_dictionary(kind):
        return _may_be_text(kind.value_type)
    is_text = pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    return is_text or is_binary(kind)


def unreadable_list(shown_as: str, error: Exception) -> InputError:
    """The error for a list that cannot be parsed, with Arrow's message. The row that Arrow quotes is left
    out, as it may contain credentials. Rows are counted without the header."""
    reason = re.sub(r"(got \d+):.*", r"\1", (str(error).splitlines() or [type(error).__name__])[0])
    return InputError(f"{shown_as} cannot be read as a list: {reason}")
