"""Lists of images: CSV, JSON Lines or Parquet files, or folders of Parquet files, with a column of uris."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cluster.inputs.csv_lists import URI_COLUMNS, normalised
from cluster.inputs.image_columns import is_image
from cluster.inputs.list_columns import MOST_ROW_BYTES, is_kept, joined, kept_columns, typed, within_size
from cluster.inputs.list_files import ListFile, is_binary, open_list, unreadable_list
from cluster.inputs.manifest import LISTED_AS, SCHEMA, WORD, InputError, Manifest
from cluster.inputs.sources import WITHOUT_URI, Unreadable, read_image
from cluster.inputs.table_options import DEFAULTS, TableOptions
from cluster.inputs.unreadable import without_uri
from cluster.storage.store import REMOTE_SCHEMES

_log = logging.getLogger(__name__)

_KNOWN = "^(" + "|".join((*REMOTE_SCHEMES, "file")) + ")://[^/:@]*(/|$)"
"""URLs that a list may contain. Any other may be presigned or contain credentials, which must not get into
the run's files. The name of a bucket has no colon: text before a colon is a user or key, and the secret
behind it may contain slashes, with the @ only after them."""
_SHOWN = 200
"""Characters of a list's column names in a message."""


def read_list(
    shown_as: str, name: str, data: bytes, parent: str, options: TableOptions = DEFAULTS
) -> Manifest:
    """The images of a list, in its order.

    Args:
        shown_as: the list as the user named it, for messages.
        name: of the file; its extension decides the format.
        parent: the folder that relative uris are relative to.
        options: how it is read.

    Raises:
        InputError: it cannot be read, or has no rows with a uri.
    """
    opened = open_list(shown_as, name, data, options.delimiter)
    table = _table(opened, parent, wanted=options.columns)
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
    kinds = opened.schema
    bytes_columns = [field.name for field in kinds or () if not is_kept(field.type)]
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
        raise unreadable_list(opened.shown_as, error) from None
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
    kinds = dict(zip(opened.names, opened.schema.types, strict=True)) if opened.schema else {}
    for name, kind in kinds.items():
        if (is_image(kind) and normalised(name) == uri) or (
            uri is None and (is_image(kind) or is_binary(kind))
        ):
            raise opened.of_bytes(name)
    if uri is None or names.count(uri) > 1:
        # Without a header the first row is taken for it: a uri is not repeated, as it may contain
        # credentials.
        have = ", ".join(opened.names)[:_SHOWN] if "://" not in "".join(opened.names) else "a uri"
        needs = f"needs a first line with a column named {' or '.join(URI_COLUMNS)}, once"
        raise InputError(f"{opened.shown_as} {needs}; it has {have}")
    return opened.names[names.index(uri)]


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
