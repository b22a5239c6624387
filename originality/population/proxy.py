"""A cheap proxy that is known for all units beside full values that are known for a sample.

The proxy corrects the sample: where its sampled units have higher proxies than the population, the estimate
is lowered by as much as the sample says that the two go together. This is the regression estimator of survey
sampling (Cochran 1977, 7), and prediction-powered inference with a tuned weight (Angelopoulos and others
2023). The interval is valid whatever the proxy is worth; a worthless one gets a weight near 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats

from originality.population.intervals import LEVEL


@dataclass(frozen=True)
class Proxy:
    """A number for each unit of the population."""

    sampled: np.ndarray
    """float64 (..., n): of the sampled units."""
    means: np.ndarray
    """float64 (strata,): of each stratum of the population."""

    @classmethod
    def of(cls, values: np.ndarray, strata: np.ndarray, sampled: np.ndarray) -> Proxy:
        """A proxy from its values in the population.

        Args:
            values: float64 (units,). NaN where unknown: those get the mean of the others, which is as valid
                a proxy, if a worse one.
            strata: int64 (units,).
            sampled: int64 (..., n): places of the sampled units.

        Raises:
            ValueError: no value is known.
        """
        known = np.isfinite(values)
        if not known.any():
            raise ValueError("the proxy has no number for any unit")
        filled = np.where(known, values, values[known].mean())
        # Standardised, as sums of squares of large numbers would lose digits.
        filled = (filled - filled.mean()) / (filled.std() or 1.0)
        means = np.bincount(strata, filled) / np.maximum(np.bincount(strata), 1)
        return cls(filled[sampled], means)


def lost_to_slope(counted: np.ndarray) -> np.ndarray:
    """How many times larger a variance is than its residuals say, as the slope was fitted to them.

    Two degrees of freedom are spent, the slope adds its own error (Cochran 1977, 7.5), and what is left of
    the values is too near normal for :func:`mean_bounds` to allow for Student's t.

    Args:
        counted: int64 (...): units of each sample.
    """
    free = np.maximum(counted - 2, 1)
    t = stats.t.ppf((1 + LEVEL) / 2, free) / stats.norm.ppf((1 + LEVEL) / 2)
    return (counted - 1) / free * (1 + 1 / np.maximum(counted - 3, 1)) * t**2


def slope(score: np.ndarray, proxy: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The weight of a proxy that minimises the variance, lowered by what chance alone would give.

    The factor 1 - 1/F, at least 0, is James and Stein's: F, the squared t of the slope, is 1 in expectation
    for a proxy that is worth nothing.

    Args:
        score: float64 (..., n): linearised values, whose weighted mean is the estimate.
        proxy: float64 (..., n): centred within strata.
        weights: float64 (..., n): squared weights of the units in the estimate.
    """
    free = np.maximum(score.shape[-1] - 2, 1)
    both = (weights * score * proxy).sum(axis=-1)
    own = (weights * proxy**2).sum(axis=-1)
    found = np.divide(both, own, out=np.zeros_like(both), where=own > 0)
    residual = (weights * (score - found[..., None] * proxy) ** 2).sum(axis=-1)
    chance = residual / free
    gain = found * both
    kept = np.divide(gain - chance, gain, out=np.zeros_like(gain), where=gain > chance)
    return found * kept
