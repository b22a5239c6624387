from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import mannwhitneyu

from originality.calibration.thresholds import (
    Measured,
    auc,
    bootstrap,
    calibrate,
    check_threshold,
    distance_threshold,
    doubts,
    equivalent_above,
    method_digest,
    roc,
    share_under,
    true_false_rate,
    weaknesses,
)
from originality.evaluation.verdict import passes
from originality.settings.calibrated import Calibration
from originality.settings.presets import load_settings
from tests.support.published_verdicts import COMMON, ORIGINAL, attempt, verdict_of

COARSE = st.lists(st.integers(0, 6).map(lambda k: k / 6), min_size=1, max_size=30).map(np.array)
"""Distances with many ties."""
FINE = st.lists(st.floats(0, 2), min_size=1, max_size=30).map(np.array)
VALUES = COARSE | FINE
RATES = st.floats(0, 0.999) | st.sampled_from([0.05, 0.29, 0.5, 1 / 3, 0.1])


@given(VALUES, VALUES)
def test_the_auc_is_the_area_under_the_curve_and_the_mann_whitney_statistic(common, original):
    at, false, true = roc(common, original)
    assert (false[0], true[0], false[-1], true[-1]) == (0, 0, 1, 1)
    assert (np.diff(at) > 0).all() and (np.diff(false) >= 0).all() and (np.diff(true) >= 0).all()
    area = auc(common, original)
    assert np.trapezoid(true, false) == pytest.approx(area, abs=1e-12)
    pairs = np.sign(original[:, None] - common[None])
    assert area == pytest.approx((1 + pairs.mean()) / 2, abs=1e-12)
    u = mannwhitneyu(original, common, method="asymptotic").statistic
    assert area == pytest.approx(u / (len(common) * len(original)), abs=1e-12)
    assert auc(original, common) == pytest.approx(1 - area, abs=1e-12)


@given(VALUES, VALUES)
def test_every_point_of_the_curve_agrees_with_the_decision_rule(common, original):
    for threshold, false, true in zip(*roc(common, original), strict=True):
        assert false == pytest.approx(np.mean([passes(d, threshold, None) for d in original]))
        assert true == pytest.approx(np.mean([passes(d, threshold, None) for d in common]))


@given(VALUES, RATES)
def test_the_distance_threshold_is_the_largest_that_keeps_the_false_rate(original, rate):
    threshold = distance_threshold(original, rate)
    assert share_under(original, np.array([threshold]))[0] <= rate
    above = np.nextafter(threshold, np.inf)
    assert share_under(original, np.array([above]))[0] > rate


@given(VALUES, st.floats(0.001, 1) | st.sampled_from([0.95, 0.29, 1.0]))
def test_the_check_threshold_is_the_largest_that_keeps_the_share(scores, kept):
    threshold = check_threshold(scores, kept)
    assert np.mean(scores >= threshold) >= kept
    assert np.mean(scores >= np.nextafter(threshold, np.inf)) < kept


@given(VALUES, VALUES, RATES)
def test_equivalent_thresholds_classify_the_same(common, original, rate):
    threshold = distance_threshold(original, rate)
    low = equivalent_above([Measured(v, v) for v in (common, original)], threshold)
    both = np.concatenate([common, original])
    if low is None:
        assert not (both < threshold).any()
        return
    just_over = np.nextafter(low, np.inf)
    assert ((both < just_over) == (both < threshold)).all()
    assert ((both < low) != (both < threshold)).any()


@settings(max_examples=5)
@given(st.integers(2, 40), st.integers(2, 40), st.integers(0, 5))
def test_intervals_are_seeded_ordered_and_keep_the_sizes(a, b, seed):
    rng = np.random.default_rng(seed)
    common, original = rng.normal(0, 1, a), rng.normal(1, 1, b)

    def statistics(known, new):
        assert (len(known), len(new)) == (a, b)
        return (auc(known, new), known.mean())

    found = bootstrap(statistics, common, original, seed)
    assert found == bootstrap(statistics, common, original, seed)
    for (low, here, high), alone in zip(found, statistics(common, original), strict=True):
        assert low <= high and here == alone
    assert found[1][0] < found[1][1] < found[1][2]


def test_the_interval_of_the_auc_has_its_coverage():
    """A true area of 0.76 (two normals one apart), in 30 draws of 25 images a label."""
    rng = np.random.default_rng(0)
    true, covered = 0.7602, 0
    for _ in range(30):
        common, original = rng.normal(0, 1, 25), rng.normal(1, 1, 25)
        low, _, high = bootstrap(lambda a, b: [auc(a, b)], common, original)[0]
        covered += low <= true <= high
    assert covered >= 25


@pytest.mark.parametrize(("images", "rate"), [(5, 0.05), (20, 0.05), (40, 0.1)])
def test_the_interval_of_the_true_false_rate_has_its_coverage(images, rate):
    rng = np.random.default_rng(1)
    low, high = true_false_rate(images, rate)
    # of uniform distances the share under a threshold is the threshold
    found = [low <= distance_threshold(rng.random(images), rate) <= high for _ in range(4000)]
    assert np.mean(found) == pytest.approx(0.95, abs=0.012)


def test_thresholds_from_the_papers_table_give_the_papers_verdicts():
    """Common images (Figure 8) need one token, original ones (Figure 7) more, for every threshold from over
    0.43 to 0.60. The counts (4, never, 2, 3, 5) are those of 0.45, and of all from over 0.43 to 0.48."""
    none = np.array([])
    common = Measured(np.array(COMMON), none)
    original = Measured(np.array([distances[0] for distances, _ in ORIGINAL.values()]), none)
    found = calibrate(common, original)
    assert found["auc"] == (1.0, 1.0, 1.0)
    assert found["distance_threshold"] == 0.60 and found["common_passing"] == (1.0, 1.0, 1.0)
    assert equivalent_above((common, original), 0.60) == 0.43
    assert found["in_distribution_threshold"] is None
    low, high = found["true_false_rate"]  # five images say little of all others
    assert low < 0.01 and high == pytest.approx(0.52, abs=0.01)

    def needed(distances, threshold):
        sweep = [attempt(k + 1, d, threshold=threshold) for k, d in enumerate(distances)]
        return verdict_of(sweep).min_tokens

    for threshold in (np.nextafter(0.43, 1), 0.45, 0.48, 0.52, found["distance_threshold"]):
        assert [needed([d], threshold) for d in COMMON] == [1] * 5
        assert all(needed(d, threshold) != 1 for d, _ in ORIGINAL.values())
        as_published = [needed(d, threshold) for d, _ in ORIGINAL.values()] == [4, None, 2, 3, 5]
        assert as_published == (threshold <= 0.48)
    for outside in (0.43, np.nextafter(0.60, 1)):
        ones = [needed([d], outside) for d in COMMON], [needed(d, outside) for d, _ in ORIGINAL.values()]
        assert ones[0] != [1] * 5 or 1 in ones[1]


DIGESTS = {"model_digest": "abc", "judge_digest": "def"}


def calibration(common, original, audit=None, **changed):
    audit = audit or load_settings()
    output = calibrate(common, original)
    names = {
        "metric": "elements",
        "check": "positions",
        "labels_digest": "0",
        "created": "2026-01-01T00:00:00Z",
    }
    return Calibration(**{**output, **names, **DIGESTS, "method_digest": method_digest(audit), **changed})


def apart(shift, seed=0):
    rng = np.random.default_rng(seed)
    return [Measured(rng.normal(mean, 0.05, 30), rng.normal(1, 0.1, 30)) for mean in (0.3, 0.3 + shift)]


def test_a_useless_calibration_is_reported():
    assert weaknesses(calibration(*apart(0.3))) == []
    (none,) = weaknesses(calibration(*apart(0.0)))
    assert "includes 0.5" in none
    exchanged = weaknesses(calibration(*apart(-0.3)))
    assert "swapped" in exchanged[0] and "no common image" in exchanged[1]
    lucky = Measured(np.append(np.full(19, 0.6), [0.1, 0.1]), np.array([]))
    (cut_off,) = weaknesses(calibration(Measured(np.linspace(0.2, 0.3, 20), np.array([])), lucky))
    assert "no common image" in cut_off


def test_a_calibration_for_a_different_model_metric_or_method_is_reported():
    known = calibration(*apart(0.3))
    flags = {
        "distance": {"threshold": known.distance_threshold},
        "in_distribution": {"threshold": known.in_distribution_threshold},
        "calibration": known.model_dump(mode="json"),
    }
    audit = load_settings(flags=flags)
    assert audit.calibration == known and doubts(audit, DIGESTS) == []
    assert doubts(load_settings(), {}) == []
    machine = {"model": {"device": "cpu", "dtype": "bf16"}, "inversion": {"lanes": 1}, "max_tokens": 2}
    assert doubts(load_settings(flags={**flags, **machine, "seed": 3}), DIGESTS) == []
    assert "model (digest abc, here x)" in doubts(audit, {**DIGESTS, "model_digest": "x"})[0]
    assert "here x" in doubts(audit, {**DIGESTS, "judge_digest": "x"})[0]
    (steps,) = doubts(load_settings(flags={**flags, "inversion": {"steps": 5}}), DIGESTS)
    assert "settings of inversion" in steps
    both = {**flags, "distance": {"threshold": 0.1}, "in_distribution": {"threshold": 0.2}}
    over, under = doubts(load_settings(flags=both), DIGESTS)
    assert "distance.threshold is 0.1" in over
    assert "in_distribution.threshold is 0.2" in under
    weak = {**flags, "calibration": {**flags["calibration"], "auc": [0.4, 0.55, 0.7]}}
    assert "includes 0.5" in doubts(load_settings(flags=weak), DIGESTS)[0]
    assert load_settings(flags=weak).digest() == audit.digest()
