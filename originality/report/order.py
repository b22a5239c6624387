"""Which image comes first, which are shown whole, and how many need how many tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from originality.report.data import Row

DETAIL_LIMIT = 200
"""Judged images shown with pictures. Our choice: about 20 MB of page at 100 kB an
image."""

PROBLEM_LIMIT = 50
"""Rejected and failed images shown with what to do; the table names the reason of the others."""

TABLE_LIMIT = 5000
"""Rows of the table. Our choice: what a browser still sorts at once."""


def by_originality(rows: Sequence[Row]) -> list[Row]:
    """Most original first: never redrawn, then M..1 tokens; among equals the farther redraw first.

    Images without a distance follow those with one; rejected and failed images come last, by name.
    """

    def key(row: Row) -> tuple[int, float, float, str]:
        if row.status != "judged":
            return (2 if row.status == "rejected" else 3, 0.0, 0.0, row.name)
        if row.min_tokens is None:
            return (0, 0.0, _far_first(row), row.image_id)
        return (1, -row.min_tokens, _far_first(row), row.image_id)

    return sorted(rows, key=key)


def _far_first(row: Row) -> float:
    return float("inf") if row.last_distance is None else -row.last_distance


def by_familiarity(rows: Sequence[Row]) -> list[Row]:
    """The reverse for judged images; rejected and failed ones still come last."""
    ordered = by_originality(rows)
    judged = [row for row in ordered if row.status == "judged"]
    return judged[::-1] + [row for row in ordered if row.status != "judged"]


def by_name(rows: Sequence[Row]) -> list[Row]:
    """By file name, capitals aside."""
    return sorted(rows, key=lambda row: (row.name.casefold(), row.uris, row.image_id))


def evenly(count: int, limit: int) -> list[int]:
    """At most ``limit`` of ``count`` places, first and last among them, as far apart as can be."""
    if count <= limit:
        return list(range(count))
    if limit < 2:
        return list(range(limit))
    return [round(i * (count - 1) / (limit - 1)) for i in range(limit)]


def chosen(rows: Sequence[Row], limit: int = DETAIL_LIMIT, problem_limit: int = PROBLEM_LIMIT) -> list[Row]:
    """The images that the page shows whole, in order of originality, spread evenly over it.

    Problems have a limit of their own, so that many of them do not crowd out what was judged.
    """
    ordered = by_originality(rows)
    judged = [row for row in ordered if row.status == "judged"]
    problems = [row for row in ordered if row.status != "judged"]
    picked = [judged[i] for i in evenly(len(judged), limit)]
    return picked + [problems[i] for i in evenly(len(problems), problem_limit)]


@dataclass(frozen=True)
class Histogram:
    """How many judged images need how many tokens."""

    tokens: tuple[int, ...]
    """Images by number of tokens, from 1 to M."""
    never: int
    """Images that no number up to M redrew: "+" in the paper's Figure 6."""

    @property
    def max_tokens(self) -> int:
        return len(self.tokens)


def histogram(rows: Sequence[Row], max_tokens: int | None) -> Histogram:
    """Count over all rows, whether shown or not. M is the settings', or more where a row says so."""
    largest = max_tokens or 1
    for row in rows:
        largest = max(largest, row.min_tokens or 0, row.max_tokens or 0)
    counts = [0] * largest
    never = 0
    for row in rows:
        if row.group == "never":
            never += 1
        elif row.min_tokens is not None:
            counts[row.min_tokens - 1] += 1
    return Histogram(tuple(counts), never)
