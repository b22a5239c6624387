"""Lists of images: CSV and Parquet files, or folders of Parquet parts, with a column of uris."""

from __future__ import annotations

import codecs
import csv
import io
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from cluster.inputs.manifest import SCHEMA, WORD, InputError, Manifest
from cluster.inputs.sources import WITHOUT_URI, Unreadable, read_image, without_uri
from cluster.storage.store import REMOTE_SCHEMES
from originality.contract.wrong_content import wrong_content

LISTS = (".csv", ".parquet")
"""What a list of images may be: a file with a column of uris."""
URI_COLUMNS = ("uri", "url", "path", "file", "image")
"""Names of that column, best first; in upper or lower case, with or without blanks around."""

_ACCEPTED = "accepted are a .csv or .parquet file, or a folder of .parquet parts, with a column uri"
_AS_CSV = "save it as CSV (UTF-8) with a column uri"
_TO_CSV = "convert it to CSV or Parquet with a column uri"
_REFUSED = {
    ".txt": "write 'uri' above its lines and name it .csv",
    ".tsv": "name it .csv, as columns may be separated by tabs there",
    ".tab": "name it .csv, as columns may be separated by tabs there",
    **dict.fromkeys((".json", ".jsonl", ".ndjson"), f"{_TO_CSV} (pandas: read_json, then to_csv)"),
    **dict.fromkeys((".xlsx", ".xls", ".xlsm", ".ods", ".numbers"), _AS_CSV),
    **dict.fromkeys((".pq", ".parq"), "name it .parquet"),
    **dict.fromkeys((".feather", ".arrow", ".orc", ".avro", ".pkl", ".pickle", ".npy"), _TO_CSV),
    **dict.fromkeys((".yaml", ".yml", ".xml", ".html", ".md", ".db", ".sqlite"), _TO_CSV),
    **dict.fromkeys((".gz", ".bz2", ".xz", ".zst", ".zip", ".tar", ".tgz", ".7z", ".rar"), "unpack it first"),
}  # fmt: skip
"""By ending: what to do with files that are no lists here."""

_KNOWN = "^(" + "|".join((*REMOTE_SCHEMES, "file")) + ")://[^/:@]*(/|$)"
"""The URLs of a list. Others may be presigned. A bucket has no colon: what stands before one is a key, and
the secret behind it may hold slashes, with the @ only after them."""
_BATCH = 50_000
_BEGINNING = 256
"""Bytes that show whether a file is none but stands in place of one."""
_SHOWN = 200
"""Characters of a list's column names in a message."""
_DELIMITERS = (",", ";", "\t")
"""As Excel writes them in different countries, and other programs everywhere."""

csv.field_size_limit(sys.maxsize)


def fix_of(name: str) -> str | None:
    """What to do with a file that a person may take for a list, or for a collection, and that is not read as
    one; None for other names."""
    ending = re.search(r"\.[A-Za-z0-9]+$", name)
    fix = _REFUSED.get(ending[0].lower()) if ending else None
    return f"{_ACCEPTED}: {fix}" if fix else None


@dataclass(frozen=True)
class ListFile:
    """A list that is open."""

    asked: str
    """As the person named it."""
    names: Sequence[str]
    """Of its columns."""
    rows: Iterator[list[str]] | None = None
    """Of a CSV, without the header."""
    parquet: pq.ParquetFile | None = None

    def column(self, wanted: str) -> str | None:
        """The name of a column as it stands in the file; None where it has none.

        Raises:
            InputError: it has several of that name.
        """
        named = [name for name in self.names if _folded(name) == _folded(wanted)]
        if len(named) > 1:
            raise InputError(f"{self.asked} has several columns named {wanted}; leave one")
        return named[0] if named else None

    def of_bytes(self, name: str) -> InputError:
        """What to say of a column that holds the images themselves."""
        return InputError(
            f"{self.asked} holds the images themselves (column {name!r}), which cannot be read yet; write "
            "them out as files and give their folder, or list their uris in a column uri"
        )

    def batches(self, columns: Sequence[str]) -> Iterator[list[pa.Array]]:
        """The values of some columns, as text, in parts.

        Raises:
            InputError: a column holds no text.
            ValueError: the file is damaged.
        """
        if self.parquet is not None:
            for batch in self.parquet.iter_batches(columns=list(columns)):
                yield [self._text(name, batch[name]) for name in columns]
            return
        assert self.rows is not None
        places = [self.names.index(name) for name in columns]
        numbered = enumerate(self.rows, 1)
        while part := list(islice(numbered, _BATCH)):
            for number, row in part:
                if len(row) != len(self.names):
                    said = f"Expected {len(self.names)} columns, got {len(row)}"
                    raise ValueError(f"CSV parse error: row {number}: {said}")
            yield [pa.array([row[place] for _, row in part], pa.string()) for place in places]

    def _text(self, name: str, column: pa.Array) -> pa.Array:
        if column.null_count == len(column):  # whatever its type
            return pa.nulls(len(column), pa.string())
        if not _may_be_text(column.type):
            error = ValueError(f"column {name!r} holds {column.type}; write it as text (string)")
            raise _unreadable(self.asked, error)
        try:
            text = column.cast(pa.string())
            text.validate(full=True)  # Parquet's text may be no UTF-8
        except pa.ArrowInvalid:
            if _is_binary(column.type):
                raise self.of_bytes(name) from None
            raise
        return text


def open_list(asked: str, name: str, data: bytes) -> ListFile:
    """Opens a list by its bytes. ``name`` says by its ending what they are.

    Raises:
        InputError: they cannot be read as such.
    """
    try:
        if data and (found := wrong_content(data[:_BEGINNING])):
            raise InputError(f"{asked} {found}")
        if name.lower().endswith(".csv"):
            return _open_csv(asked, data)
        parquet = pq.ParquetFile(pa.BufferReader(data))
    except InputError:
        raise
    except (pa.ArrowException, OSError, ValueError) as error:
        raise _unreadable(asked, error) from None
    return ListFile(asked, parquet.schema_arrow.names, parquet=parquet)


def read_list(asked: str, name: str, data: bytes, parent: str) -> Manifest:
    """The images of a list, in its order. ``parent``: the folder that relative uris start from.

    Raises:
        InputError: it cannot be read, or names no image.
    """
    table = _table(open_list(asked, name, data), parent)
    return Manifest("", _not_empty(asked, table))


def read_parts(asked: str, root: str, uris: Sequence[str]) -> Manifest:
    """The images of a folder of Parquet parts, part by part in the order of their names. Relative uris start
    from the folder that holds it, as those of a single file in its place would.

    Raises:
        InputError: a part cannot be read, or none names an image.
    """
    tables = []
    for uri in uris:
        part = uri.removeprefix(f"{root}/")
        try:
            data = read_image(uri, lambda _: None)
        except Unreadable as error:
            raise InputError(f"{asked} cannot be read as a list: {error.message}") from error
        opened = open_list(f"{asked.rstrip('/')}/{part}", part, data)
        tables.append(_table(opened, root.rpartition("/")[0], part))
    return Manifest("", _not_empty(asked, pa.concat_tables(tables, promote_options="default")))


def _not_empty(asked: str, table: pa.Table) -> pa.Table:
    if not table.num_rows:
        raise InputError(f"{asked} lists no images")
    if pc.all(pc.match_substring_regex(table["uri"], WITHOUT_URI)).as_py():
        raise InputError(f"{asked} has no uri in any of its {table.num_rows} rows")
    return table


def _table(opened: ListFile, parent: str, part: str = "") -> pa.Table:
    columns = _columns(opened)
    schema = SCHEMA if len(columns) == 1 else SCHEMA.append(WORD)
    batches: list[pa.RecordBatch] = []
    rows = 0
    try:
        for uris, *words in opened.batches(columns):
            uris = pc.utf8_trim_whitespace(uris)
            _check_rows(opened.asked, uris, rows)
            found = [_resolved(uris, parent, rows, part), pa.nulls(len(uris), pa.int64())]
            said = [pc.utf8_trim_whitespace(word) for word in words]
            found += [pc.if_else(pc.equal(word, ""), None, word) for word in said]
            batches.append(pa.record_batch(found, schema))
            rows += len(uris)
    except (pa.ArrowException, OSError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise _unreadable(opened.asked, error) from None
    return pa.Table.from_batches(batches, schema)


def _columns(opened: ListFile) -> list[str]:
    """Those that are read: that of uris, and that of words where there is one.

    Raises:
        InputError: there is no column of uris, or it holds the images themselves.
    """
    folded = [_folded(name) for name in opened.names]
    uri = next((name for name in URI_COLUMNS if name in folded), None)
    kinds = dict(zip(opened.names, opened.parquet.schema_arrow.types, strict=True)) if opened.parquet else {}
    for name, kind in kinds.items():
        if (_is_image(kind) and _folded(name) == uri) or (
            uri is None and (_is_image(kind) or _is_binary(kind))
        ):
            raise opened.of_bytes(name)
    if uri is None or folded.count(uri) > 1:
        # where the first line is missing, a uri takes its place
        have = ", ".join(opened.names)[:_SHOWN] if "://" not in "".join(opened.names) else "a uri"
        needs = f"needs a first line with a column named {' or '.join(URI_COLUMNS)}, once"
        raise InputError(f"{opened.asked} {needs}; it has {have}")
    word = opened.column(WORD.name)
    return [opened.names[folded.index(uri)], *([word] if word is not None else [])]


def _open_csv(asked: str, data: bytes) -> ListFile:
    text = _decoded(data)
    if not text.strip():
        raise ValueError("it is empty")
    names, delimiter = _header(text)
    # who writes "uri, word" writes 'a.png, "a dog"' below
    spaced = any(name.startswith(" ") for name in names[1:])
    rows = _rows(text, delimiter, spaced)
    next(rows)
    return ListFile(asked, names, rows)


def _decoded(data: bytes) -> str:
    if data.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):  # the former begins with UTF-16's
        raise ValueError("it is text in UTF-32; save it as CSV (UTF-8)")
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return data.decode("utf-16")
    if data.startswith(b"PAR1"):
        raise ValueError("it is a Parquet file; name it .parquet")
    if b"\0" in data[:2]:
        raise ValueError("it is no UTF-8 text; save it as CSV (UTF-8)")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ValueError(f"line {line} is no UTF-8 text; save it as CSV (UTF-8)") from None


def _header(text: str) -> tuple[list[str], str]:
    """Names of the columns, and the delimiter: the first with which one of them is a column of uris."""
    for delimiter in _DELIMITERS:
        with suppress(ValueError):  # quotes that fit another delimiter
            names = next(_rows(text, delimiter))
            if any(_folded(name) in URI_COLUMNS for name in names):
                return names, delimiter
    return next(_rows(text, _DELIMITERS[0])), _DELIMITERS[0]


def _rows(text: str, delimiter: str, spaced: bool = False) -> Iterator[list[str]]:
    """The rows of a CSV from its header on, without blank lines.

    Raises:
        ValueError: quotes that do not fit, say.
    """
    rows = csv.reader(
        io.StringIO(text, newline=""), strict=True, delimiter=delimiter, skipinitialspace=spaced
    )
    number = -1
    while True:
        try:
            row = next(rows, None)
        except csv.Error as error:
            where = f"row {number + 1}" if number >= 0 else "first line"
            raise ValueError(f"CSV parse error: {where}: {error}") from None
        if row is None:
            return
        if row:
            number += 1
            yield row


def _folded(name: str) -> str:
    return name.strip("\ufeff \t\r\n\xa0").casefold()


def _is_binary(kind: pa.DataType) -> bool:
    return (
        pa.types.is_binary(kind)
        or pa.types.is_large_binary(kind)
        or pa.types.is_binary_view(kind)
        or pa.types.is_fixed_size_binary(kind)
    )


def _may_be_text(kind: pa.DataType) -> bool:
    """Whether values of a type are text, or bytes that may be; numbers and times would become names."""
    if pa.types.is_dictionary(kind):
        return _may_be_text(kind.value_type)
    is_text = pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    return is_text or _is_binary(kind)


def _is_image(kind: pa.DataType) -> bool:
    """As data sets have it: a struct of bytes and path."""
    return pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0


def _check_rows(asked: str, uris: pa.Array, before: int) -> None:
    """Refuses rows that would carry keys into the run's files; names none but by number, counted from 1, with
    ``before`` rows in front of these."""
    known = pc.match_substring_regex(uris, _KNOWN)
    other = pc.index(pc.and_not(pc.match_substring(uris, "://"), known), True).as_py()
    if other >= 0:
        raise InputError(
            f"{asked}: row {before + other + 1} is a web address, or holds keys, or is of no known kind; "
            "keys would stand in the run's files, so give them by AWS_PROFILE or AWS_ACCESS_KEY_ID, and "
            "name images as a path, file:///path, s3://bucket/key, gs://bucket/key or az://container/key"
        )


def _resolved(uris: pa.Array, parent: str, before: int, part: str) -> pa.Array:
    """The uris of a list: what is relative starts from ``parent``, and is spelt without empty parts and dots,
    as :class:`pathlib.PurePosixPath` does. Rows without one keep a place of their own."""
    uris = pc.fill_null(uris, "")
    empty = pc.equal(uris, "")
    rows = np.flatnonzero(empty.to_numpy(zero_copy_only=False)) + before + 1
    places = [without_uri(int(row), part) for row in rows]
    relative = pc.and_not(pc.invert(pc.match_substring_regex(uris, "^/|://")), empty)
    framed = pc.binary_join_element_wise("/", uris.filter(relative), "/", "")
    names = pc.utf8_trim(pc.replace_substring_regex(framed, r"/(\.?/)+", "/"), "/")
    names = pc.if_else(pc.equal(names, ""), ".", names)
    absolute = pc.replace_with_mask(uris, relative, pc.binary_join_element_wise(parent, names, "/"))
    return pc.replace_with_mask(absolute, empty, pa.array(places, pa.string()))


def _unreadable(asked: str, error: Exception) -> InputError:
    """Arrow's own words, without the row that they quote. Rows are counted without the first line."""
    said = re.sub(r"(got \d+):.*", r"\1", (str(error).splitlines() or [type(error).__name__])[0])
    return InputError(f"{asked} cannot be read as a list: {said}")
