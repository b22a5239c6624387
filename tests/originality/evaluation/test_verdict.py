"""The decision rule, the published table of verdicts, and rows."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from originality.contract.scorer import Item
from originality.evaluation.verdict import min_tokens, passes
from originality.settings.parts import THRESHOLDS
from originality.settings.presets import load_settings
from originality.sweep.sweep import Sweep
from tests.support.published_verdicts import COMMON, ORIGINAL, attempt, verdict_of


class Published:
    """A metric that returns published distances: an image's grey level is its row of the table, which has the
    distances with 1, 2, ... tokens."""

    largest = 1.0

    def __init__(self, tables):
        self.tables, self.requested = tables, Counter()

    def embed(self, images):
        return [int(image[0, 0, 0]) for image in images]

    def between(self, query, redraws):
        self.requested[query] += 1
        return np.full(len(redraws), self.tables[query][self.requested[query] - 1])


@pytest.fixture(scope="module")
def replayed():
    """Verdicts by name of a sweep with the published distances: the shipped model with the least work."""
    tables = {f"common {k}": (d,) for k, d in enumerate(COMMON)} | {n: d for n, (d, _) in ORIGINAL.items()}
    audit = load_settings(
        "laptop",
        None,
        {
            "model": {"device": "cpu"},
            "inversion": {"steps": 1, "batch_size": 1, "lanes": 5},
            "redraw": {"count": 2, "steps": 1, "guidance_scale": 0, "reference": False},
            "distance": {"threshold": THRESHOLDS["dreamsim"]},
            "in_distribution": {"check": "none"},
        },
    )
    sweep = Sweep(audit)
    sweep.distance = sweep.judge.distance = Published(list(tables.values()))
    waiting = [Item(name, Image.new("RGB", (64, 64), (k, k, k))) for k, name in enumerate(tables)]
    found = {}
    while len(found) < len(tables):
        while waiting and len(sweep.images) < sweep.capacity:
            sweep.admit(waiting.pop(0))
        found.update({finished.item_id: finished.record for finished in sweep.step()})
    return found


def test_published_common_images_need_one_token(replayed):
    for k, distance in enumerate(COMMON):
        row = replayed[f"common {k}"]
        assert (row["min_tokens"], row["censored"], row["status"]) == (1, False, "judged")
        assert [a["distance_mean"] for a in row["sweep"]] == [pytest.approx(distance)]


@pytest.mark.parametrize("domain", ORIGINAL)
def test_published_original_images_need_more_or_never_pass(replayed, domain):
    """The sweep ends at the first number of tokens that passes; if none does, the image is censored."""
    distances, expected = ORIGINAL[domain]
    row = replayed[domain]
    assert (row["min_tokens"], row["censored"], row["status"]) == (expected, expected is None, "judged")
    tried = [a["distance_mean"] for a in row["sweep"]]
    assert tried == pytest.approx(distances[: expected or 5])
    assert [a["passed"] for a in row["sweep"]] == [k == expected for k in range(1, len(tried) + 1)]


@given(
    st.lists(st.tuples(st.floats(0, 2), st.sampled_from([True, False, None])), min_size=1, max_size=8),
    st.floats(0.01, 1.9),
)
def test_the_first_attempt_that_passes_counts(found, threshold):
    sweep = [attempt(k + 1, d, e, threshold) for k, (d, e) in enumerate(found)]
    fewest = verdict_of(sweep, len(sweep)).min_tokens
    passing = [k + 1 for k, (d, e) in enumerate(found) if d < threshold and e is not False]
    assert fewest == (passing[0] if passing else None)
    assert min_tokens(sweep[::-1]) == fewest


@pytest.mark.parametrize("distance", [None, math.nan, 0.45, math.inf])
def test_a_distance_that_is_missing_not_finite_or_at_the_threshold_does_not_pass(distance):
    assert not passes(distance, 0.45, True)


def test_out_of_distribution_does_not_pass_and_no_evidence_does_not_fail():
    assert not passes(0.1, 0.45, False)
    assert passes(0.1, 0.45, None)


def test_an_image_fails_only_if_all_its_inversions_failed():
    broken = attempt(1, None, None, failure="the loss of step 3 is nan")
    assert verdict_of([broken, attempt(2, 0.2)]).min_tokens == 2
    verdict = verdict_of([broken, broken])
    assert (verdict.status, verdict.error_class) == ("failed", "InversionFailed")
    assert "step 3" in verdict.error_message


def test_a_row_is_plain_json_values():
    row = verdict_of([attempt(1, 0.2)]).row()
    assert isinstance(row["finished_at"], str)
    assert row["sweep"][0]["tokens"] == 1
