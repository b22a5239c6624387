"""Allocation of samples, and how large they must be."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from originality.population.allocation import more_to_halve, neyman_weights


def test_neyman_follows_size_and_spread() -> None:
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.normal(3, 1.0, 500), rng.normal(3, 0.25, 500)])
    weights = neyman_weights(values, np.repeat([0, 1], 500), np.array([100, 400]))
    assert weights[0] / weights[1] == pytest.approx(1.0, rel=0.1)


def test_a_stratum_without_a_pilot_spreads_as_the_average() -> None:
    weights = neyman_weights(np.array([1.0, 3.0]), np.array([0, 0]), np.array([10, 10]))
    assert weights[1] == pytest.approx(weights[0])


def test_a_pilot_of_equal_values_leaves_the_sizes() -> None:
    assert neyman_weights(np.ones(4), np.array([0, 0, 1, 1]), np.array([7, 3])).tolist() == [7, 3]
    with pytest.raises(ValueError):
        neyman_weights(np.ones(1), np.array([0]), np.array([7]))


@given(st.integers(1, 10_000), st.integers(1, 100_000))
def test_halving_needs_a_quarter_of_the_variance(sampled: int, size: int) -> None:
    sampled = min(sampled, size)
    total = sampled + more_to_halve(sampled, size)
    assert sampled <= total <= size
    assert 1 / total - 1 / size <= (1 / sampled - 1 / size) / 4 + 1e-12
    if sampled < total:
        assert 1 / (total - 1) - 1 / size > (1 / sampled - 1 / size) / 4 - 1e-12


def test_of_a_large_collection_it_is_three_times_as_many() -> None:
    assert more_to_halve(100, 10**9) == 300
    assert more_to_halve(100, 100) == 0
