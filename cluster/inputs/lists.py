"""Lists of images: CSV or Parquet files, or folders of Parquet files, with a column of uris."""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from cluster.inputs.csv_lists import URI_COLUMNS, normalised, open_csv
from cluster.inputs.list_columns import (
    MOST_ROW_BYTES,
    is_kept,
    joined,
    kept_columns,
    plain_values,
    typed,
    within_size,
    without_secrets,
)
from cluster.inputs.manifest import LISTED_AS, SCHEMA, WORD, InputError, Manifest
from cluster.inputs.sources import WITHOUT_URI, Unreadable, read_image
from cluster.inputs.unreadable import without_uri
from cluster.storage.store import REMOTE_SCHEMES
from originality.contract.wrong_content import wrong_content

_log = logging.getLogger(__name__)

LISTS = (".csv", ".parquet")
"""Extensions of lists: files with a column of uris."""
_ACCEPTED = "accepted are a .csv or .parquet file, or a folder of .parquet files, with a column uri"
_AS_CSV = "save it as CSV (UTF-8) with a column uri"
_TO_CSV = "convert it to CSV or Parquet with a column uri"
_REFUSED = {
    ".txt": "add 'uri' as its first line and name it .csv",
    ".tsv": "name it .csv; tabs are accepted as delimiters",
    ".tab": "name it .csv; tabs are accepted as delimiters",
    **dict.fromkeys((".json", ".jsonl", ".ndjson"), f"{_TO_CSV} (pandas: read_json, then to_csv)"),
    **dict.fromkeys((".xlsx", ".xls", ".xlsm", ".ods", ".numbers"), _AS_CSV),
    **dict.fromkeys((".pq", ".parq"), "name it .parquet"),
    **dict.fromkeys((".feather", ".arrow", ".orc", ".avro", ".pkl", ".pickle", ".npy"), _TO_CSV),
    **dict.fromkeys((".yaml", ".yml", ".xml", ".html", ".md", ".db", ".sqlite"), _TO_CSV),
    **dict.fromkeys((".gz", ".bz2", ".xz", ".zst", ".zip", ".7z", ".rar"), "unpack it first"),
    **dict.fromkeys((".tgz", ".tbz", ".tbz2", ".txz", ".tzst"), "decompress it to .tar"),
}  # fmt: skip
"""Fixes by extension, for files that are not accepted as lists."""

_KNOWN = "^(" + "|".join((*REMOTE_SCHEMES, "file")) + ")://[^/:@]*(/|$)"
"""URLs that a list may contain. Any other may be presigned or contain credentials, which must not get into
the run's files. The name of a bucket has no colon: text before a colon is a user or key, and the secret
behind it may contain slashes, with the @ only after them."""
_BATCH = 50_000
_BEGINNING = 256
"""Bytes that show whether a file is only a stand-in for one, such as a pointer of Git LFS."""
_SHOWN = 200
"""Characters of a list's column names in a message."""


def fix_of(name: str) -> str | None:
    """The fix for a file that a user may take for a list or a collection, but that is not accepted as one.
    None for other names."""
    ending = re.search(r"\.[A-Za-z0-9]+$", name)
    fix = _REFUSED.get(ending[0].lower()) if ending else None
    return f"{_ACCEPTED}: {fix}" if fix else None


@dataclass(frozen=True)
class ListFile:
    """An open list."""

    shown_as: str
    """The list as the user named it, for messages."""
    names: Sequence[str]
    """Names of its columns."""
    rows: Iterator[list[str]] | None = None
    """Rows of a CSV, without the header; None for Parquet."""
    parquet: pq.ParquetFile | None = None

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
        if self.parquet is not None:
            for batch in self.parquet.iter_batches(columns=[*columns, *others]):
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
            raise _unreadable(self.shown_as, error)
        try:
            text = column.cast(pa.string())
            text.validate(full=True)  # text in Parquet may not be valid UTF-8
        except pa.ArrowInvalid:
            if _is_binary(column.type):
                raise self.of_bytes(name) from None
            raise
        return text


def open_list(shown_as: str, name: str, data: bytes) -> ListFile:
    """Open a list from its bytes.

    Args:
        shown_as: the list as the user named it, for messages.
        name: of the file; its extension decides the format.

    Raises:
        InputError: it cannot be read in that format.
    """
    try:
        if data and (found := wrong_content(data[:_BEGINNING])):
            raise InputError(f"{shown_as} {found}")
        if name.lower().endswith(".csv"):
            return ListFile(shown_as, *open_csv(data))
        parquet = pq.ParquetFile(pa.BufferReader(data))
    except InputError:
        raise
    except (pa.ArrowException, OSError, ValueError) as error:
        raise _unreadable(shown_as, error) from None
    return ListFile(shown_as, parquet.schema_arrow.names, parquet=parquet)


def read_list(
    shown_as: str, name: str, data: bytes, parent: str, wanted: Sequence[str] | None = None
) -> Manifest:
    """The images of a list, in its order.

    Args:
        shown_as: the list as the user named it, for messages.
        name: of the file; its extension decides the format.
        parent: the folder that relative uris are relative to.
        wanted: names of the columns that are kept beside the uris; None: all.

    Raises:
        InputError: it cannot be read, or has no rows with a uri.
    """
    table = _table(open_list(shown_as, name, data), parent, wanted=wanted)
    return Manifest("", _not_empty(shown_as, table))


def read_parts(
    shown_as: str, root: str, uris: Sequence[str], wanted: Sequence[str] | None = None
) -> Manifest:
    """The images of a list in several Parquet files, in the order of the files' names. Relative uris are
    relative to the parent of the folder, as for a single file in the folder's place.

    Raises:
        InputError: a file cannot be read, or none has a row with a uri.
    """
    tables = []
    for uri in uris:
        part = uri.removeprefix(f"{root}/")
        try:
            data = read_image(uri, lambda _: None)
        except Unreadable as error:
            raise InputError(f"{shown_as} cannot be read as a list: {error.message}") from error
        opened = open_list(f"{shown_as.rstrip('/')}/{part}", part, data)
        tables.append(_table(opened, root.rpartition("/")[0], part, wanted))
    return Manifest("", _not_empty(shown_as, joined(tables)))


def _not_empty(shown_as: str, table: pa.Table) -> pa.Table:
    if not table.num_rows:
        raise InputError(f"{shown_as} lists no images")
    if pc.all(pc.match_substring_regex(table["uri"], WITHOUT_URI)).as_py():
        raise InputError(f"{shown_as} has no uri in any of its {table.num_rows} rows")
    return table


def _table(opened: ListFile, parent: str, part: str = "", wanted: Sequence[str] | None = None) -> pa.Table:
    uri = _uri_column(opened)
    kinds = opened.parquet.schema_arrow if opened.parquet else None
    bytes_columns = [field.name for field in kinds if not is_kept(field.type)] if kinds else []
    kept = kept_columns(opened.shown_as, opened.names, [uri, *bytes_columns], wanted)
    words = [column for column in kept if column.kept_as == WORD.name]
    others = [column for column in kept if column not in words]
    batches: list[pa.Table] = []
    left_out: Counter[str] = Counter()
    rows = 0
    try:
        texts = [uri, *(column.name for column in words)]
        for uris, *values in opened.batches(texts, [column.name for column in others]):
            uris = pc.utf8_trim_whitespace(uris)
            _check_rows(opened.shown_as, uris, rows)
            values, too_large = within_size([*words, *others], values)
            left_out.update(too_large)
            found = {"uri": _resolved(uris, parent, rows, part), "bytes": pa.nulls(len(uris), pa.int64())}
            found[LISTED_AS] = pc.if_else(pc.equal(uris, ""), None, uris)
            for column, value in zip([*words, *others], values, strict=True):
                if column in words:
                    value = pc.utf8_trim_whitespace(value)
                    value = pc.if_else(pc.equal(value, ""), None, value)
                found[column.kept_as] = value
            batches.append(pa.table(found))
            rows += len(uris)
    except (pa.ArrowException, OSError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise _unreadable(opened.shown_as, error) from None
    for name, count in left_out.items():
        _log.warning(
            "%s: values of column %r are left out in %d rows: at most %d bytes a row are kept beside the uri",
            opened.shown_as,
            name,
            count,
            MOST_ROW_BYTES,
        )
    if not batches:
        return pa.table({"uri": [], "bytes": []}, SCHEMA)
    table = pa.concat_tables(batches)
    if opened.rows is None:
        return table
    for column in others:
        place = table.column_names.index(column.kept_as)
        table = table.set_column(place, column.kept_as, typed(table[column.kept_as]))
    return table


def _uri_column(opened: ListFile) -> str:
    """The name of the column of uris.

    Raises:
        InputError: there is no column of uris, or it contains the images themselves.
    """
    names = [normalised(name) for name in opened.names]
    uri = next((name for name in URI_COLUMNS if name in names), None)
    kinds = dict(zip(opened.names, opened.parquet.schema_arrow.types, strict=True)) if opened.parquet else {}
    for name, kind in kinds.items():
        if (_is_image(kind) and normalised(name) == uri) or (
            uri is None and (_is_image(kind) or _is_binary(kind))
        ):
            raise opened.of_bytes(name)
    if uri is None or names.count(uri) > 1:
        # Without a header the first row is taken for it: a uri is not repeated, as it may contain
        # credentials.
        have = ", ".join(opened.names)[:_SHOWN] if "://" not in "".join(opened.names) else "a uri"
        needs = f"needs a first line with a column named {' or '.join(URI_COLUMNS)}, once"
        raise InputError(f"{opened.shown_as} {needs}; it has {have}")
    return opened.names[names.index(uri)]


def _is_binary(kind: pa.DataType) -> bool:
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
    return is_text or _is_binary(kind)


def _is_image(kind: pa.DataType) -> bool:
    """Whether a type is that of images in Hugging Face data sets: a struct of bytes and path."""
    return pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0


def _check_rows(shown_as: str, uris: pa.Array, before: int) -> None:
    """Refuse rows that would write credentials into the run's files. The message gives the row's number only,
    counted from 1, with ``before`` rows ahead of these."""
    known = pc.match_substring_regex(uris, _KNOWN)
    other = pc.index(pc.and_not(pc.match_substring(uris, "://"), known), True).as_py()
    if other >= 0:
        raise InputError(
            f"{shown_as}: row {before + other + 1} is a web address, contains credentials, or is of an "
            "unknown kind; credentials would be written to the run's files, so set AWS_PROFILE or "
            "AWS_ACCESS_KEY_ID, and write images as a path, file:///path, s3://bucket/key, gs://bucket/key or az://container/key"
        )


def _resolved(uris: pa.Array, parent: str, before: int, part: str) -> pa.Array:
    """The uris of a list made absolute. Relative ones start from ``parent``, and lose empty parts and single
    dots, as with :class:`pathlib.PurePosixPath`. Rows without a uri get a placeholder (see unreadable.py)."""
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


def _unreadable(shown_as: str, error: Exception) -> InputError:
    """The error for a list that cannot be parsed, with Arrow's message. The row that Arrow quotes is left
    out, as it may contain credentials. Rows are counted without the header."""
    reason = re.sub(r"(got \d+):.*", r"\1", (str(error).splitlines() or [type(error).__name__])[0])
    return InputError(f"{shown_as} cannot be read as a list: {reason}")
