"""Intervals of shares and means: exact where they can be, and what they become at the limits."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from originality.population.intervals import mean_bounds, share_interval

SIZES = st.integers(1, 60).flatmap(
    lambda size: st.tuples(st.just(size), st.integers(1, size))
)  # population, sample


@given(SIZES)
def test_a_share_is_covered_in_95_percent_of_all_samples(sizes: tuple[int, int]) -> None:
    """Exactly, for every number of marked units in the population."""
    size, sampled = sizes
    found = [share_interval(marked, sampled, size) for marked in range(sampled + 1)]
    for total in range(size + 1):
        covers = [interval.low <= total / size <= interval.high for interval in found]
        chances = stats.hypergeom.pmf(np.arange(sampled + 1), size, total, sampled)
        assert chances[covers].sum() >= 0.95 - 1e-9


@given(SIZES, st.integers(0, 60))
def test_an_interval_holds_its_estimate_and_mirrors(sizes: tuple[int, int], marked: int) -> None:
    size, sampled = sizes
    marked = min(marked, sampled)
    here, other = share_interval(marked, sampled, size), share_interval(sampled - marked, sampled, size)
    assert 0 <= here.low <= 1 and 0 <= here.high <= 1
    assert here.low - 1 / size <= here.value <= here.high + 1 / size
    assert here.low == pytest.approx(1 - other.high)


def test_of_a_large_population_it_is_clopper_and_pearsons() -> None:
    found = share_interval(7, 100, 10**9)
    assert found.low == pytest.approx(stats.beta.ppf(0.025, 7, 94), rel=1e-4)
    assert found.high == pytest.approx(stats.beta.ppf(0.975, 8, 93), rel=1e-4)


def test_a_complete_sample_leaves_nothing_open() -> None:
    assert share_interval(3, 10, 10) == (0.3, 0.3, 0.3)


def test_no_sample_is_refused() -> None:
    with pytest.raises(ValueError):
        share_interval(3, 2, 10)
    with pytest.raises(ValueError):
        share_interval(0, 0, 10)


def bounds(values: np.ndarray, ends: tuple[float, float], shrink: float = 1.0) -> tuple[float, float]:
    low, high = mean_bounds(
        values, np.ones(len(values)), np.array(float(len(values))), np.array(shrink), ends
    )
    return float(low), float(high)


@pytest.mark.parametrize(("marked", "count"), [(0, 2), (0, 40), (1, 40), (3, 5), (50, 100), (99, 100)])
def test_means_of_zeros_and_ones_are_clopper_and_pearsons(marked: int, count: int) -> None:
    low, high = bounds(np.repeat([1.0, 0.0], [marked, count - marked]), (0, 1))
    want_low = stats.beta.ppf(0.025, marked, count - marked + 1) if marked else 0.0
    assert low == pytest.approx(want_low, abs=0.003)
    assert high == pytest.approx(stats.beta.ppf(0.975, marked + 1, count - marked), abs=0.003)


def test_bounds_are_those_of_drawn_weights() -> None:
    """The saddlepoint approximation against weights that are drawn, for skewed values."""
    rng = np.random.default_rng(3)
    for count in (5, 40):
        values = np.clip(rng.gamma(1.5, 1.2, count) + 1, 1, 6)
        low, high = bounds(values, (1, 6))
        weights = rng.dirichlet(np.ones(count + 1), 200_000)
        assert low == pytest.approx(np.quantile(weights @ np.r_[values, 1.0], 0.025), abs=0.02)
        assert high == pytest.approx(np.quantile(weights @ np.r_[values, 6.0], 0.975), abs=0.02)


def test_of_many_normal_values_they_are_the_usual_ones() -> None:
    values = np.clip(np.random.default_rng(0).normal(3.5, 0.5, 20_000), 1, 6)
    low, high = bounds(values, (1, 6))
    half = 1.96 * values.std() / np.sqrt(len(values))
    assert (high - low) / 2 == pytest.approx(half, rel=0.03)


@given(st.lists(st.floats(1, 6), min_size=1, max_size=30), st.floats(0, 1))
def test_bounds_hold_the_mean_and_stay_on_the_scale(values: list[float], shrink: float) -> None:
    low, high = bounds(np.array(values), (1, 6), shrink)
    assert 1 - 1e-9 <= low <= np.mean(values) + 1e-9
    assert np.mean(values) - 1e-9 <= high <= 6 + 1e-9
    mirrored = bounds(7 - np.array(values), (1, 6), shrink)
    assert mirrored == pytest.approx((7 - high, 7 - low), abs=1e-5)


def test_equal_values_do_not_claim_to_be_all() -> None:
    low, high = bounds(np.ones(50), (1, 6))
    assert low == 1 and high > 1.2  # a twentieth of all might be never redrawn
