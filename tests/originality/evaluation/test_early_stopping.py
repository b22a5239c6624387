from __future__ import annotations

from itertools import permutations, product

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from originality.evaluation.early_stopping import certain, share_certain
from originality.inversion.settled import settled

UNIT = st.floats(0, 1) | st.sampled_from([0, 0.1, 0.2, 0.25, 0.3, 1 / 3, 0.5, 0.6, 2 / 3, 1])
"""Distances, and those that sum up to a threshold but for their rounding."""
CONFIDENCE = st.sampled_from([0.5, 0.8, 0.95, 0.99])


@st.composite
def histories(draw):
    """All values of an evaluation, how many were seen, and the threshold."""
    values = draw(st.lists(UNIT, min_size=1, max_size=24))
    return values, draw(st.integers(0, len(values))), draw(UNIT)


def first_answer(values, threshold, confidence, every=1):
    """What an evaluation that stops as soon as it may says, and after how many values."""
    for n in [*range(0, len(values), every), len(values)]:
        said = certain(values[:n], len(values), threshold, 1.0, confidence)
        if said is not None:
            return said, n
    raise AssertionError("nothing was said of all values")


@settings(max_examples=60)
@given(histories(), CONFIDENCE)
def test_no_rest_contradicts_what_the_bounds_say_and_they_say_it_at_any_confidence(history, confidence):
    values, n, threshold = history
    total, seen = len(values), values[:n]
    said = certain(seen, total, threshold, 1.0, confidence)
    under = [bool(np.mean(seen + [rest] * (total - n)) < threshold) for rest in (0.0, 1.0)]
    if under[0] == under[1]:
        assert said is under[0]
        assert bool(np.mean(values) < threshold) is said


def test_the_bounds_round_as_the_plain_decision_does():
    """Sums that are at the threshold, but for a last bit that depends on how they are added up."""
    low = [0.1, 2 / 3, 0.5, 1 / 3, 0.5, 0.3]
    assert np.sum(low) < 8 * 0.3 and not np.mean([*low, 0, 0]) < 0.3
    assert certain(low, 8, 0.3, 1.0, 0.999) is False
    high = [0.5, 2 / 3, 0.6, 0.6, 2 / 3, 0.3, 1 / 3, 1 / 3, 0.2, 0.2, 0.5, 0.3, 0.6, 0.2]
    assert np.sum(high) + 2 < 16 * 0.5 and not np.mean([*high, 1, 1]) < 0.5
    assert certain(high, 16, 0.5, 1.0, 0.999) is None


@settings(max_examples=60)
@given(st.lists(UNIT | st.just(float("nan")) | st.floats(-1, 3), min_size=1, max_size=24), UNIT, CONFIDENCE)
def test_with_all_values_there_it_is_the_plain_decision(values, threshold, confidence):
    assert certain(values, len(values), threshold, 1.0, confidence) is bool(np.mean(values) < threshold)


@example([0.0, 1.0, 1.0, 1.0, 0.0], 0.75, 0.5, 1)
@settings(max_examples=60)
@given(st.lists(UNIT, min_size=1, max_size=24), UNIT, CONFIDENCE, st.sampled_from([1, 2, 4, 5]))
def test_an_answer_stands_until_the_values_contradict_it(values, threshold, confidence, every):
    looks = [*range(0, len(values), every), len(values)]
    said = [(n, certain(values[:n], len(values), threshold, 1.0, confidence)) for n in looks]
    first, stood = next((n, answer) for n, answer in said if answer is not None)
    for n, answer in said:
        if n >= first and answer is None:
            assert bool(np.mean(values[:n]) < threshold) is not stood
        elif n >= first and answer is not stood:
            stood = not stood
            assert stood is bool(np.mean(values) < threshold)  # and stands from now on


@settings(max_examples=60)
@given(histories(), CONFIDENCE, st.integers(-20, 20))
def test_the_unit_of_the_values_does_not_matter(history, confidence, power):
    values, n, threshold = history
    assume(all(value == 0 or value > 1e-200 for value in (*values, threshold)))  # none lost by underflow
    seen, unit = values[:n], 2.0**power
    scaled = certain([unit * value for value in seen], len(values), unit * threshold, unit, confidence)
    assert scaled is certain(seen, len(values), threshold, 1.0, confidence)


@settings(max_examples=60)
@given(histories(), st.sampled_from([-0.01, 1.01, float("nan"), float("inf")]), st.integers(0, 24))
def test_a_value_out_of_bounds_leaves_it_open_until_the_end(history, odd, place):
    values, n, threshold = history
    values.insert(place % (n + 1), odd)
    seen = values[: n + 1]
    assert certain([*seen], len(values) + 1, threshold, 1.0, 0.95) is None


@pytest.mark.parametrize("threshold", [0.3, 0.45])
def test_no_order_of_a_few_values_errs_too_often(threshold):
    """Every order, so that the share of errors is exact: it must hold with no allowance for chance."""
    sets = ((0, 0, 0, 0, 0.4, 0.9, 0.9), (0.2, 0.2, 0.2, 0.3, 0.3, 0.4, 0.6), (0, 0, 0, 0, 0, 1, 1, 1))
    erred = 0
    for values in sets:
        truth = bool(np.mean(values) < threshold)
        orders = set(permutations(values))
        for confidence in (0.5, 0.8):
            wrong = sum(first_answer(order, threshold, confidence)[0] is not truth for order in orders)
            assert wrong <= (1 - confidence) * len(orders)
            erred += wrong
    assert erred > 0  # else the bound is never put to the test


@pytest.mark.parametrize("least", [0.25, 0.5])
def test_no_share_errs_too_often_in_all_orders_of_its_hits(least):
    total, confidence = 10, 0.8
    wrong, orders = np.zeros(total + 1), np.zeros(total + 1)
    for hits in product((False, True), repeat=total):
        looks = (share_certain(hits[:n], total, least, confidence) for n in range(total + 1))
        said = next(answer for answer in looks if answer is not None)
        wrong[sum(hits)] += said is not bool(np.mean(hits) >= least)
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
def test_orders_drawn_by_chance_err_seldom(kind, confidence):
    rng = np.random.default_rng(len(kind))
    orders = 200
    wrong = 0
    for _ in range(orders):
        values = rng.permutation(SETS[kind](rng)).tolist()
        wrong += first_answer(values, 0.3, confidence, every=2)[0] is not bool(np.mean(values) < 0.3)
    risk = 1 - confidence
    assert wrong <= orders * risk + 3 * np.sqrt(orders * risk * confidence)


@pytest.mark.parametrize(("mean", "most"), [(0.1, 13), (0.6, 8), (0.9, 4)])
def test_what_is_far_from_the_threshold_takes_fewer_redraws(mean, most):
    rng = np.random.default_rng(0)
    weight = mean * (1 - mean) / 0.15**2 - 1
    runs = [rng.beta(mean * weight, (1 - mean) * weight, 20).tolist() for _ in range(100)]
    found = [first_answer(values, 0.3, 0.95, every=4) for values in runs]
    assert np.mean([seen for _, seen in found]) <= most
    assert np.mean([said is (mean < 0.3) for said, _ in found]) >= 0.99


def test_more_confidence_never_takes_fewer_values():
    rng = np.random.default_rng(1)
    for _ in range(50):
        values = rng.random(20).tolist()
        seen = [first_answer(values, 0.4, confidence)[1] for confidence in (0.8, 0.95, 0.99)]
        assert seen == sorted(seen)


def test_a_share_passes_at_exactly_the_least_as_soon_as_the_hits_are_there():
    hits = [True, False] * 9
    assert share_certain(hits, 20, 0.5, 0.95) is None  # 9 of 18: it needs one of the last two
    assert share_certain([*hits, True], 20, 0.5, 0.95) is True
    assert share_certain([*hits, False, False], 20, 0.5, 0.95) is False
    assert share_certain([True] * 4, 20, 0.5, 0.95) is True
    assert share_certain([False] * 4, 20, 0.5, 0.95) is False


def test_an_evaluation_that_cannot_be_is_refused():
    with pytest.raises(ValueError, match="3 values of 2"):
        certain([0.1] * 3, 2, 0.3, 1.0, 0.95)
    with pytest.raises(ValueError, match="must lie between 0 and 1"):
        certain([0.1], 2, 0.3, 1.0, 1.0)


def inversion(cycle=8, cycles=40, pace=60.0, noise=0.002, seed=0, gain=0.2):
    """Losses whose draws differ by much more than what is learned, as those of timesteps do."""
    rng = np.random.default_rng(seed)
    steps = np.arange(cycle * cycles)
    offsets = rng.uniform(0.1, 0.9, cycle)[steps % cycle]
    return offsets + gain * np.exp(-steps / pace) + noise * rng.standard_normal(len(steps))


def stop(losses, cycle=8, tolerance=0.05):
    """The step after which the inversion is settled; None if it never is."""
    looks = range(1, len(losses) + 1)
    return next((n for n in looks if settled(losses[:n], cycle, tolerance)), None)


def test_an_inversion_settles_when_it_gains_no_more_and_not_before():
    for seed in range(10):
        steps = stop(inversion(seed=seed))
        left = np.exp(-steps / 60)
        assert 0.01 < left < 0.4


def test_a_slower_inversion_or_a_smaller_tolerance_takes_longer():
    quick, slow = (stop(inversion(pace=pace)) for pace in (30.0, 90.0))
    assert quick < slow < stop(inversion(pace=90.0), tolerance=0.02)


@settings(max_examples=60)
@given(
    st.integers(2, 6).flatmap(
        lambda cycle: st.tuples(
            st.lists(st.integers(0, 50), min_size=3 * cycle, max_size=5 * cycle),
            st.lists(st.integers(0, 10**6), min_size=cycle, max_size=cycle),
        )
    ),
    st.sampled_from([0.05, 0.3, 0.9]),
)
def test_what_the_draws_themselves_cost_does_not_matter(history, tolerance):
    """A cycle's draws may be easy or hard: only the same draws are compared. Integers, so to the bit."""
    learned, offsets = history
    cycle = len(offsets)
    shifted = [loss + offsets[k % cycle] for k, loss in enumerate(learned)]
    assume(sum(learned[:cycle]) != sum(learned[-cycle:]))  # their means' last bits would decide
    assert settled(shifted, cycle, tolerance) is settled(learned, cycle, tolerance)


@pytest.mark.parametrize(
    ("pairs", "confidence", "enough"), [(4, 0.95, False), (4, 0.5, True), (400, 0.95, True)]
)
def test_gains_that_scatter_must_be_many(pairs, confidence, enough):
    up_and_down = np.tile([0.0, 0.2], pairs // 2)
    losses = np.r_[np.ones(pairs), up_and_down, 0.2 - up_and_down]
    assert settled(losses, pairs, 0.05, confidence) is enough


def test_an_inversion_that_got_no_better_is_given_up_after_three_cycles():
    worse = 0.1 * np.arange(40)
    assert stop(worse) == 24
    assert stop(np.full(40, 0.5)) == 24


def test_a_steady_fall_is_gone_on_with():
    assert stop(-np.arange(8 * 20) / 100) is None


@pytest.mark.parametrize("missing", [float("nan"), float("inf")])
@pytest.mark.parametrize("place", [2, -3, -11])
def test_a_loss_that_is_missing_leaves_its_pairs_out(missing, place):
    losses = inversion()[: stop(inversion())]
    assert settled(losses, 8, 0.05)
    lacking = losses.copy()
    lacking[place] = missing
    assert settled(lacking, 8, 0.15)
    lacking[-8:-1] = missing  # a single pair has no standard error
    assert not settled(lacking, 8, 0.15)


def test_a_cycle_of_one_step_has_no_standard_error():
    with pytest.raises(ValueError, match="cycle 1"):
        settled([1.0, 2.0, 3.0], 1, 0.05)


@pytest.mark.parametrize(
    ("values", "threshold"), [([0.184] * 13 + [0.929] * 3, 0.3), ([0.529] * 13 + [0.011] * 3, 0.45)]
)
def test_what_is_said_never_contradicts_the_mean_that_is_told(values, threshold):
    """The bound was crossed within the round, and the rest of the round turned the mean."""
    assert certain(values, 20, threshold, 1.0, 0.95) is None
    assert certain(values[:13], 20, threshold, 1.0, 0.95) is bool(np.mean(values[:13]) < threshold)
