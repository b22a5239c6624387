"""The simulation in small, and the committed results."""

from __future__ import annotations

import json

from tests.population.__main__ import DRAWS
from tests.population.designs import measure
from tests.population.page import FOILS, OURS, page
from tests.population.populations import populations
from tests.support.approximately import nearly_text
from tests.support.places import ROOT

FOLDER = ROOT / "docs" / "population"


def test_a_few_draws_cover_the_truth() -> None:
    """Where rare values decide, which is hardest, and where inputs are rejected."""
    for population in populations():
        if population.name in ("known", "rejecting"):
            rows = [row for row in measure(population, (60,), 200) if row["design"] in OURS]
            assert {row["design"] for row in rows} == set(OURS)
            assert all(row["coverage"] > 0.88 for row in rows)


def test_the_committed_page_is_that_of_the_results() -> None:
    found = json.loads((FOLDER / "results.json").read_text())
    assert found["of"]["draws"] == DRAWS
    assert nearly_text(page(found["rows"], DRAWS), (FOLDER / "README.md").read_text())


def test_the_committed_intervals_hold_what_they_promise() -> None:
    rows = json.loads((FOLDER / "results.json").read_text())["rows"]
    assert {row["population"] for row in rows} == {population.name for population in populations()}
    simple = {_key(row): row["width"] for row in rows if row["design"] == "simple"}
    for row in rows:
        if row["design"] in FOILS:
            continue
        assert row["coverage"] >= 0.93, row
        if row["design"] != "equal":
            assert row["width"] <= 1.02 * simple[_key(row)], row


def _key(row: dict[str, object]) -> tuple[object, ...]:
    return row["population"], row["sample"], row["quantity"]
