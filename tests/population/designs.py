"""Draw samples as an audit does, estimate as the command does, count how often intervals hold the truth."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from cluster.inputs.sampling import simple_order, stratified_order
from originality.population.allocation import neyman_weights
from originality.population.intervals import share_interval
from originality.population.proxy import Proxy
from originality.population.stratified import Sample, may_post_stratify, mean_estimates
from tests.population.populations import ENDS, SIZE, STRATA, Population

_CHUNK = 1_000
_ONE = np.array([SIZE])
_SIZES = np.array(STRATA)
_SHARE = (0.0, 1.0)
PILOT = 4
"""A pilot for Neyman allocation is one of so many parts of the sample."""


class Bounds(NamedTuple):
    """Intervals of some draws, float64 (draws,) each."""

    low: np.ndarray
    high: np.ndarray


class Batch(NamedTuple):
    """Samples of equal length."""

    units: np.ndarray
    """int64 (samples, n)."""
    stratified: bool
    """Whether they are weighed by strata."""


def measure(population: Population, sizes: tuple[int, ...], draws: int) -> list[dict[str, Any]]:
    """Coverage and width of every interval, for samples of each size; a row for each."""
    count = max(sizes)
    seeds = range(draws)
    strata = population.strata
    every = np.stack([simple_order(seed, SIZE)[:count] for seed in seeds])
    by_size, alike = (
        np.stack([stratified_order(seed, strata, weights)[:count] for seed in seeds])
        for weights in (_SIZES, np.ones(len(STRATA)))
    )
    found = []
    for size in sizes:
        simple, proportional = _batches(every[:, :size]), _batches(by_size[:, :size])
        designs: dict[str, list[Batch]] = {
            "simple": simple,
            "post-stratified": _post_stratified(strata, every[:, :size]),
            "proportional": _by_strata(proportional),
            "equal": _by_strata(_batches(alike[:, :size])),
            "neyman": _by_strata(_neyman(population, by_size, size)),
        }
        for design, batches in designs.items():
            found += _rows(population, size, design, batches)
        for proxy in population.proxies:
            found += _rows(population, size, f"{proxy} proxy", simple, proxy)
        found += _rows(population, size, "proportional, good proxy", designs["proportional"], "good")
        found += _foils(population, size, every[:, :size])
    return found


def _batches(units: np.ndarray) -> list[Batch]:
    return [Batch(part, False) for part in np.array_split(units, max(1, len(units) // _CHUNK))]


def _by_strata(batches: Iterable[Batch]) -> list[Batch]:
    return [batch._replace(stratified=True) for batch in batches]


def _post_stratified(strata: np.ndarray, units: np.ndarray) -> list[Batch]:
    """Simple samples; those that may be are weighed by strata, as the command does with ``--by``."""
    counts = np.stack([np.bincount(strata[sample], minlength=len(STRATA)) for sample in units])
    may = np.array([may_post_stratify(of) for of in counts])
    return [
        *_by_strata(_batches(units[may]) if may.any() else []),
        *(_batches(units[~may]) if not may.all() else []),
    ]


def _neyman(population: Population, proportional: np.ndarray, size: int) -> list[Batch]:
    """Samples by the spreads of a pilot, which is part of them: arrays of samples of equal length."""
    samples = []
    for seed, order in enumerate(proportional):
        pilot = order[: size // PILOT]
        known = pilot[population.counted[pilot]]
        weights = neyman_weights(population.scores[known], population.strata[known], _SIZES)
        later = stratified_order(seed, population.strata, weights)[:size]
        samples.append(np.union1d(pilot, later))
    samples.sort(key=len)
    return [Batch(np.stack(list(alike)), False) for _, alike in groupby(samples, len)]


def _rows(
    population: Population, size: int, design: str, batches: Iterable[Batch], proxy: str | None = None
) -> list[dict[str, Any]]:
    """The mean score and the share of images that are never redrawn."""
    means, shares = [], []
    never = population.never.astype(float)
    for units, stratified in batches:
        codes, sizes = (population.strata, _SIZES) if stratified else (np.zeros(SIZE, np.int64), _ONE)
        beside = None if proxy is None else Proxy.of(population.proxies[proxy], codes, units)
        counted = population.counted[units]

        def bounds(values: np.ndarray, ends: tuple[float, float]) -> Bounds:
            sample = Sample(values[units], counted, codes[units], sizes)  # noqa: B023 - called in its round
            found = mean_estimates(sample, ends, beside)  # noqa: B023
            return Bounds(found.low, found.high)

        means.append(bounds(population.scores, ENDS))
        exact = not stratified and proxy is None
        shares.append(_exact(population, units) if exact else bounds(never, _SHARE))
    among = population.counted
    return [
        _row(population, size, design, "mean score", means, population.scores[among].mean()),
        _row(population, size, design, "share never", shares, population.never[among].mean()),
    ]


def _exact(population: Population, units: np.ndarray) -> Bounds:
    """Exact intervals of a share, as of a simple sample of the inputs that can be judged."""
    counted = population.counted[units]
    marked = (population.never[units] & counted).sum(axis=1)
    total = counted.sum(axis=1)
    size = SIZE - (units.shape[1] - total)
    found = [share_interval(*map(int, of)) for of in zip(marked, total, size, strict=True)]
    return Bounds(np.array([of.low for of in found]), np.array([of.high for of in found]))


def _foils(population: Population, size: int, units: np.ndarray) -> list[dict[str, Any]]:
    """What is usual elsewhere: Student's t for the mean, Wilson's score interval for the share."""
    counted = population.counted[units]
    total = counted.sum(axis=1)
    values = np.where(counted, population.scores[units], np.nan)
    mean = np.nanmean(values, axis=1)
    error = np.sqrt(np.nanvar(values, axis=1, ddof=1) / total * (1 - size / SIZE))
    half = stats.t.ppf(0.975, total - 1) * error
    share = (population.never[units] & counted).sum(axis=1) / total
    z2 = stats.norm.ppf(0.975) ** 2
    middle = (share + z2 / (2 * total)) / (1 + z2 / total)
    reach = np.sqrt(z2 * (share * (1 - share) / total + z2 / (4 * total**2))) / (1 + z2 / total)
    among = population.counted
    student, wilson = Bounds(mean - half, mean + half), Bounds(middle - reach, middle + reach)
    return [
        _row(population, size, "Student's t", "mean score", [student], population.scores[among].mean()),
        _row(population, size, "Wilson", "share never", [wilson], population.never[among].mean()),
    ]


def _row(
    population: Population, size: int, design: str, quantity: str, bounds: list[Bounds], truth: float
) -> dict[str, Any]:
    low, high = (np.concatenate(ends) for ends in zip(*bounds, strict=True))
    close = 1e-9
    return {
        "population": population.name,
        "sample": size,
        "design": design,
        "quantity": quantity,
        "truth": round(float(truth), 5),
        "coverage": float(np.mean((low <= truth + close) & (truth - close <= high))),
        "width": float(np.mean(high - low)),
        "draws": len(low),
    }
