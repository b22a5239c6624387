"""The columns of a list beside its uris: which are kept, under which names, and of which types.

They travel with each input: to the scorer, to ``inputs/*.parquet``, to the report. A value is kept as a
number, a truth value, a time or text; lists and structs are kept as JSON text, and bytes are left out.
Secrets in text, such as the signature of a presigned address, are masked, as the values are written to the
run's files.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cluster.inputs.csv_lists import normalised
from cluster.inputs.manifest import OWN_NAMES, WORD, InputError
from originality.contract.redaction import masked

MOST_ROW_BYTES = 64 * 2**10
"""Largest size of the text values of a row, in bytes of UTF-8. They go to the worker that judges it."""
_MAY_HOLD_SECRETS = r"(?i)://|key|token|secret|passw|signature|bearer|credential"
_LEADING_ZERO = r"^[+-]?0[0-9]"
"""Matches numbers that are names, such as the article number 007."""


@dataclass(frozen=True)
class Column:
    """A column of a list that is kept."""

    name: str
    """In the list."""
    kept_as: str
    """In the manifest and the tables of the run."""


def kept_columns(
    shown_as: str, names: Sequence[str], without: Collection[str], wanted: Sequence[str] | None
) -> list[Column]:
    """The columns of a list that are kept, in its order.

    Args:
        shown_as: the list as the user named it, for messages.
        names: of all its columns.
        without: names that are never kept, such as that of the uris.
        wanted: names that the user asked for; None: all. A column of words is kept in any case.

    Raises:
        InputError: a wanted column does not exist, or there are several columns of words.
    """
    others = [name for name in names if name not in without]
    words = [name for name in others if normalised(name) == WORD.name]
    if len(words) > 1:
        raise InputError(f"{shown_as} has several columns named {WORD.name}; leave one")
    if wanted is not None:
        by_name = {normalised(name): name for name in others}
        unknown = [name for name in wanted if normalised(name) not in by_name]
        if unknown:
            have = ", ".join(others)[:200] or "none beside the uris"
            raise InputError(f"{shown_as} has no column {unknown[0]!r}; its columns are {have}")
        chosen = {by_name[normalised(name)] for name in wanted}
        others = [name for name in others if name in chosen or name in words]
    taken: set[str] = set()
    found = []
    for name in dict.fromkeys(others):  # of several columns with one name, the first
        plain = WORD.name if name in words else name.strip("\ufeff \t\r\n\xa0")
        if not plain:
            continue  # the nameless column of row numbers that pandas writes
        kept_as = f"list_{plain}" if plain in OWN_NAMES else plain
        while kept_as in taken:
            kept_as += "_"
        taken.add(kept_as)
        found.append(Column(name, kept_as))
    return found


def is_kept(kind: pa.DataType) -> bool:
    """Whether values of a type are kept: all but bytes."""
    if pa.types.is_dictionary(kind):
        return is_kept(kind.value_type)
    bytes_types = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_fixed_size_binary)
    return not (any(is_type(kind) for is_type in bytes_types) or pa.types.is_binary_view(kind))


def plain_values(column: pa.Array) -> pa.Array:
    """Values of a Parquet column as they are kept: of a type that JSON and Parquet have, without secrets."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        return plain_values(column.dictionary_decode())
    if pa.types.is_boolean(kind) or pa.types.is_date(kind) or pa.types.is_timestamp(kind):
        return column
    if pa.types.is_integer(kind):
        return column if kind == pa.uint64() else column.cast(pa.int64())
    if pa.types.is_floating(kind):
        return column.cast(pa.float64())
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return without_secrets(_valid_text(column))
    if pa.types.is_nested(kind):
        values = [None if value is None else _json(value) for value in column.to_pylist()]
        return without_secrets(pa.array(values, pa.string()))
    values = [None if value is None else str(value) for value in column.to_pylist()]  # decimals, durations
    return without_secrets(pa.array(values, pa.string()))


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, default=_text_of)


def _text_of(value: object) -> str:
    return f"{len(value)} bytes" if isinstance(value, bytes) else str(value)


def _valid_text(column: pa.Array) -> pa.Array:
    """Text as UTF-8: bytes in Parquet that are not are replaced."""
    text = column.cast(pa.string())
    try:
        text.validate(full=True)
    except pa.ArrowInvalid:
        raw = [None if value is None else value.decode(errors="replace") for value in _bytes(text)]
        return pa.array(raw, pa.string())
    return text


def _bytes(text: pa.Array) -> list[bytes | None]:
    found: list[bytes | None] = text.view(pa.binary()).to_pylist()
    return found


def without_secrets(text: pa.Array) -> pa.Array:
    """Text with keys, tokens and signatures masked."""
    doubtful = pc.fill_null(pc.match_substring_regex(text, _MAY_HOLD_SECRETS), False)
    if not pc.any(doubtful).as_py():
        return text
    clean = pa.array([masked(value) for value in text.filter(doubtful).to_pylist()], pa.string())
    return pc.replace_with_mask(text, doubtful, clean)


def typed(text: pa.ChunkedArray) -> pa.ChunkedArray:
    """A CSV column with the type that all its values have: integers, numbers, truth values, else text.

    Empty cells are null. Numbers with leading zeros are text, as they are names.
    """
    filled = text.filter(pc.is_valid(text))
    if not len(filled) or pc.any(pc.match_substring_regex(filled, _LEADING_ZERO)).as_py():
        return text
    for kind in (pa.int64(), pa.float64()):
        try:
            return text.cast(kind)
        except pa.ArrowInvalid:
            pass
        if kind == pa.int64() and pc.all(pc.match_substring_regex(filled, "^[+-]?[0-9]+$")).as_py():
            return text  # beyond 64 bits, where a floating point number would change digits
    if pc.all(pc.is_in(pc.utf8_lower(filled), pa.array(["true", "false"]))).as_py():
        return pc.utf8_lower(text).cast(pa.bool_())
    return text


def within_size(
    columns: Sequence[Column], values: Sequence[pa.Array]
) -> tuple[list[pa.Array], dict[str, int]]:
    """Values of some rows without those that make their row too large: the longest are left out first.

    Returns:
        The values, and by name of a column how many were left out of it.
    """
    kept = list(values)
    texts = [k for k, value in enumerate(values) if pa.types.is_string(value.type)]
    if not texts:
        return kept, {}
    sizes = np.stack([_sizes(values[k]) for k in texts])
    left_out: dict[str, int] = {}
    masks = np.zeros(sizes.shape, bool)
    for row in np.flatnonzero(sizes.sum(0) > MOST_ROW_BYTES):
        for place in np.argsort(-sizes[:, row], kind="stable"):
            if sizes[:, row].sum() <= MOST_ROW_BYTES:
                break
            masks[place, row], sizes[place, row] = True, 0
    for place, k in enumerate(texts):
        if masks[place].any():
            kept[k] = pc.if_else(pa.array(masks[place]), None, values[k])
            left_out[columns[k].name] = int(masks[place].sum())
    return kept, left_out


def _sizes(text: pa.Array) -> np.ndarray:
    """Bytes of each value: int64."""
    return pc.fill_null(pc.binary_length(text), 0).to_numpy(zero_copy_only=False).astype(np.int64)


def joined(tables: Sequence[pa.Table]) -> pa.Table:
    """The rows of several files as one table.

    A column that one file lacks is null there; one that has different types is text.
    """
    try:
        return pa.concat_tables(tables, promote_options="permissive")
    except pa.ArrowTypeError:
        kinds: dict[str, set[pa.DataType]] = {}
        for table in tables:
            for field in table.schema:
                kinds.setdefault(field.name, set()).add(field.type)
        mixed = {name for name, types in kinds.items() if len(types) > 1}
        return pa.concat_tables([_as_text(table, mixed) for table in tables], promote_options="permissive")


def _as_text(table: pa.Table, columns: Collection[str]) -> pa.Table:
    for place, name in enumerate(table.column_names):
        if name in columns:
            table = table.set_column(place, name, table[name].cast(pa.string()))
    return table
