"""Do two runs over the same images say the same? Everything with intervals over the images."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy import stats

from originality.experiments.familiarity.report import tokens_of

Numbers = Mapping[str, float]
"""One by image."""

Verdicts = Mapping[str, int]
"""Min tokens by image; one more than the most where none passed."""

RESAMPLES = 4000
"""Of images, and of the redraws of an image's words."""


def verdicts(rows: Sequence[dict[str, Any]]) -> dict[str, int]:
    """Those of the images that were judged."""
    return {row["image_id"]: tokens_of(row) for row in rows if row["status"] == "judged"}


def distances(rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Mean distances at one token, which every image has whose first word could be drawn."""
    first = {row["image_id"]: row["sweep"][0]["distance_mean"] for row in rows if row["status"] == "judged"}
    return {image_id: distance for image_id, distance in first.items() if distance is not None}


def drawn_again(rows: Sequence[dict[str, Any]], threshold: float, seed: int = 0) -> dict[str, float]:
    """How often the min tokens of an image would be the same if its words, just as they were learned, were
    evaluated twice: what the chance of redraws leaves of agreement, before that of training.

    An evaluation's mean distance is normal about the one that was found, with its standard error; whether a
    word is in distribution stays. Where the last word that was learned does not pass this time, none does.
    All redraws must have been drawn.
    """
    rng, found = np.random.default_rng(seed), {}
    for row in rows:
        if row["status"] == "judged":
            first, second = (_again(row, threshold, rng) for _ in range(2))
            found[row["image_id"]] = float(np.mean(first == second))
    return found


def _again(row: dict[str, Any], threshold: float, rng: np.random.Generator) -> np.ndarray:
    """Min tokens of RESAMPLES further evaluations of an image's words, int64 (RESAMPLES,)."""
    fewest = np.full(RESAMPLES, row["max_tokens"] + 1)
    for attempt in reversed(row["sweep"]):
        if attempt["editable"] and attempt["distance_mean"] is not None:
            means = rng.normal(attempt["distance_mean"], attempt["distance_sem"], RESAMPLES)
            fewest[means < threshold] = attempt["tokens"]
    return fewest


def shared(runs: Sequence[Numbers]) -> list[str]:
    """Images that all runs judged."""
    return sorted(set.intersection(*(set(run) for run in runs))) if runs else []


def among(runs: Sequence[Verdicts], images: Sequence[str]) -> np.ndarray:
    """How often two of the runs agree on each image: the share of their pairs, float64 (n,)."""
    pairs = list(itertools.combinations(runs, 2))
    return np.array([np.mean([a[i] == b[i] for a, b in pairs]) for i in images])


def between(ours: Sequence[Verdicts], theirs: Sequence[Verdicts], images: Sequence[str]) -> np.ndarray:
    """How often one of ours agrees with one of theirs on each image, float64 (n,)."""
    return np.array([np.mean([a[i] == b[i] for a in ours for b in theirs]) for i in images])


def shift(ours: Sequence[Numbers], theirs: Sequence[Numbers], images: Sequence[str]) -> np.ndarray:
    """How much more ours say than theirs of each image, in the mean of the runs, float64 (n,)."""
    return np.array([np.mean([a[i] for a in ours]) - np.mean([b[i] for b in theirs]) for i in images])


def apart(pairs: Sequence[tuple[Numbers, Numbers]], images: Sequence[str]) -> np.ndarray:
    """How far two runs are from each other on each image, in the mean of the pairs, float64 (n,)."""
    return np.array([np.mean([abs(a[i] - b[i]) for a, b in pairs]) for i in images])


def rho(run: Verdicts, images: Sequence[str], rarity: Mapping[str, float]) -> float:
    """Spearman's, of min tokens with the images' rarity."""
    return float(stats.spearmanr([rarity[i] for i in images], [run[i] for i in images]).statistic)


def interval(values: np.ndarray, seed: int = 0) -> tuple[float, float, float]:
    """Low, the mean, high: 95 % of bootstrap resamples of the images lie between."""
    mean = float(values.mean())
    if len(values) == 1:  # scipy.stats.bootstrap refuses a single value
        return mean, mean, mean
    drawn = stats.bootstrap(
        [values],
        np.mean,
        n_resamples=RESAMPLES,
        method="percentile",
        vectorized=True,
        rng=np.random.default_rng(seed),
    ).bootstrap_distribution
    low, high = np.percentile(drawn, (2.5, 97.5))
    return float(low), mean, float(high)
