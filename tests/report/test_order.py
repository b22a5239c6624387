"""Order, choice and counts: pure functions of rows."""

from __future__ import annotations

import pytest

from originality.report import words
from originality.report.chart import chart
from originality.report.data import Row, row_of
from originality.report.order import (
    Histogram,
    by_familiarity,
    by_name,
    by_originality,
    chosen,
    evenly,
    histogram,
)
from tests.report.examples import judged, problem


def row(name: str, tokens: int | None, last: float | None = 0.1) -> Row:
    return Row(name, name, (name,), "judged", tokens, 5, tokens or 5, last)


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
    assert [r.name for r in by_originality(rows)] == [*order, "r"]
    assert [r.name for r in by_familiarity(rows)] == [*order[::-1], "r"]


def test_names_are_ordered_as_people_do() -> None:
    assert [r.name for r in by_name([row("b", 1), row("C", 1), row("A", 1)])] == ["A", "b", "C"]


@pytest.mark.parametrize(("count", "limit"), [(0, 5), (5, 5), (6, 5), (1000, 7), (9, 1), (9, 0)])
def test_evenly_spreads_without_repeats(count: int, limit: int) -> None:
    places = evenly(count, limit)
    assert len(places) == len(set(places)) == min(count, limit)
    assert places == sorted(places)
    if limit > 1 and count:
        assert (places[0], places[-1]) == (0, count - 1)


def test_problems_do_not_crowd_out_the_judged() -> None:
    rows = [row(f"{i}", 1) for i in range(30)]
    rows += [row_of(problem(f"r{i}", "rejected", "corrupt", "no"), "r", []) for i in range(900)]
    picked = chosen(rows, limit=20, problem_limit=5)
    assert [r.status for r in picked] == ["judged"] * 20 + ["rejected"] * 5


def test_histogram_counts_what_was_judged() -> None:
    rows = [row("a", 1), row("b", 1), row("c", 4), row("d", None), REJECTED]
    assert histogram(rows, 5) == Histogram((2, 0, 0, 1, 0), 1)
    assert histogram([], 3) == Histogram((0, 0, 0), 0)
    assert histogram([row("a", 7)], 5).max_tokens == 7


def test_chart_is_as_high_as_its_counts_and_says_them() -> None:
    drawn = chart(Histogram((4, 2, 0), 1))
    assert [bar.label for bar in drawn.bars] == ["1", "2", "3", "+"]
    heights = [bar.height for bar in drawn.bars]
    assert heights[1] == pytest.approx(heights[0] / 2)
    assert heights[2] == 0
    assert all(bar.x >= 0 and bar.x + bar.width <= drawn.width for bar in drawn.bars)
    assert drawn.description == (
        "one token: 4 images; two tokens: 2 images; three tokens: 0 images; "
        "not redrawn with up to three: 1 image."
    )


def test_answers_in_words() -> None:
    assert words.answer(Histogram((1,), 0)) == "1 image: 1 needs one token (the model knows it well)."
    assert words.answer(Histogram((0, 0), 2)) == (
        "2 images: 2 could not be redrawn with up to two tokens (original to this model)."
    )
    assert words.answer(Histogram((0,), 0)) == "No image has been judged."
    assert words.remarks(0, 0, 0) == []


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
    assert words.visible(text) == shown


def test_the_last_distance_is_that_of_the_most_tokens() -> None:
    assert row_of(judged("a", 3, 0.2), "a", []).last_distance == pytest.approx(0.2)
    assert row_of(problem("a", "failed", "X", "y"), "a", []).last_distance is None
