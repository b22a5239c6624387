"""Order, choice and counts: pure functions of rows."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from originality.report import phrases
from originality.report.chart import chart
from originality.report.data import Row, RunInfo, row_of
from originality.report.order import (
    GROUPS,
    Group,
    Histogram,
    Marks,
    by_originality,
    evenly,
    histogram,
    listed,
)
from originality.report.page import ReportData
from tests.support.example_runs import judged, problem


def row(name: str, tokens: int | None, last: float | None = 0.1) -> Row:
    return Row(name, name, (name,), "judged", tokens, 5, tokens or 5, last)


def marks(rows: list[Row]) -> Marks:
    return ReportData.of_rows(RunInfo(), rows, {}, {}).marks


REJECTED = row_of(problem("r", "rejected", "corrupt", "no"), "r", [])


def test_most_original_is_censored_then_more_tokens_then_farther() -> None:
    rows = [
        REJECTED,
        row("one", 1),
        row("three near", 3, 0.1),
        row("never near", None, 0.3),
        row("three unknown", 3, None),
        row("three far", 3, 0.2),
        row("never far", None, 0.6),
    ]
    order = ["never far", "never near", "three far", "three near", "three unknown", "one"]
    ordered = [rows[i] for i in by_originality(marks(rows))]
    assert [r.name for r in ordered] == [*order, "r"]


MARK = st.tuples(
    st.sampled_from(GROUPS), st.integers(1, 5), st.none() | st.floats(0, 2, width=32), st.integers(0, 9)
)


@given(st.lists(MARK, max_size=60))
def test_the_order_is_that_of_a_plain_sort(given_: list[tuple[Group, int, float | None, int]]) -> None:
    images = [(g, t if g == "redrawn" else None, d if t % 2 else None) for g, t, d, _ in given_]

    def key(place: int) -> tuple[int, int, float, int]:
        group, tokens, distance = images[place]
        return GROUPS.index(group), -(tokens or 0), math.inf if distance is None else -distance, place

    assert by_originality(Marks.of(images)).tolist() == sorted(range(len(images)), key=key)


@pytest.mark.parametrize(
    ("judged_", "problems", "limit", "expected"),
    [
        (9, 2, 20, [*range(9), 9, 10]),  # all
        (9, 2, 6, [0, 1, 7, 8, 9, 10]),  # both ends, and what was not judged
        (9, 9, 6, [0, 1, 8, 9, 13, 17]),  # which takes half of the places at most, from all of its kinds
        (3, 9, 8, [0, 1, 2, 3, 5, 7, 9, 11]),  # but for those that the judged leave
        (0, 3, 2, [0, 2]),
        (3, 0, 2, [0, 2]),
        (0, 0, 2, []),
    ],
)
def test_above_the_limit_both_ends_can_be_browsed(
    judged_: int, problems: int, limit: int, expected: list[int]
) -> None:
    rows = [row(f"{i}", None, 1 - i / 100) for i in range(judged_)] + [REJECTED] * problems
    assert listed(marks(rows), limit).tolist() == expected


@pytest.mark.parametrize(("count", "limit"), [(0, 5), (5, 5), (6, 5), (1000, 7), (9, 1), (9, 0)])
def test_evenly_spreads_without_repeats(count: int, limit: int) -> None:
    places = evenly(count, limit).tolist()
    assert len(places) == len(set(places)) == min(count, limit)
    assert places == sorted(places)
    if limit > 1 and count:
        assert (places[0], places[-1]) == (0, count - 1)


def test_histogram_counts_what_was_judged() -> None:
    rows = [row("a", 1), row("b", 1), row("c", 4), row("d", None), REJECTED]
    assert histogram(marks(rows), 5) == Histogram((2, 0, 0, 1, 0), 1)
    assert histogram(marks([]), 3) == Histogram((0, 0, 0), 0)
    assert histogram(marks([row("a", 7)]), 5).max_tokens == 7


def test_chart_bars_are_as_high_as_their_counts() -> None:
    drawn = chart(Histogram((4, 2, 0), 1))
    assert [bar.label for bar in drawn.bars] == ["1", "2", "3", "+"]
    heights = [bar.height for bar in drawn.bars]
    assert heights[1] == pytest.approx(heights[0] / 2)
    assert heights[2] == 0
    assert all(bar.x >= 0 and bar.x + bar.width <= drawn.width for bar in drawn.bars)
    parts = drawn.description.split(";")
    assert [part.rpartition(": ")[2] for part in parts] == ["4 images", "2 images", "0 images", "1 image."]


def test_the_answer_names_each_number_of_tokens_that_images_need() -> None:
    assert phrases.answer(Histogram((1,), 0)).startswith("1 image: 1 needs one token")
    assert "2 could not be redrawn" in phrases.answer(Histogram((0, 0), 2))
    assert "needs" not in phrases.answer(Histogram((0,), 0))
    assert phrases.remarks(0, 0, 0) == []


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\nb", "a⟨U+000A⟩b"),
        ("\u202egpj", "⟨U+202E⟩gpj"),
        ("\udcff", "⟨U+DCFF⟩"),
        ("👩\u200d🚀 é 图", "👩\u200d🚀 é 图"),
    ],
)
def test_hidden_characters_are_shown(text: str, shown: str) -> None:
    assert phrases.visible(text) == shown


def test_the_last_distance_is_that_of_the_largest_number_of_tokens() -> None:
    assert row_of(judged("a", 3, 0.2), "a", []).last_distance == pytest.approx(0.2)
    assert row_of(problem("a", "failed", "X", "y"), "a", []).last_distance is None
