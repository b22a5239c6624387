"""Lists in CSV: their encoding, delimiter, header and rows."""

from __future__ import annotations

import codecs
import csv
import io
import sys
from collections.abc import Iterator
from contextlib import suppress

URI_COLUMNS = ("uri", "url", "path", "file", "image")
"""Names of the column of uris, the preferred first; upper or lower case, with or without spaces around."""
_DELIMITERS = (",", ";", "\t", "|")
"""Delimiters that Excel writes in different countries, and other programs everywhere."""

csv.field_size_limit(sys.maxsize)


def open_csv(data: bytes, delimiter: str | None = None) -> tuple[list[str], Iterator[list[str]]]:
    """Names of the columns of a CSV, and an iterator over its rows without the header.

    Args:
        data: the bytes of the file.
        delimiter: one character between cells; None: the one with which the header has a column of uris.

    Raises:
        ValueError: it cannot be read as CSV.
    """
    text = _decoded(data)
    if not text.strip():
        raise ValueError("the file is empty")
    if delimiter is None:
        names, delimiter = _header(text)
    else:
        names = next(_rows(text, delimiter))
    # A space behind the delimiter in the header, as in "uri, word", means that the rows have one too, as in
    # 'a.png, "a dog"': quotes count only if it is skipped.
    skip_spaces = any(name.startswith(" ") for name in names[1:])
    rows = _rows(text, delimiter, skip_spaces)
    next(rows)
    return names, rows


def _decoded(data: bytes) -> str:
    """The text of a CSV in UTF-8 or UTF-16.

    Raises:
        ValueError: it is in another encoding, or not text.
    """
    if data.startswith(
        (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)
    ):  # first: one begins with the mark of UTF-16
        raise ValueError("the text is in UTF-32; save it as CSV (UTF-8)")
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return data.decode("utf-16")
    if data.startswith(b"PAR1"):
        raise ValueError("this is a Parquet file; name it .parquet")
    if b"\0" in data[:2]:
        raise ValueError("not UTF-8 text; save it as CSV (UTF-8)")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ValueError(f"line {line} is not UTF-8 text; save it as CSV (UTF-8)") from None


def _header(text: str) -> tuple[list[str], str]:
    """Names of the columns, and the delimiter: the first one with which a column of uris is found."""
    for delimiter in _DELIMITERS:
        with suppress(ValueError):  # quotes that are valid only with another delimiter
            names = next(_rows(text, delimiter))
            if any(normalised(name) in URI_COLUMNS for name in names):
                return names, delimiter
    return next(_rows(text, _DELIMITERS[0])), _DELIMITERS[0]


def _rows(text: str, delimiter: str, skip_spaces: bool = False) -> Iterator[list[str]]:
    """The rows of a CSV from its header on, without blank lines.

    Raises:
        ValueError: the CSV is invalid; names the row, counted from 1 behind the header.
    """
    rows = csv.reader(
        io.StringIO(text, newline=""), strict=True, delimiter=delimiter, skipinitialspace=skip_spaces
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


def normalised(name: str) -> str:
    """The name of a column for comparison: case folded, without surrounding spaces or a byte order mark."""
    return name.strip("\ufeff \t\r\n\xa0").casefold()
