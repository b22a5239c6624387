"""How a sample is divided among strata, and how large one must be."""

from __future__ import annotations

import math

import numpy as np

_PRIOR = 10.0
"""Values of average spread that a stratum's pilot is counted with, as a few values know a spread badly."""


def neyman_weights(values: np.ndarray, strata: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Relative numbers of units by which a sample knows a mean best: size times standard deviation (Neyman
    1934).

    Args:
        values: float64 (n,): of a pilot sample, at least two.
        strata: int64 (n,).
        sizes: int64 (strata,).

    Returns:
        float64 (strata,), each above 0. Strata without a pilot are taken to spread as the average one.

    Raises:
        ValueError: the pilot has fewer than two values.
    """
    if len(values) < 2:
        raise ValueError("a pilot needs at least two judged units")
    count = len(sizes)
    counts = np.bincount(strata, minlength=count)
    means = np.bincount(strata, values, count) / np.maximum(counts, 1)
    squares = np.bincount(strata, (values - means[strata]) ** 2, count)
    free = np.maximum(counts - 1, 0)
    average = squares.sum() / free.sum() if free.sum() and squares.sum() > 0 else float(np.var(values))
    if average <= 0:
        return sizes.astype(float)
    return sizes * np.sqrt((squares + _PRIOR * average) / (free + _PRIOR))


def more_to_halve(sampled: int, size: int) -> int:
    """How many more units halve an interval, if they are divided as those that were sampled.

    The variance is proportional to 1/n - 1/N.

    Args:
        sampled: units of the sample, at least 1.
        size: units of the population.
    """
    if sampled >= size:
        return 0
    needed = 1 / ((1 / sampled - 1 / size) / 4 + 1 / size)
    return min(math.ceil(needed - 1e-9), size) - sampled
