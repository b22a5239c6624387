"""Early stopping of evaluations: error rates over all orders of the values, rounding, bounds."""

from __future__ import annotations

from itertools import permutations, product

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from originality.evaluation.early_stopping import certain, share_certain

UNIT = st.floats(0, 1) | st.sampled_from([0, 0.1, 0.2, 0.25, 0.3, 1 / 3, 0.5, 0.6, 2 / 3, 1])
"""Distances, and values whose sums equal a threshold except for rounding."""
CONFIDENCE = st.sampled_from([0.5, 0.8, 0.95, 0.99])


@st.composite
def histories(draw):
    """All values of an evaluation, the number seen, and the threshold."""
    values = draw(st.lists(UNIT, min_size=1, max_size=24))
    return values, draw(st.integers(0, len(values))), draw(UNIT)


def first_answer(values, threshold, confidence, every=1):
    """The answer of an evaluation that stops as early as possible, and the number of values it took."""
    for n in [*range(0, len(values), every), len(values)]:
        output = certain(values[:n], len(values), threshold, 1.0, confidence)
        if output is not None:
            return output, n
    raise AssertionError("no answer after all values")


@settings(max_examples=60)
@given(histories(), CONFIDENCE)
def test_an_answer_from_the_bounds_holds_for_all_remaining_values_and_any_confidence(history, confidence):
    values, n, threshold = history
    total, seen = len(values), values[:n]
    output = certain(seen, total, threshold, 1.0, confidence)
    under = [bool(np.mean(seen + [rest] * (total - n)) < threshold) for rest in (0.0, 1.0)]
    if under[0] == under[1]:
        assert output is under[0]
        assert bool(np.mean(values) < threshold) is output


def test_the_bounds_round_like_the_decision_on_all_values():
    """Sums at the threshold, except for a last bit that depends on the order of summation."""
    low = [0.1, 2 / 3, 0.5, 1 / 3, 0.5, 0.3]
    assert np.sum(low) < 8 * 0.3 and not np.mean([*low, 0, 0]) < 0.3
    assert certain(low, 8, 0.3, 1.0, 0.999) is False
    high = [0.5, 2 / 3, 0.6, 0.6, 2 / 3, 0.3, 1 / 3, 1 / 3, 0.2, 0.2, 0.5, 0.3, 0.6, 0.2]
    assert np.sum(high) + 2 < 16 * 0.5 and not np.mean([*high, 1, 1]) < 0.5
    assert certain(high, 16, 0.5, 1.0, 0.999) is None


@settings(max_examples=60)
@given(st.lists(UNIT | st.just(float("nan")) | st.floats(-1, 3), min_size=1, max_size=24), UNIT, CONFIDENCE)
def test_with_all_values_the_answer_is_the_comparison_of_their_mean(values, threshold, confidence):
    assert certain(values, len(values), threshold, 1.0, confidence) is bool(np.mean(values) < threshold)


@example([0.0, 1.0, 1.0, 1.0, 0.0], 0.75, 0.5, 1)
@settings(max_examples=60)
@given(st.lists(UNIT, min_size=1, max_size=24), UNIT, CONFIDENCE, st.sampled_from([1, 2, 4, 5]))
def test_an_answer_holds_until_the_values_contradict_it(values, threshold, confidence, every):
    looks = [*range(0, len(values), every), len(values)]
    output = [(n, certain(values[:n], len(values), threshold, 1.0, confidence)) for n in looks]
    first, stood = next((n, answer) for n, answer in output if answer is not None)
    for n, answer in output:
        if n >= first and answer is None:
            assert bool(np.mean(values[:n]) < threshold) is not stood
        elif n >= first and answer is not stood:
            stood = not stood
            assert stood is bool(np.mean(values) < threshold)  # and holds from now on


@settings(max_examples=60)
@given(histories(), CONFIDENCE, st.integers(-20, 20))
def test_the_unit_of_the_values_does_not_matter(history, confidence, power):
    values, n, threshold = history
    assume(all(value == 0 or value > 1e-200 for value in (*values, threshold)))  # none underflows
    seen, unit = values[:n], 2.0**power
    scaled = certain([unit * value for value in seen], len(values), unit * threshold, unit, confidence)
    assert scaled is certain(seen, len(values), threshold, 1.0, confidence)


@settings(max_examples=60)
@given(histories(), st.sampled_from([-0.01, 1.01, float("nan"), float("inf")]), st.integers(0, 24))
def test_a_value_out_of_bounds_leaves_the_answer_open_until_the_end(history, odd, place):
    values, n, threshold = history
    values.insert(place % (n + 1), odd)
    seen = values[: n + 1]
    assert certain([*seen], len(values) + 1, threshold, 1.0, 0.95) is None


@pytest.mark.parametrize("threshold", [0.3, 0.45])
def test_the_error_rate_over_all_orders_of_a_few_values_is_bounded(threshold):
    """Over all orders, so that the share of errors is exact and needs no statistical tolerance."""
    sets = ((0, 0, 0, 0, 0.4, 0.9, 0.9), (0.2, 0.2, 0.2, 0.3, 0.3, 0.4, 0.6), (0, 0, 0, 0, 0, 1, 1, 1))
    erred = 0
    for values in sets:
        truth = bool(np.mean(values) < threshold)
        orders = set(permutations(values))
        for confidence in (0.5, 0.8):
            wrong = sum(first_answer(order, threshold, confidence)[0] is not truth for order in orders)
            assert wrong <= (1 - confidence) * len(orders)
            erred += wrong
    assert erred > 0  # otherwise the bound is not tested


@pytest.mark.parametrize("least", [0.25, 0.5])
def test_the_error_rate_of_a_share_over_all_orders_of_its_hits_is_bounded(least):
    total, confidence = 10, 0.8
    wrong, orders = np.zeros(total + 1), np.zeros(total + 1)
    for hits in product((False, True), repeat=total):
        looks = (share_certain(hits[:n], total, least, confidence) for n in range(total + 1))
        output = next(answer for answer in looks if answer is not None)
        wrong[sum(hits)] += output is not bool(np.mean(hits) >= least)
        orders[sum(hits)] += 1
    assert (wrong <= (1 - confidence) * orders).all()
    assert wrong.any()


SETS = {
    "under, skewed": lambda rng: rng.beta(0.5, 1.5, 20),
    "two kinds": lambda rng: np.where(rng.random(20) < 0.27, 0.95, 0.05),
    "near": lambda rng: rng.beta(3, 7, 20),
    "nearly all small": lambda rng: np.r_[np.full(14, 0.05), np.full(6, 0.9)],
    "nearly all large": lambda rng: np.r_[np.full(17, 0.35), np.zeros(3)],
    "a few far out": lambda rng: np.r_[np.full(16, 0.125), np.ones(4)],
    "exactly": lambda rng: np.r_[np.full(10, 0.05), np.full(10, 0.55)],
}
"""Twenty distances about a threshold of 0.3."""


@pytest.mark.parametrize("kind", SETS)
@pytest.mark.parametrize("confidence", [0.8, 0.95])
def test_the_error_rate_over_random_orders_is_bounded(kind, confidence):
    rng = np.random.default_rng(len(kind))
    orders = 200
    wrong = 0
    for _ in range(orders):
        values = rng.permutation(SETS[kind](rng)).tolist()
        wrong += first_answer(values, 0.3, confidence, every=2)[0] is not bool(np.mean(values) < 0.3)
    risk = 1 - confidence
    assert wrong <= orders * risk + 3 * np.sqrt(orders * risk * confidence)


@pytest.mark.parametrize(("mean", "most"), [(0.1, 13), (0.6, 8), (0.9, 4)])
def test_a_mean_far_from_the_threshold_takes_fewer_redraws(mean, most):
    rng = np.random.default_rng(0)
    weight = mean * (1 - mean) / 0.15**2 - 1
    runs = [rng.beta(mean * weight, (1 - mean) * weight, 20).tolist() for _ in range(100)]
    found = [first_answer(values, 0.3, 0.95, every=4) for values in runs]
    assert np.mean([seen for _, seen in found]) <= most
    assert np.mean([output is (mean < 0.3) for output, _ in found]) >= 0.99


def test_more_confidence_never_takes_fewer_values():
    rng = np.random.default_rng(1)
    for _ in range(50):
        values = rng.random(20).tolist()
        seen = [first_answer(values, 0.4, confidence)[1] for confidence in (0.8, 0.95, 0.99)]
        assert seen == sorted(seen)


def test_a_share_passes_at_exactly_the_least_once_the_hits_suffice():
    hits = [True, False] * 9
    assert share_certain(hits, 20, 0.5, 0.95) is None  # 9 of 18: it needs one of the last two
    assert share_certain([*hits, True], 20, 0.5, 0.95) is True
    assert share_certain([*hits, False, False], 20, 0.5, 0.95) is False
    assert share_certain([True] * 4, 20, 0.5, 0.95) is True
    assert share_certain([False] * 4, 20, 0.5, 0.95) is False


def test_too_many_values_or_an_invalid_confidence_are_refused():
    with pytest.raises(ValueError, match="3 values of 2"):
        certain([0.1] * 3, 2, 0.3, 1.0, 0.95)
    with pytest.raises(ValueError, match="confidence"):
        certain([0.1], 2, 0.3, 1.0, 1.0)


@pytest.mark.parametrize(
    ("values", "threshold"), [([0.184] * 13 + [0.929] * 3, 0.3), ([0.529] * 13 + [0.011] * 3, 0.45)]
)
def test_an_answer_never_contradicts_the_mean_of_the_values_seen(values, threshold):
    """The bound was crossed within a round, and the rest of the round moved the mean to the other side."""
    assert certain(values, 20, threshold, 1.0, 0.95) is None
    assert certain(values[:13], 20, threshold, 1.0, 0.95) is bool(np.mean(values[:13]) < threshold)
