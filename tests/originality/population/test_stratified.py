"""Stratified means and shares: exact cases, and coverage of small simulations with wide tolerance."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from originality.population.proxy import Proxy
from originality.population.stratified import Sample, may_post_stratify, mean_estimates

DRAWS = 1_000
SCALE = (1.0, 6.0)


def whole(values: list[float], strata: list[int]) -> Sample:
    """A sample of everything."""
    codes = np.array(strata)
    return Sample(np.array(values), np.ones(len(values), bool), codes, np.bincount(codes))


@given(st.lists(st.tuples(st.floats(1, 6), st.integers(0, 2)), min_size=1, max_size=30))
def test_a_complete_sample_is_the_mean_itself(units: list[tuple[float, int]]) -> None:
    values = [value for value, _ in units]
    found = mean_estimates(whole(values, [code for _, code in units]), SCALE).interval
    assert found == pytest.approx([np.mean(values)] * 3, abs=1e-6)


def test_units_are_weighed_by_what_they_stand_for() -> None:
    sample = Sample(np.array([1.0, 1, 5, 5]), np.ones(4, bool), np.array([0, 0, 1, 1]), np.array([90, 10]))
    assert mean_estimates(sample, SCALE).value == pytest.approx(0.9 * 1 + 0.1 * 5)


def test_units_that_do_not_count_have_no_say() -> None:
    """The mean is that of the units which count, whose number in each stratum is estimated."""
    values, counted = np.array([2.0, 9, 4, 6]), np.array([True, False, True, True])
    sample = Sample(values, counted, np.array([0, 0, 1, 1]), np.array([50, 50]))
    found = mean_estimates(sample, SCALE)
    assert found.value == pytest.approx((25 * 2 + 50 * 5) / 75)
    assert found.low < found.value < found.high


def test_a_stratum_without_a_sample_is_taken_to_be_like_the_others() -> None:
    sample = Sample(np.array([2.0, 3, 4]), np.ones(3, bool), np.zeros(3, int), np.array([30, 10]))
    found = mean_estimates(sample, SCALE)
    assert found.value == pytest.approx(3)
    assert np.isfinite([found.low, found.high]).all()


def population(kind: str) -> tuple[np.ndarray, np.ndarray]:
    """Scores of 4,000 units, and their strata."""
    rng = np.random.default_rng(8)
    strata = np.repeat(np.arange(4), [2000, 1200, 600, 200])
    if kind == "rare":
        return np.where(rng.random(4000) < 0.02, 6.0, 1.0), strata
    if kind == "stratified":
        return np.clip(1 + 1.4 * strata + rng.normal(0, 0.4, 4000), 1, 6), strata
    return 1 + 5 * rng.beta(1.2, 1.5, 4000), strata


def drawn(strata: np.ndarray, counts: list[int]) -> np.ndarray:
    """Units of stratified samples: int64 (DRAWS, sum of counts)."""
    rng = np.random.default_rng(9)
    parts = []
    for code, count in enumerate(counts):
        units = np.flatnonzero(strata == code)
        order = rng.random((DRAWS, len(units))).argsort(axis=1)[:, :count]
        parts.append(units[order])
    return np.concatenate(parts, axis=1)


@pytest.mark.parametrize("kind", ["even", "rare", "stratified"])
@pytest.mark.parametrize("counts", [[50, 30, 15, 5], [25, 25, 25, 25], [2, 2, 2, 2]])
def test_intervals_cover(kind: str, counts: list[int]) -> None:
    """Of means and of the share of high scores; docs/population has ten times the draws."""
    values, strata = population(kind)
    units = drawn(strata, counts)
    for wanted, ends in ((values, SCALE), ((values >= 5).astype(float), (0.0, 1.0))):
        sample = Sample(wanted[units], np.ones(units.shape, bool), strata[units], np.bincount(strata))
        found = mean_estimates(sample, ends)
        assert np.mean((found.low <= wanted.mean()) & (wanted.mean() <= found.high)) > 0.93


def test_strata_that_matter_shorten_the_interval() -> None:
    values, strata = population("stratified")
    units = drawn(strata, [50, 30, 15, 5])
    counted = np.ones(units.shape, bool)
    by = mean_estimates(Sample(values[units], counted, strata[units], np.bincount(strata)), SCALE)
    simple = np.random.default_rng(1).permuted(np.tile(np.arange(4000), (DRAWS, 1)), axis=1)[:, :100]
    one = mean_estimates(Sample(values[simple], counted, np.zeros_like(simple), np.array([4000])), SCALE)
    assert np.mean(by.high - by.low) < 0.6 * np.mean(one.high - one.low)


@pytest.mark.parametrize(("noise", "ratio"), [(0.3, 0.5), (np.inf, 1.02)])
def test_a_proxy_shortens_the_interval_if_it_is_good(noise: float, ratio: float) -> None:
    """It covers all the same, and costs next to nothing if it is worth nothing."""
    values, _ = population("even")
    rng = np.random.default_rng(4)
    simple = rng.permuted(np.tile(np.arange(4000), (DRAWS, 1)), axis=1)[:, :100]
    beside = rng.normal(size=4000) if np.isinf(noise) else values + rng.normal(0, noise, 4000)
    sample = Sample(values[simple], np.ones(simple.shape, bool), np.zeros_like(simple), np.array([4000]))
    proxy = Proxy.of(beside, np.zeros(4000, int), simple)
    aided, alone = mean_estimates(sample, SCALE, proxy), mean_estimates(sample, SCALE)
    assert np.mean((aided.low <= values.mean()) & (values.mean() <= aided.high)) > 0.93
    assert np.mean(aided.high - aided.low) < ratio * np.mean(alone.high - alone.low)


def test_a_proxy_that_is_missing_in_places_is_filled() -> None:
    proxy = Proxy.of(np.array([1.0, np.nan, 3.0]), np.zeros(3, int), np.array([1]))
    assert proxy.sampled == pytest.approx([0]) and proxy.means == pytest.approx([0])
    with pytest.raises(ValueError):
        Proxy.of(np.array([np.nan]), np.zeros(1, int), np.array([0]))


def test_few_units_are_not_post_stratified() -> None:
    assert may_post_stratify(np.array([30, 20]))
    assert not may_post_stratify(np.array([60, 1]))
    assert not may_post_stratify(np.array([40, 40, 2]))
    assert not may_post_stratify(np.array([100]))
