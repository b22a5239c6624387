"""The committed page of the results at full size."""

from __future__ import annotations

import json

from tests.full_size.page import TITLES, page
from tests.full_size.parts import PARTS
from tests.support.approximately import nearly_text
from tests.support.places import ROOT

FOLDER = ROOT / "docs" / "full-size"


def test_the_committed_page_is_that_of_the_results() -> None:
    results = json.loads((FOLDER / "results.json").read_text())
    assert list(results["parts"]) == list(PARTS) == list(TITLES)
    assert nearly_text(page(results), (FOLDER / "README.md").read_text())
