"""What is to be said of values by group: means, differences and rank correlations, with 95 % intervals.

Intervals are over images (or kinds of them, :func:`once_each`), for the models that there are: how much these
differ is told by each alone.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy import stats

DRAWS = 4000
"""Bootstrap resamples."""

ByGroup = Mapping[str, np.ndarray]
"""A value of each image, (models, images) of each group, the groups in their order."""

Interval = tuple[float, float]


def resampled(found: ByGroup) -> dict[str, np.ndarray]:
    """Bootstrap resamples of the images of each group, the same for all models: (draws, models, images)."""
    rng = np.random.Generator(np.random.PCG64(0))
    return {
        group: values[:, rng.integers(values.shape[1], size=(DRAWS, values.shape[1]))].swapaxes(0, 1)
        for group, values in found.items()
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
    found = [values.mean(0) for values, _ in of]
    spread = np.array([values.var(ddof=1) / len(values) for values in found])
    own = sum(part**2 / (len(values) - 1) for part, values in zip(spread, found, strict=True))
    freedom = spread.sum() ** 2 / own if own else 1.0
    mean = sum(sign * float(values.mean()) for values, (_, sign) in zip(found, of, strict=True))
    return {"mean": round(mean, 3), "interval": _student(mean, spread.sum(), freedom)}


def _student(mean: float, variance: float, freedom: float) -> Interval:
    """95 % interval of a mean of that variance."""
    half = float(stats.t.ppf(0.975, freedom)) * math.sqrt(variance)
    return round(mean - half, 3), round(mean + half, 3)


def rho_interval(found: ByGroup) -> Interval:
    """95 % bootstrap interval of :func:`rho` over images."""
    drawn = {group: of.reshape(DRAWS, -1) for group, of in resampled(found).items()}
    return bounds(rank_correlation(*_order_and_values(drawn)))


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
    ranks = [stats.rankdata(of, axis=1) - (of.shape[1] + 1) / 2 for of in (first, second)]
    size = np.sqrt((ranks[0] ** 2).sum(1) * (ranks[1] ** 2).sum(1))
    return np.divide((ranks[0] * ranks[1]).sum(1), size, out=np.zeros(len(size)), where=size > 0)


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
    # the same images of both, as resamples are drawn from one seed
    drawn = _correlations(*({g: of.reshape(DRAWS, -1) for g, of in resampled(one).items()} for one in both))
    return {
        name: {"mean": round(float(found[name][0]), 3), "interval": bounds(drawn[name])} for name in found
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
