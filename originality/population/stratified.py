"""Means and shares of a population from a stratified sample, with 95 % intervals.

Each stratum's units are a simple random sample of it, of any size, so the estimate weighs each unit by the
units that it stands for; a simple sample whose strata are known afterwards is post-stratified in the same
way. Some units may not count: inputs that are no images have no score. The mean is then that of the units
which count (a domain), how many of those the population has being estimated too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from originality.population.intervals import Interval, mean_bounds
from originality.population.proxy import Proxy, lost_to_slope, slope

_BORROWED = 2.0
"""Degrees of freedom that a stratum's variance borrows from the population's. A stratum of two equal values
would otherwise claim to be known exactly."""
_NONE = 1e-12
"""Variances this small, as a part of the squared scale, are zero but for rounding."""


@dataclass(frozen=True)
class Sample:
    """Simple random samples of the strata of a population. Leading axes: several samples."""

    values: np.ndarray
    """float64 (..., n). Where a unit does not count, its value is ignored and must be finite."""
    counted: np.ndarray
    """bool (..., n): whether the unit belongs to the domain whose mean is wanted; at least one does."""
    strata: np.ndarray
    """int64 (..., n): the stratum of each unit."""
    sizes: np.ndarray
    """int64 (strata,): units of each stratum of the population."""


class Estimates(NamedTuple):
    """Estimates of several samples, each float64 (...)."""

    value: np.ndarray
    low: np.ndarray
    high: np.ndarray
    effective: np.ndarray
    """Effective sample size: the number of units of a simple sample that is as precise."""
    slope: np.ndarray
    """Weight of the proxy; 0 without one."""

    @property
    def interval(self) -> Interval:
        """The interval of a single sample."""
        return Interval(float(self.value), float(self.low), float(self.high))


def mean_estimates(sample: Sample, ends: tuple[float, float], proxy: Proxy | None = None) -> Estimates:
    """The mean of the units that count, with its interval.

    The variance is that of the linearised ratio estimator (Cochran 1977, 5A and 6); a stratum's variance is
    shrunk towards the population's. The bounds are those of :func:`mean_bounds` with the effective sample
    size, as Korn and Graubard (1998) have it for shares.

    Args:
        sample: a stratum of which nothing was sampled is taken to be like the others.
        ends: of the scale; a share's are (0, 1), and its values 0 or 1.
        proxy: values that predict the sample's, known for the population.
    """
    counts = _sums(np.ones_like(sample.values), sample)
    sizes = np.where(counts > 0, sample.sizes, 0)
    shares = sizes / sizes.sum(axis=-1, keepdims=True)
    counts_or_1 = np.maximum(counts, 1)
    unit_weights = _spread(shares / counts_or_1, sample.strata)
    weights = unit_weights * sample.counted
    total = weights.sum(axis=-1)
    mean = (weights * sample.values).sum(axis=-1) / total
    # Linearised residuals of the ratio of the weighted values to the weights of the units that count.
    residuals = sample.counted * (sample.values - mean[..., None]) / total[..., None]
    value, slopes, inflation = mean, np.zeros_like(mean), np.ones_like(mean)
    baseline = None
    if proxy is not None:
        # The proxy is centred on its known means, so that subtracting it changes no expectation.
        centred = proxy.sampled - _spread(np.broadcast_to(proxy.means, sizes.shape), sample.strata)
        within = centred - _spread(_sums(centred, sample) / counts_or_1, sample.strata)
        slopes = slope(residuals, within, _spread((shares / counts_or_1) ** 2, sample.strata))
        baseline, _ = _variances(residuals, sample, counts, shares)
        residuals = residuals - slopes[..., None] * centred
        value = mean + (unit_weights * residuals).sum(axis=-1)
    with_replacement, variance = _variances(residuals, sample, counts, shares)
    if baseline is not None:
        # A slope is estimated from the same units, which the variance does not show. It costs only in so far
        # as it helps: a slope of 0 changes nothing.
        helps = np.clip(1 - _ratio(with_replacement, baseline), 0, 1)
        inflation = 1 + helps * (lost_to_slope(sample.counted.sum(axis=-1)) - 1)
    spread = _variance_of(sample.values, weights, mean)
    # Without any variance in the sample the ratio of variances says nothing. The weights alone then give the
    # effective size (Kish 1965), and the unsampled part of each stratum what is left to chance.
    flat = (spread <= _NONE * (ends[1] - ends[0]) ** 2) | (with_replacement <= 0)
    effective = np.where(flat, _kish(weights), _ratio(spread, with_replacement * inflation))
    unsampled = _unsampled(shares, counts, sizes)
    shrink = np.where(flat, unsampled, np.sqrt(_ratio(variance, with_replacement)))
    known = np.where(weights > 0, sample.values, mean[..., None])
    low, high = mean_bounds(known, weights, effective, shrink, ends)
    return Estimates(
        np.clip(value, *ends),
        np.clip(value + low - mean, *ends),
        np.clip(value + high - mean, *ends),
        effective,
        slopes,
    )


def _unsampled(shares: np.ndarray, counts: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Factor by which intervals shrink as parts of a finite population are known, float64 (...)."""
    per_stratum = shares**2 / np.maximum(counts, 1)
    left = 1 - counts / np.maximum(sizes, 1)
    return np.asarray(np.sqrt(_ratio((per_stratum * left).sum(axis=-1), per_stratum.sum(axis=-1))))


_UNITS_PER_STRATUM = 50
"""Fewest units for each stratum but the first for which strata known afterwards are used. With S strata and n
units they may widen an interval by (S - 1) / 2n, here 1 %."""


def may_post_stratify(counts: np.ndarray) -> bool:
    """Whether strata should be used that a simple sample was not drawn by.

    Args:
        counts: int64 (strata,): sampled units of each.
    """
    enough = counts.sum() >= _UNITS_PER_STRATUM * (len(counts) - 1)
    return len(counts) > 1 and bool(enough and (counts >= 2).all())


def _variances(
    score: np.ndarray, sample: Sample, counts: np.ndarray, parts: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Variance of a weighted mean, as if each stratum were infinite, and with what is known of it."""
    per_unit = _spread(parts / np.maximum(counts, 1), sample.strata)
    centre = (per_unit * score).sum(axis=-1)
    overall = _variance_of(score, per_unit, centre)
    means = _sums(score, sample) / np.maximum(counts, 1)
    squares = _sums((score - _spread(means, sample.strata)) ** 2, sample)
    own = np.maximum(counts - 1, 0)
    known = own * _degrees_per_unit(score, per_unit, centre, overall)[..., None]
    within = (known * _ratio(squares, own) + _BORROWED * overall[..., None]) / (known + _BORROWED)
    open_terms = parts**2 * within / np.maximum(counts, 1)
    left = 1 - np.minimum(counts / np.maximum(sample.sizes, 1), 1)
    return open_terms.sum(axis=-1), (open_terms * left).sum(axis=-1)


def _variance_of(values: np.ndarray, weights: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """Variance of the population, from weighted values around their mean."""
    size = _kish(weights)
    found = (weights * (values - centre[..., None]) ** 2).sum(axis=-1) / weights.sum(axis=-1)
    return found * size / np.maximum(size - 1, 0.5)


def _degrees_per_unit(
    score: np.ndarray, weights: np.ndarray, centre: np.ndarray, variance: np.ndarray
) -> np.ndarray:
    """How much of a degree of freedom a unit adds to a variance: 1 for normal values, little for rare ones.

    A variance of n values has the relative variance (kurtosis - 1) / n, which is 2 / n for normal values. A
    stratum in which no rare value was seen is thus not taken to have none.
    """
    fourth = (weights * (score - centre[..., None]) ** 4).sum(axis=-1) / weights.sum(axis=-1)
    excess = np.maximum(_ratio(fourth, variance**2) - 1, 0)
    return np.minimum(1.0, _ratio(np.full_like(excess, 2.0), excess))


def _kish(weights: np.ndarray) -> np.ndarray:
    """Kish's effective number of unequally weighted units."""
    return weights.sum(axis=-1) ** 2 / (weights**2).sum(axis=-1)


def _sums(values: np.ndarray, sample: Sample) -> np.ndarray:
    """Sums within strata: (..., n) to (..., strata)."""
    strata = np.broadcast_to(sample.strata, values.shape)
    lead, count = values.shape[:-1], len(sample.sizes)
    rows = int(np.prod(lead))
    places = strata.reshape(rows, -1) + count * np.arange(rows)[:, None]
    return np.bincount(places.ravel(), values.ravel(), count * rows).reshape(*lead, count)


def _spread(of_strata: np.ndarray, strata: np.ndarray) -> np.ndarray:
    """What each unit's stratum has: (..., strata) to (..., n)."""
    strata = np.broadcast_to(strata, (*of_strata.shape[:-1], strata.shape[-1]))
    return np.take_along_axis(of_strata, strata, axis=-1)


def _ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    return np.divide(above, below, out=np.zeros_like(above), where=below > 0)
