"""95 % intervals of a share or a mean of a finite population.

A share of a simple random sample has the exact interval (:func:`share_interval`). For means, and for shares
of stratified samples, :func:`mean_bounds` assumes one further value at the end of the scale: a sample without
rare large values says little about how rare they are, and Student's t then claims too much.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from scipy import stats

LEVEL = 0.95
"""Confidence of all intervals."""
_TAIL = (1 - LEVEL) / 2
_STEPS = 80
"""Most steps of a root search; it halves its bracket at least every third step."""
_NEAR = 1e-9
"""Values this close, as a part of the scale, are equal but for rounding."""


class Interval(NamedTuple):
    """An estimate with its 95 % interval."""

    value: float
    low: float
    high: float

    @property
    def half_width(self) -> float:
        """Half the distance between the ends, in the unit of the value."""
        return (self.high - self.low) / 2


@lru_cache(maxsize=100_000)
def share_interval(marked: int, sampled: int, size: int) -> Interval:
    """The exact interval of a share, from a simple random sample without replacement.

    Inverts the hypergeometric distribution with 2.5 % in each tail. It covers in at least 95 % of samples,
    and in more if the share is small or the sample is.

    Args:
        marked: units of the sample that have the property.
        sampled: units of the sample, at least 1.
        size: units of the population.
    """
    if not 0 <= marked <= sampled <= size or sampled < 1:
        raise ValueError(f"{marked} of {sampled} of {size}: not a sample of a population")
    most = size - (sampled - marked)

    def few_enough(total: int) -> bool:
        """Whether so few would be found often enough if there were ``total``."""
        return bool(stats.hypergeom.cdf(marked, size, total, sampled) > _TAIL)

    def many_enough(total: int) -> bool:
        return bool(stats.hypergeom.sf(marked - 1, size, total, sampled) > _TAIL)

    low, high = marked, most
    if marked > 0:
        wrong, right = marked - 1, round(marked / sampled * size)
        right = min(max(right, marked), most)
        while right - wrong > 1:
            middle = (wrong + right) // 2
            wrong, right = (wrong, middle) if many_enough(middle) else (middle, right)
        low = right
    if marked < sampled:
        right, wrong = min(max(round(marked / sampled * size), marked), most), most + 1
        while wrong - right > 1:
            middle = (wrong + right) // 2
            right, wrong = (middle, wrong) if few_enough(middle) else (right, middle)
        high = right
    return Interval(marked / sampled, low / size, high / size)


def mean_bounds(
    values: np.ndarray,
    weights: np.ndarray,
    effective: np.ndarray,
    shrink: np.ndarray,
    ends: tuple[float, float],
) -> tuple[np.ndarray, np.ndarray]:
    """Bounds of the mean of values between two ends, by a distribution that weighs the values at random.

    The weights are Dirichlet: each value's parameter is its share of ``effective``, and one more value of
    parameter 1 stands at the end of the scale towards which the bound is sought (Gaffke 2005; the exact
    Clopper-Pearson bound, and Korn and Graubard's with an effective size, for values that are 0 or 1). The
    distance of a bound from the mean is then shrunk by ``shrink`` for what a finite population leaves to
    chance. Tails by saddlepoint approximation, so no random numbers are drawn.

    Args:
        values: (..., n), between the ends.
        weights: (..., n), at least 0, not all 0.
        effective: (...), effective sample size: the number of values of a simple sample with replacement that
            has the same variance. Above 0.
        shrink: (...), from 0 (all is known) to 1 (an infinite population).
        ends: of the scale.

    Returns:
        Lower and upper bounds, each (...).
    """
    weights = weights / weights.sum(axis=-1, keepdims=True)
    mean = (weights * values).sum(axis=-1)
    if not shrink.any():
        return mean, mean
    shares = weights * effective[..., None]
    low = -_upper(-values, shares, -mean, -ends[0])
    high = _upper(values, shares, mean, ends[1])
    return mean - shrink * (mean - low), mean + shrink * (high - mean)


def _upper(values: np.ndarray, shares: np.ndarray, mean: np.ndarray, end: float) -> np.ndarray:
    """The value that the randomly weighted mean exceeds with probability 2.5 %."""
    room = end - mean
    fixed = room <= _NEAR * (1 + np.abs(mean))
    room = np.where(fixed, 1.0, room)
    # Relative to the mean and in units of the room above it, so that the end of the scale is at 1.
    scaled = (values - mean[..., None]) / room[..., None]
    aim = stats.norm.ppf(1 - _TAIL)
    low, high = np.zeros_like(mean), np.full_like(mean, 1 - 1e-12)
    excess_low, excess_high = np.full_like(mean, -aim), np.full_like(mean, 10.0)
    tilt, kept = np.full_like(mean, 0.5), np.zeros(mean.shape, int)
    for _ in range(_STEPS):
        excess = _normal_score(scaled, shares, tilt)[0] - aim
        above = excess > 0
        # Regula falsi: an end that was kept twice has its excess halved (Illinois).
        kept = np.where(above, np.maximum(kept, 0) + 1, np.minimum(kept, 0) - 1)
        low, excess_low = np.where(above, low, tilt), np.where(above, excess_low, excess)
        high, excess_high = np.where(above, tilt, high), np.where(above, excess, excess_high)
        excess_low = np.where(kept > 1, excess_low / 2, excess_low)
        excess_high = np.where(kept < -1, excess_high / 2, excess_high)
        if (np.abs(excess) < 1e-7).all():
            break
        tilt = (low * excess_high - high * excess_low) / (excess_high - excess_low)
    found = mean + room * _normal_score(scaled, shares, tilt)[1]
    return np.where(fixed, end, found)


def _normal_score(scaled: np.ndarray, shares: np.ndarray, tilt: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How far in the tail a value lies: the standard normal score, and the value itself.

    With G independent gamma variables, the weighted mean exceeds t if sum((x - t) G) > 0: a tail of a sum
    whose cumulant function is known. Barndorff-Nielsen's form of the saddlepoint approximation, in the
    parameter ``tilt`` in (0, 1) of which the value is an explicit function.
    """
    factor = 1 - tilt[..., None] * scaled
    tilted = shares / factor
    end = 1 / (1 - tilt)
    value = ((tilted * scaled).sum(axis=-1) + end) / (tilted.sum(axis=-1) + end)
    slack = 1 - tilt * value
    total = shares.sum(axis=-1) + 1
    cumulant = total * np.log(slack) - (shares * np.log(factor)).sum(axis=-1) - np.log1p(-tilt)
    curvature = ((tilted / factor) * (scaled - value[..., None]) ** 2).sum(axis=-1)
    curvature = (curvature + (end * (1 - value)) ** 2) * slack**2
    root = np.sqrt(np.maximum(-2 * cumulant, 1e-300))
    other = tilt / slack * np.sqrt(curvature)
    return root + np.log(np.maximum(other, 1e-300) / root) / root, value
