"""The columns that the explorer shows, filters and sorts by.

Each has a name for people and an identifier for SQL. Identifiers are ours: no name that a list or a request
has ever becomes part of a statement.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import pyarrow as pa

from jobs.auditing.results_table import PENDING, distinct_names

Kind = Literal["text", "number", "flag", "time"]
"""What values a column has. Lists, structs and bytes are shown as text."""
Origin = Literal["verdict", "list", "against"]
"""Where a column comes from: the run, the collection's list, or the run that it is compared with."""


@dataclass(frozen=True)
class Column:
    """One column of the table ``items``."""

    name: str
    kind: Kind
    sql: str
    """Its identifier in statements."""
    origin: Origin = "verdict"
    sorted_by: str = ""
    """Expression that rows are sorted by; empty: the column itself."""
    whole: bool = False
    """Whether its numbers are integers."""

    @property
    def order(self) -> str:
        """The expression that rows are sorted by."""
        return self.sorted_by or self.sql


_TOKENS = "CASE WHEN {v}.status = 'judged' THEN coalesce({v}.min_tokens::VARCHAR, 'never') END"
_FEWEST = "CASE WHEN {v}.status = 'judged' THEN coalesce({v}.min_tokens, {v}.max_tokens + 1) END"
ABSENT = "absent"
"""Status of an image that the other run has no verdict on."""

_OWN: tuple[tuple[Column, str], ...] = (
    (Column("number", "number", "number", whole=True), "i.number"),
    (Column("name", "text", "name"), "i.name"),
    (Column("uri", "text", "uri"), "i.uri"),
    (Column("tokens", "text", "tokens", sorted_by="fewest"), _TOKENS.format(v="v")),
    (Column("score", "number", "score"), "v.score"),
    (Column("score_low", "number", "score_low"), "v.score_low"),
    (Column("score_high", "number", "score_high"), "v.score_high"),
    (Column("confidence", "number", "confidence"), "v.confidence"),
    (Column("reference_distance", "number", "reference_distance"), "v.reference_distance"),
    (Column("status", "text", "status"), f"coalesce(v.status, '{PENDING}')"),
    (Column("error_class", "text", "error_class"), "v.error_class"),
    (Column("error_message", "text", "error_message"), "v.error_message"),
    (Column("note", "text", "note"), "v.note"),
    (Column("redrawn_at", "number", "redrawn_at", whole=True), "v.redrawn_at"),
    (Column("in_distribution_at", "number", "in_distribution_at", whole=True), "v.in_distribution_at"),
    (Column("initial_word", "text", "initial_word"), "v.initial_word"),
    (Column("edit_subject", "text", "edit_subject"), "v.edit_subject"),
    (Column("bytes", "number", "bytes", whole=True), "i.bytes"),
    (Column("attempts", "number", "attempts", whole=True), "v.attempts"),
    (Column("finished_at", "time", "finished_at"), "v.finished_at"),
    (Column("image_id", "text", "image_id"), "i.image_id"),
)
"""Columns of every run, and what they are made of: of an input ``i`` and its verdict ``v``."""

_FIRST = 9
"""How many of them come before the columns of the other run and of the list."""

_AGAINST: tuple[tuple[Column, str], ...] = (
    (
        Column("against_tokens", "text", "against_tokens", "against", "against_fewest"),
        _TOKENS.format(v="w"),
    ),
    (Column("against_score", "number", "against_score", "against"), "w.score"),
    (Column("against_confidence", "number", "against_confidence", "against"), "w.confidence"),
    (Column("against_status", "text", "against_status", "against"), f"coalesce(w.status, '{ABSENT}')"),
    (
        Column("moved", "number", "moved", "against", "abs(moved)", whole=True),
        f"{_FEWEST.format(v='w')} - {_FEWEST.format(v='v')}",
    ),
    (
        Column("score_moved", "number", "score_moved", "against", "abs(score_moved)"),
        "w.score - v.score",
    ),
)
"""Further columns where a run is compared with another, whose verdict is ``w``. Those of movements are
positive where the other run needs more tokens, and sorted by their size in either direction."""

_HIDDEN = (("fewest", _FEWEST.format(v="v")), ("artefacts", "v.artefacts"))
_HIDDEN_AGAINST = (("against_fewest", _FEWEST.format(v="w")), ("against_artefacts", "w.artefacts"))


@dataclass(frozen=True)
class Schema:
    """The columns of one exploration."""

    columns: dict[str, Column]
    """By name, in the order in which they are shown."""
    selected: str
    """The select list that makes them of ``i``, ``v`` and ``w``."""

    @classmethod
    def of(cls, listed: pa.Schema, compared: bool) -> Schema:
        """The columns of a run.

        Args:
            listed: what the collection's list adds, under its own names.
            compared: whether the run is compared with another.
        """
        against = _AGAINST if compared else ()
        names = distinct_names(listed.names, [column.name for column, _ in (*_OWN, *against)])
        extra = [
            (_listed(name, field.type, f"listed_{k}"), f"i.listed_{k}")
            for k, (name, field) in enumerate(zip(names, listed, strict=True))
        ]
        every = [*_OWN[:_FIRST], *against, *extra, *_OWN[_FIRST:]]
        hidden = _HIDDEN + (_HIDDEN_AGAINST if compared else ())
        made = [(column.sql, expression) for column, expression in every]
        made += [*hidden, ("search", "i.search")]
        return cls(
            {column.name: column for column, _ in every},
            ", ".join(f"{expression} AS {name}" for name, expression in made),
        )


def _listed(name: str, type_: pa.DataType, sql: str) -> Column:
    return Column(name, kind_of(type_), sql, "list", whole=pa.types.is_integer(type_))


def kind_of(type_: pa.DataType) -> Kind:
    """The kind of an Arrow type."""
    if pa.types.is_boolean(type_):
        return "flag"
    if pa.types.is_integer(type_) or pa.types.is_floating(type_) or pa.types.is_decimal(type_):
        return "number"
    return "time" if pa.types.is_timestamp(type_) or pa.types.is_date(type_) else "text"


def loadable(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """A column's values as types that every statement understands: text, numbers, flags and times in UTC."""
    type_ = column.type
    kind = kind_of(type_)
    if pa.types.is_decimal(type_):
        return column.cast(pa.float64())
    if kind == "time":
        return column.cast(pa.timestamp("us"), safe=False)
    if kind == "text" and not pa.types.is_string(type_):
        return _as_text(column)
    return column


def _as_text(column: pa.ChunkedArray) -> pa.ChunkedArray:
    try:
        return column.cast(pa.string())
    except (pa.ArrowException, UnicodeDecodeError):
        texts: Sequence[str | None] = [None if v is None else str(v) for v in column.to_pylist()]
        return pa.chunked_array([pa.array(texts, pa.string())])
