"""Statistics of values by group of images: means, differences and rank correlations with 95 % intervals.

Intervals are over images (or over kinds of image, see :func:`average_by_kind`), for the models at hand. How
much models of other seeds would differ, they do not say; the pages list each model by itself for that.
"""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from scipy import stats

RESAMPLES = 4000
"""Number of bootstrap resamples."""

ByGroup = Mapping[str, np.ndarray]
"""One value of each image under each model, (models, images) for each group, groups in their order."""

Interval = tuple[float, float]


def bootstrap(statistic: Callable[..., np.ndarray], images: Sequence[int]) -> np.ndarray:
    """Bootstrap distribution of a statistic of groups of images, each group resampled by itself.

    Args:
        statistic: takes, for each group, which of its images were drawn, int64 (RESAMPLES, images of the
            group), and returns (..., RESAMPLES).
        images: number of images in each group.

    Returns:
        What ``statistic`` returns; nan if a group has a single image. The random numbers are the same in
        every call, so that two statistics of the same groups are taken over the same resamples.
    """
    if min(images) < 2:  # a single image has no interval, and scipy refuses it
        return np.full_like(statistic(*(np.zeros((RESAMPLES, n), int) for n in images)), np.nan)
    # Image numbers are resampled rather than values: all models' values of an image, and its values of
    # other kinds, then stay together. scipy would resample each sample's values independently.
    found = stats.bootstrap(
        [np.arange(count) for count in images],
        lambda *drawn, axis: statistic(*drawn),
        n_resamples=RESAMPLES,
        vectorized=True,
        method="percentile",
        rng=np.random.default_rng(0),
    )
    return np.asarray(found.bootstrap_distribution)


def _values_of(found: ByGroup, drawn: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    """Values of the drawn images under all models: (resamples, models x images) for each group."""
    return {
        group: values[:, which].swapaxes(0, 1).reshape(len(which), -1)
        for (group, values), which in zip(found.items(), drawn, strict=True)
    }


def percentile_interval(values: np.ndarray) -> Interval:
    """95 % percentile interval of a bootstrap distribution (n,)."""
    low, high = np.percentile(values, [2.5, 97.5])
    return round(float(low), 3), round(float(high), 3)


def mean_interval(values: np.ndarray) -> Interval:
    """95 % interval of a mean over images, by Student's t, as a bootstrap of eight images is too narrow.

    Args:
        values: (models, images), of two images or more.
    """
    # One number an image: several models' numbers of one image are not independent draws.
    by_image = values.mean(0)
    return _student(float(by_image.mean()), by_image.var(ddof=1) / len(by_image), len(by_image) - 1)


def contrast(*of: tuple[np.ndarray, int]) -> dict[str, Any]:
    """A signed sum of the means of groups that share no image.

    Args:
        of: values as in :func:`mean_interval`, each with its sign.

    Returns:
        "mean" and its 95 % "interval", by Welch's t.
    """
    # Welch and Satterthwaite's formula written out: stats.ttest_ind compares two groups, and here a contrast
    # may have four (the difference of two differences).
    found = [values.mean(0) for values, _ in of]
    variances = np.array([values.var(ddof=1) / len(values) for values in found])
    weighted = sum(part**2 / (len(values) - 1) for part, values in zip(variances, found, strict=True))
    freedom = variances.sum() ** 2 / weighted if weighted else 1.0
    mean = sum(sign * float(values.mean()) for values, (_, sign) in zip(found, of, strict=True))
    return {"mean": round(mean, 3), "interval": _student(mean, variances.sum(), freedom)}


def _student(mean: float, variance: float, freedom: float) -> Interval:
    """95 % interval of a mean with this variance, by Student's t with these degrees of freedom."""
    # Not stats.t.interval: it gives nan for a variance of 0, as of images that all need the same number.
    half = float(stats.t.ppf(0.975, freedom)) * math.sqrt(variance)
    return round(mean - half, 3), round(mean + half, 3)


def rho_interval(found: ByGroup) -> Interval:
    """95 % bootstrap interval of :func:`rho` over images."""
    sizes = [values.shape[1] for values in found.values()]
    return percentile_interval(
        bootstrap(lambda *drawn: rank_correlation(*_order_and_values(_values_of(found, drawn))), sizes)
    )


def rho(found: ByGroup) -> float:
    """Spearman's rank correlation of the groups' order with the values."""
    flat = {group: values.reshape(1, -1) for group, values in found.items()}
    return float(rank_correlation(*_order_and_values(flat))[0])


def _order_and_values(found: ByGroup) -> tuple[np.ndarray, np.ndarray]:
    """Each image's group as a number, (1, all images), and its values, (rows, all images).

    Args:
        found: (rows, images) for each group.
    """
    order = np.concatenate([np.full(values.shape[1], k) for k, values in enumerate(found.values())])
    return order[None], np.hstack(list(found.values()))


def rank_correlation(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Spearman's rank correlation, row by row.

    Args:
        first, second: (rows, n); either may have a single row, which is then compared with every row of the
            other.

    Returns:
        float64 (rows,); 0 where all values of a row are equal.
    """
    ranks = [stats.rankdata(of, axis=1) for of in (first, second)]
    # Spearman's is Pearson's of the ranks. stats.spearmanr has no row-wise form: thousands of calls, one a
    # resample, would take minutes. Where all values of a row are equal, the correlation is undefined (nan).
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", stats.ConstantInputWarning)
        return np.nan_to_num(stats.pearsonr(*np.broadcast_arrays(*ranks), axis=1).statistic)


def differences(found: ByGroup) -> dict[str, dict[str, Any]]:
    """Differences of each group from the one before, and of the last from the first, by name "b - a"."""
    return {f"{b} - {a}": _difference(found[a], found[b]) for a, b in adjacent_pairs(found)}


def adjacent_pairs(found: ByGroup) -> list[tuple[str, str]]:
    """Neighbouring groups, and the first with the last."""
    groups = list(found)
    return [*itertools.pairwise(groups), (groups[0], groups[-1])]


def _difference(first: np.ndarray, second: np.ndarray) -> dict[str, Any]:
    """Mean difference of the second group from the first.

    Returns:
        "mean"; its "interval"; "p" of a one-sided Mann-Whitney test of no difference, on means over models
        by image, as several models' numbers of one image are not independent draws; and "detectable": the
        difference that such samples would detect with 80 % power.
    """
    found = contrast((first, -1), (second, 1))
    low, high = found["interval"]
    test = stats.mannwhitneyu(first.mean(0), second.mean(0), alternative="less")
    return {
        **found,
        "p": round(float(test.pvalue), 4),
        # Standard error, from the interval's width, times the normal quantiles of 97.5 % and of 80 %.
        "detectable": round((high - low) / (2 * 1.96) * (1.96 + 0.84), 2),
    }


def average_by_kind(found: ByGroup, kinds: Mapping[str, Sequence[str]]) -> dict[str, np.ndarray]:
    """The mean over the images of each kind, so that each kind counts once however many images it has.

    Args:
        kinds: the kind of each image, by group.

    Returns:
        (models, kinds) for each group.
    """
    averaged = {}
    for group, values in found.items():
        names = np.array(kinds[group])
        columns = [values[:, names == kind].mean(1) for kind in dict.fromkeys(kinds[group])]
        averaged[group] = np.stack(columns, 1)
    return averaged


def differences_from_first(found: ByGroup) -> dict[str, dict[str, Any]]:
    """:func:`contrast` of each group with the first."""
    first, *others = found
    return {f"{group} - {first}": contrast((found[first], -1), (found[group], 1)) for group in others}


def correlations(values: ByGroup, other: ByGroup) -> dict[str, Any]:
    """Spearman's rank correlations of values with their groups' order and with other values of the images.

    Returns:
        "mean" and bootstrap "interval" of "group" and "other", and of the partial correlations "group, other
        alike" and "other, group alike".
    """
    both = values, other
    found = _correlations(*({g: of.reshape(1, -1) for g, of in one.items()} for one in both))
    sizes = [of.shape[1] for of in values.values()]
    resampled = bootstrap(
        lambda *drawn: np.stack(list(_correlations(*(_values_of(one, drawn) for one in both)).values())),
        sizes,
    )
    return {
        name: {"mean": round(float(of[0]), 3), "interval": percentile_interval(row)}
        for (name, of), row in zip(found.items(), resampled, strict=True)
    }


def _correlations(values: ByGroup, other: ByGroup) -> dict[str, np.ndarray]:
    """:func:`correlations` of each row of the groups' (rows, images), without intervals."""
    order, ours = _order_and_values(values)
    _, theirs = _order_and_values(other)
    with_group, with_other, group_with_other = (
        rank_correlation(*two) for two in ((order, ours), (theirs, ours), (order, theirs))
    )
    return {
        "group": with_group,
        "other": with_other,
        "group, other alike": _partial_correlation(with_group, group_with_other, with_other),
        "other, group alike": _partial_correlation(with_other, group_with_other, with_group),
    }


def _partial_correlation(xy: np.ndarray, xz: np.ndarray, yz: np.ndarray) -> np.ndarray:
    """Partial correlation of x and y with z held fixed; 0 where z determines one of them."""
    unexplained = (1 - xz**2) * (1 - yz**2)
    return np.divide(xy - xz * yz, np.sqrt(unexplained), out=np.zeros(len(xy)), where=unexplained > 0)
