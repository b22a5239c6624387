"""Queries of the rows: pages, histograms, scatter plots, agreement of two runs, exported lists."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from jobs.exploring.columns import Column
from jobs.exploring.rows import Rows
from jobs.exploring.view import View, ViewError, column_of, order, where
from jobs.exporting.tables import cell
from originality.contract.redaction import masked

_SHOWN = 300
"""Characters of a text on a page of rows; an image's sheet has all."""
_BARS = 24
"""Most bars of a histogram."""
_CELLS = (56, 36)
"""Cells of a scatter plot, horizontally and vertically."""
_EXACT = 2**53
"""Integers beyond are not exact in the page's arithmetic, and are shown as text."""
_EXPORTED = ("tokens", "score", "confidence", "reference_distance", "status", "image_id")
"""Columns of verdicts in an exported list."""
_BATCH = 1000


class Queries:
    """Results as plain JSON values. Several threads may share it."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        self._columns = rows.schema.columns

    def page(self, view: View) -> dict[str, Any]:
        """Rows of a view from ``offset`` on, and how many there are in all.

        Raises:
            ViewError: a column does not exist, or its kind does not have the operation.
        """
        chosen = where(view, self._columns)
        counted = self._rows.execute(f"SELECT count(*) FROM items{chosen.sql}", chosen.values).fetchone()
        total = int(counted[0]) if counted else 0
        shown = ", ".join(
            f"left({c.sql}, {_SHOWN})" if c.kind == "text" else c.sql for c in self._columns.values()
        )
        # Only so many of the first rows are kept while sorting. So pages of the second half are counted from
        # the end, which makes the last page as fast as the first.
        limit = max(0, min(view.limit, total - view.offset))
        backwards = view.offset > total // 2
        offset = max(0, total - view.offset - limit) if backwards else view.offset
        by = order(view, self._columns, backwards)
        # The numbers first: only these rows are then read with all their columns.
        numbers = f"SELECT number FROM items{chosen.sql}{by} LIMIT ? OFFSET ?"
        found = self._rows.execute(
            f"SELECT {shown} FROM items WHERE number IN ({numbers}){order(view, self._columns)}",
            [*chosen.values, limit, offset],
        ).fetchall()
        return {"total": total, "rows": [_plain_row(self._columns, row) for row in found]}

    def row(self, number: int) -> dict[str, Any] | None:
        """One row with all of its text; None if there is none of this number."""
        names = ", ".join(column.sql for column in self._columns.values())
        found = self._rows.execute(f"SELECT {names} FROM items WHERE number = ?", [number]).fetchone()
        return None if found is None else _plain_row(self._columns, found)

    def artefacts(self, number: int, against: bool = False) -> tuple[str, str | None] | None:
        """The image of a row and the folder that its verdict names, in the run or in the one it is compared
        with; None if the row has no image."""
        hidden = "against_artefacts" if against else "artefacts"
        found = self._rows.execute(
            f"SELECT image_id, {hidden} FROM items WHERE number = ?", [number]
        ).fetchone()
        return None if found is None or found[0] is None else (found[0], found[1])

    def histogram(self, view: View, name: str) -> list[dict[str, Any]]:
        """Bars of a column, of the rows that fulfil all conditions on other columns.

        Returns:
            For each bar its label, its number of rows, and the conditions that select them.
        """
        column = column_of(name, self._columns)
        chosen = where(view.without([name]), self._columns)
        if column.kind != "number":
            return self._values(column, chosen.sql, chosen.values)
        if name not in self._rows.ranges:
            return []
        low, width, bars = _bins(column, *self._rows.ranges[name], _BARS)
        bar = f"least(greatest(floor(({column.sql} - ?) / ?), 0), ?)"
        both = "AND" if chosen.sql else "WHERE"
        found = self._rows.execute(
            f"SELECT {bar} AS bar, count(*) FROM items{chosen.sql} "
            f"{both} {column.sql} IS NOT NULL GROUP BY bar",
            [low, width, bars - 1, *chosen.values],
        ).fetchall()
        counts = {int(bar): count for bar, count in found}
        return [_range_bar(name, low, width, bar, bars, counts.get(bar, 0)) for bar in range(bars)]

    def _values(self, column: Column, sql: str, values: list[Any]) -> list[dict[str, Any]]:
        """The most frequent values of a column."""
        found = self._rows.execute(
            f"SELECT {column.sql}, any_value({column.order}) AS place, count(*) AS rows FROM items{sql} "
            f"GROUP BY {column.sql} ORDER BY rows DESC, place LIMIT ?",
            [*values, _BARS],
        ).fetchall()
        if column.sorted_by:
            found.sort(key=lambda bar: (bar[1] is None, bar[1]))
        return [_value_bar(column, value, count) for value, _, count in found]

    def scatter(self, view: View, across: str, up: str) -> dict[str, Any]:
        """How many rows are in each cell of two columns of numbers, under all conditions on other columns.

        Returns:
            ``cells``: [column, row from below, rows]; the ``columns`` and ``rows`` of the grid; the ranges of
            ``x`` and ``y``, [low, high]; null where no row has both.
        """
        x, y = (column_of(name, self._columns) for name in (across, up))
        if x.kind != "number" or y.kind != "number":
            raise ViewError("a scatter plot needs two columns of numbers")
        blank: dict[str, Any] = {"columns": _CELLS[0], "rows": _CELLS[1], "cells": [], "x": None, "y": None}
        if across not in self._rows.ranges or up not in self._rows.ranges:
            return blank
        chosen = where(view.without([across, up]), self._columns)
        both = "AND" if chosen.sql else "WHERE"
        spans = [(low, (high - low) or 1.0) for low, high in (self._rows.ranges[n] for n in (across, up))]
        places = [
            f"least(greatest(floor(({column.sql} - ?) / ? * {cells}), 0), {cells - 1})::INT"
            for column, cells in zip((x, y), _CELLS, strict=True)
        ]
        found = self._rows.execute(
            f"SELECT {places[0]} AS i, {places[1]} AS j, count(*) FROM items{chosen.sql} "
            f"{both} {x.sql} IS NOT NULL AND {y.sql} IS NOT NULL GROUP BY i, j",
            [*spans[0], *spans[1], *chosen.values],
        ).fetchall()
        sides = [[low, low + width] for low, width in spans]
        return {**blank, "cells": [list(cell) for cell in found], "x": sides[0], "y": sides[1]}

    def agreement(self, view: View) -> dict[str, Any]:
        """How many rows have which min tokens in the run and in the one that it is compared with.

        Rows that either run did not judge are left out. Conditions on both columns are left out too, so that
        a selected cell does not hide the others.

        Raises:
            ViewError: the run is not compared.
        """
        if not self._rows.compared:
            raise ViewError("nothing to compare with; start with --against OTHER")
        chosen = where(view.without(["tokens", "against_tokens"]), self._columns)
        both = "AND" if chosen.sql else "WHERE"
        found = self._rows.execute(
            "SELECT tokens, against_tokens, any_value(fewest), any_value(against_fewest), count(*), "
            f"sum(score_moved), count(score_moved) FROM items{chosen.sql} {both} tokens IS NOT NULL "
            "AND against_tokens IS NOT NULL GROUP BY tokens, against_tokens",
            chosen.values,
        ).fetchall()
        sides = [
            [value for value, _ in sorted({(c[k], c[k + 2]) for c in found}, key=lambda pair: pair[1])]
            for k in (0, 1)
        ]
        rows, scored = sum(c[4] for c in found), sum(c[6] for c in found)
        return {
            "here": sides[0],
            "there": sides[1],
            "cells": [[here, there, count] for here, there, _, _, count, _, _ in found],
            "rows": rows,
            "same": sum(c[4] for c in found if c[0] == c[1]),
            "mean_score_moved": sum(c[5] or 0 for c in found) / scored if scored else None,
        }

    def export(self, view: View) -> Iterator[bytes]:
        """Every row of a view as a list that ``originality audit`` takes: CSV with the column ``uri``, those
        of the collection's list and the verdict's most important ones. In parts."""
        chosen = where(view, self._columns)
        listed = [column for column in self._columns.values() if column.origin == "list"]
        against = [column for column in self._columns.values() if column.origin == "against"]
        columns = [self._columns["uri"], *listed, *(self._columns[name] for name in _EXPORTED), *against]
        cursor = self._rows.execute(
            f"SELECT {', '.join(c.sql for c in columns)} FROM items{chosen.sql}{order(view, self._columns)}",
            chosen.values,
        )
        yield _csv([[column.name for column in columns]], start=True)
        while batch := cursor.fetchmany(_BATCH):
            yield _csv([[_plain(value) for value in row] for row in batch])


def _csv(rows: list[list[Any]], start: bool = False) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text).writerows([cell(value) for value in row] for row in rows)
    return text.getvalue().encode("utf-8-sig" if start else "utf-8", "backslashreplace")


def _plain_row(columns: dict[str, Column], row: tuple[Any, ...]) -> dict[str, Any]:
    made = {name: _plain(value) for name, value in zip(columns, row, strict=True)}
    if made["error_message"]:
        made["error_message"] = masked(made["error_message"])  # of older versions: a store's raw answer
    return made


def _plain(value: Any) -> Any:
    """A value as JSON has it."""
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, int) and abs(value) > _EXACT:
        return str(value)
    return value


def _bins(column: Column, low: float, high: float, most: int) -> tuple[float, float, int]:
    """Bars of equal width: the lowest value, their width, their number. A whole number each where few."""
    if column.whole and high - low < most:
        return low, 1.0, int(high - low) + 1
    return low, (high - low) / most or 1.0, most if high > low else 1


def _range_bar(name: str, low: float, width: float, bar: int, bars: int, count: int) -> dict[str, Any]:
    start, end = low + bar * width, low + (bar + 1) * width
    last = bar == bars - 1
    conditions = [
        {"column": name, "op": "from", "value": start},
        {"column": name, "op": "to" if last else "below", "value": end},
    ]
    return {"label": f"{start:.4g}", "to": f"{end:.4g}", "rows": count, "where": conditions}


def _value_bar(column: Column, value: Any, count: int) -> dict[str, Any]:
    plain = _plain(value)
    if value is None:
        return {"label": None, "rows": count, "where": [{"column": column.name, "op": "missing"}]}
    condition: dict[str, Any] = {"column": column.name, "op": "equals", "value": plain}
    if column.kind == "text":
        condition = {"column": column.name, "op": "in", "values": [plain]}
    if column.kind == "time":
        times = [{"column": column.name, "op": op, "value": plain} for op in ("from", "to")]
        return {"label": plain, "rows": count, "where": times}
    label = plain if isinstance(plain, str) else str(plain).lower()
    return {"label": label[:_SHOWN], "rows": count, "where": [condition]}
