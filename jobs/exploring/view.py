"""What a person looks at: conditions on columns, words to find, an order. As SQL with values apart."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from jobs.exploring.columns import Column, Kind

Operation = Literal["contains", "equals", "in", "from", "to", "below", "missing", "present"]
_FOR_KIND: Mapping[Kind, frozenset[str]] = {
    "text": frozenset({"contains", "equals", "in"}),
    "number": frozenset({"equals", "from", "to", "below"}),
    "flag": frozenset({"equals"}),
    "time": frozenset({"from", "to", "below"}),
}
"""Operations of each kind of column, beside "missing" and "present", which all have."""
_COMPARED = {"equals": "=", "from": ">=", "to": "<=", "below": "<"}
MOST_ROWS = 200
"""Most rows of one page."""


class ViewError(ValueError):
    """A view that cannot be shown; the message is one line."""


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Condition(_Strict):
    """A condition on one column."""

    column: str = Field(max_length=10_000)
    op: Operation
    value: str | float | bool | None = None
    """What to compare with: a number, a text, true or false, a time in ISO 8601."""
    values: tuple[str, ...] = Field(default=(), max_length=1000)
    """For ``in``: one of these."""


class View(_Strict):
    """Which rows are shown, in which order."""

    find: str = Field("", max_length=1000)
    """Words that must all occur in a row's uri or the texts of its list."""
    where: tuple[Condition, ...] = Field((), max_length=50)
    sort: str = "number"
    """Name of a column; rows without a value come last."""
    down: bool = False
    offset: int = Field(0, ge=0, le=10**12)
    limit: int = Field(60, ge=1, le=MOST_ROWS)

    @classmethod
    def parse(cls, text: str) -> View:
        """A view from JSON.

        Raises:
            ViewError: it is not valid.
        """
        try:
            return cls.model_validate_json(text or "{}")
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            raise ViewError(f"view: {where}: {first['msg']}") from error

    def without(self, columns: Sequence[str]) -> View:
        """The same without conditions on some columns."""
        return self.model_copy(update={"where": tuple(c for c in self.where if c.column not in columns)})


@dataclass(frozen=True)
class Where:
    """A WHERE clause with its values."""

    sql: str
    """With a leading space; empty if every row is shown."""
    values: list[Any]


def where(view: View, columns: Mapping[str, Column]) -> Where:
    """The conditions of a view as SQL.

    Raises:
        ViewError: a column does not exist, or its kind does not have the operation.
    """
    parts: list[str] = []
    values: list[Any] = []
    for word in view.find.lower().split():
        parts.append("contains(search, ?)")
        values.append(word)
    for condition in view.where:
        sql, given = _condition(condition, column_of(condition.column, columns))
        parts.append(sql)
        values += given
    return Where(" WHERE " + " AND ".join(parts) if parts else "", values)


def order(view: View, columns: Mapping[str, Column], backwards: bool = False) -> str:
    """The ORDER BY clause of a view; rows that are equal keep the order of the list.

    Args:
        view: the view.
        columns: those there are, by name.
        backwards: the same order from its end.

    Raises:
        ViewError: there is no such column.
    """
    column = column_of(view.sort, columns).order
    if backwards:
        return f" ORDER BY {column} {'ASC' if view.down else 'DESC'} NULLS FIRST, number DESC"
    return f" ORDER BY {column} {'DESC' if view.down else 'ASC'} NULLS LAST, number"


def column_of(name: str, columns: Mapping[str, Column]) -> Column:
    """The column of a name.

    Raises:
        ViewError: there is none.
    """
    if name not in columns:
        raise ViewError(f"no column {name[:100]!r}")
    return columns[name]


def _condition(condition: Condition, column: Column) -> tuple[str, list[Any]]:
    if condition.op == "missing":
        return f"{column.sql} IS NULL", []
    if condition.op == "present":
        return f"{column.sql} IS NOT NULL", []
    if condition.op not in _FOR_KIND[column.kind]:
        raise ViewError(
            f"{column.name[:100]!r} has values of the kind {column.kind}, without {condition.op!r}"
        )
    if condition.op == "in":
        if not condition.values:
            return "false", []
        return f"{column.sql} IN ({', '.join('?' * len(condition.values))})", list(condition.values)
    value = _value(condition, column)
    if condition.op == "contains":
        return f"contains(lower({column.sql}), ?)", [str(value).lower()]
    return f"{column.sql} {_COMPARED[condition.op]} ?", [value]


def _value(condition: Condition, column: Column) -> Any:
    """The value of a condition as its column has them.

    Raises:
        ViewError: it is of a different kind.
    """
    value = condition.value
    try:
        if column.kind == "time" and isinstance(value, str):
            time = datetime.fromisoformat(value)
            return time.astimezone(UTC).replace(tzinfo=None) if time.tzinfo else time
        fits = {
            "text": isinstance(value, str),
            "number": isinstance(value, float | int) and not isinstance(value, bool) and math.isfinite(value),
            "flag": isinstance(value, bool),
        }
        if fits.get(column.kind):
            return value
    except ValueError:
        pass
    raise ViewError(f"{column.name[:100]!r}: {value!r:.100} is not a {column.kind}")
