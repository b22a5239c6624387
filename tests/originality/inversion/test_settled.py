"""When an inversion has settled: gains of equal steps, their scatter, and losses that are missing."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from originality.inversion.settled import settled


def inversion(cycle=8, cycles=40, pace=60.0, noise=0.002, seed=0, gain=0.2):
    """Losses that differ between steps by much more than training lowers them, as those of timesteps do."""
    rng = np.random.default_rng(seed)
    steps = np.arange(cycle * cycles)
    offsets = rng.uniform(0.1, 0.9, cycle)[steps % cycle]
    return offsets + gain * np.exp(-steps / pace) + noise * rng.standard_normal(len(steps))


def stop(losses, cycle=8, tolerance=0.05):
    """The step after which the inversion has settled; None if it never does."""
    looks = range(1, len(losses) + 1)
    return next((n for n in looks if settled(losses[:n], cycle, tolerance)), None)


def test_an_inversion_settles_when_the_loss_stops_falling_and_not_before():
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
def test_differences_between_the_steps_of_a_cycle_do_not_matter(history, tolerance):
    """Steps of a cycle may be easy or hard: only steps of equal noise are compared. Exact, in integers."""
    learned, offsets = history
    cycle = len(offsets)
    shifted = [loss + offsets[k % cycle] for k, loss in enumerate(learned)]
    assume(sum(learned[:cycle]) != sum(learned[-cycle:]))  # otherwise the means' last bits would decide
    assert settled(shifted, cycle, tolerance) is settled(learned, cycle, tolerance)


@pytest.mark.parametrize(
    ("pairs", "confidence", "enough"), [(4, 0.95, False), (4, 0.5, True), (400, 0.95, True)]
)
def test_scattered_gains_need_many_steps_to_settle(pairs, confidence, enough):
    up_and_down = np.tile([0.0, 0.2], pairs // 2)
    losses = np.r_[np.ones(pairs), up_and_down, 0.2 - up_and_down]
    assert settled(losses, pairs, 0.05, confidence) is enough


def test_an_inversion_that_does_not_improve_settles_after_three_cycles():
    worse = 0.1 * np.arange(40)
    assert stop(worse) == 24
    assert stop(np.full(40, 0.5)) == 24


def test_a_steady_fall_does_not_settle():
    assert stop(-np.arange(8 * 20) / 100) is None


@pytest.mark.parametrize("missing", [float("nan"), float("inf")])
@pytest.mark.parametrize("place", [2, -3, -11])
def test_a_loss_that_is_not_finite_excludes_its_pairs(missing, place):
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
