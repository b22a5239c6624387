"""What is to be said of values by group: means, differences and rank correlations, with 95 % intervals.

Intervals are over images (or kinds of them, :func:`once_each`), for the models that there are: how much these
differ is told by each alone.
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
"""Bootstrap resamples."""

ByGroup = Mapping[str, np.ndarray]
"""A value of each image, (models, images) of each group, the groups in their order."""

Interval = tuple[float, float]


def bootstrap(statistic: Callable[..., np.ndarray], images: Sequence[int]) -> np.ndarray:
    """Bootstrap distribution of a statistic of groups of images, each group resampled by itself.

    Args:
        statistic: takes, for each group, which of its images were drawn, int64 (RESAMPLES, images of the
            group), and returns (..., RESAMPLES).
        images: number of images in each group; two or more, as scipy requires.

    Returns:
        What ``statistic`` returns. The random numbers are the same in every call, so that two statistics of
        the same groups are taken over the same resamples.
    """
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


def _drawn(found: ByGroup, drawn: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    """The values of the images that were drawn, of all models: (resamples, models x images) of each group."""
    return {
        group: values[:, which].swapaxes(0, 1).reshape(len(which), -1)
        for (group, values), which in zip(found.items(), drawn, strict=True)
    }


def bounds(values: np.ndarray) -> Interval:
    """In which 95 % of resamples lie."""
    low, high = np.percentile(values, [2.5, 97.5])
    return round(float(low), 3), round(float(high), 3)


def mean_interval(values: np.ndarray) -> Interval:
    """95 % interval of a mean over images, by Student's t, as a bootstrap of eight images is too narrow.

    Args:
        values: of two images or more (models, images).
    """
    found = values.mean(0)
    return _student(float(found.mean()), found.var(ddof=1) / len(found), len(found) - 1)


def contrast(*of: tuple[np.ndarray, int]) -> dict[str, Any]:
    """A sum of means, each with its sign, of images that are none of the others'; values as of
    :func:`mean_interval`.

    Returns:
        "mean" and its 95 % "interval", by Welch's t.
    """
    # Welch and Satterthwaite's formula written out: stats.ttest_ind compares two groups, and here a contrast
    # may have four (the difference of two differences).
    found = [values.mean(0) for values, _ in of]
    spread = np.array([values.var(ddof=1) / len(values) for values in found])
    own = sum(part**2 / (len(values) - 1) for part, values in zip(spread, found, strict=True))
    freedom = spread.sum() ** 2 / own if own else 1.0
    mean = sum(sign * float(values.mean()) for values, (_, sign) in zip(found, of, strict=True))
    return {"mean": round(mean, 3), "interval": _student(mean, spread.sum(), freedom)}


def _student(mean: float, variance: float, freedom: float) -> Interval:
    """95 % interval of a mean of that variance."""
    # Not stats.t.interval: it gives nan for a variance of 0, as of images that all need the same number.
    half = float(stats.t.ppf(0.975, freedom)) * math.sqrt(variance)
    return round(mean - half, 3), round(mean + half, 3)


def rho_interval(found: ByGroup) -> Interval:
    """95 % bootstrap interval of :func:`rho` over images."""
    sizes = [values.shape[1] for values in found.values()]
    return bounds(bootstrap(lambda *drawn: rank_correlation(*_order_and_values(_drawn(found, drawn))), sizes))


def rho(found: ByGroup) -> float:
    """Spearman's rank correlation of the groups' order with the values."""
    flat = {group: of.reshape(1, -1) for group, of in found.items()}
    return float(rank_correlation(*_order_and_values(flat))[0])


def _order_and_values(found: ByGroup) -> tuple[np.ndarray, np.ndarray]:
    """Of the groups' (rows, images): each image's group by number, (1, all images), and the values, (rows,
    all images)."""
    order = np.concatenate([np.full(of.shape[1], k) for k, of in enumerate(found.values())])
    return order[None], np.hstack(list(found.values()))


def rank_correlation(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Spearman's, of each row of (rows, n) with the same row of the other, or with its only one; 0 where
    one's values are all the same."""
    ranks = [stats.rankdata(of, axis=1) for of in (first, second)]
    # Spearman's is Pearson's of the ranks. stats.spearmanr has no row-wise form: thousands of calls, one a
    # resample, would take minutes. Where all values of a row are equal, the correlation is undefined (nan).
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", stats.ConstantInputWarning)
        return np.nan_to_num(stats.pearsonr(*np.broadcast_arrays(*ranks), axis=1).statistic)


def differences(found: ByGroup) -> dict[str, dict[str, Any]]:
    """How much more each group has than the one before, and the last than the first."""
    return {f"{b} - {a}": _difference(found[a], found[b]) for a, b in twos(found)}


def twos(found: ByGroup) -> list[tuple[str, str]]:
    """Neighbouring groups, and the first with the last."""
    groups = list(found)
    return [*itertools.pairwise(groups), (groups[0], groups[-1])]


def _difference(first: np.ndarray, second: np.ndarray) -> dict[str, Any]:
    """How much more one group has than another.

    Returns:
        "mean"; its "interval"; "p" of a one-sided Mann-Whitney test that it is none, of means over models by
        image, as several models' numbers of one image are no independent draws; and "detectable": the
        difference that four of five such samples would tell from none.
    """
    told = contrast((first, -1), (second, 1))
    low, high = told["interval"]
    test = stats.mannwhitneyu(first.mean(0), second.mean(0), alternative="less")
    return {
        **told,
        "p": round(float(test.pvalue), 4),
        "detectable": round((high - low) / (2 * 1.96) * (1.96 + 0.84), 2),
    }


def once_each(found: ByGroup, kinds: Mapping[str, Sequence[str]]) -> dict[str, np.ndarray]:
    """The mean of each kind of image, which then counts once however many there are of it.

    Args:
        kinds: of what kind each image is, by group.

    Returns:
        (models, kinds) of each group.
    """
    told = {}
    for group, values in found.items():
        names = np.array(kinds[group])
        told[group] = np.stack([values[:, names == kind].mean(1) for kind in dict.fromkeys(kinds[group])], 1)
    return told


def from_first(found: ByGroup) -> dict[str, dict[str, Any]]:
    """:func:`contrast` of each group with the first."""
    first, *others = found
    return {f"{group} - {first}": contrast((found[first], -1), (found[group], 1)) for group in others}


def correlations(values: ByGroup, other: ByGroup) -> dict[str, Any]:
    """Spearman's rank correlations of values with their groups' order and with others of the same images.

    Returns:
        "mean" and bootstrap "interval" of "group", "other", and the partial ones: "group, other alike" and
        "other, group alike".
    """
    both = values, other
    found = _correlations(*({g: of.reshape(1, -1) for g, of in one.items()} for one in both))
    sizes = [of.shape[1] for of in values.values()]
    resampled = bootstrap(
        lambda *drawn: np.stack(list(_correlations(*(_drawn(one, drawn) for one in both)).values())), sizes
    )
    return {
        name: {"mean": round(float(of[0]), 3), "interval": bounds(row)}
        for (name, of), row in zip(found.items(), resampled, strict=True)
    }


def _correlations(values: ByGroup, other: ByGroup) -> dict[str, np.ndarray]:
    """:func:`correlations` of each row of the groups' (rows, images)."""
    order, ours = _order_and_values(values)
    _, theirs = _order_and_values(other)
    to_group, to_other, between = (
        rank_correlation(*two) for two in ((order, ours), (theirs, ours), (order, theirs))
    )
    return {
        "group": to_group,
        "other": to_other,
        "group, other alike": _partial(to_group, between, to_other),
        "other, group alike": _partial(to_other, between, to_group),
    }


def _partial(of: np.ndarray, other: np.ndarray, others_own: np.ndarray) -> np.ndarray:
    """Partial correlations from the three plain ones; 0 where there is no room for any."""
    room = (1 - other**2) * (1 - others_own**2)
    return np.divide(of - other * others_own, np.sqrt(room), out=np.zeros(len(of)), where=room > 0)
