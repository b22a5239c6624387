"""Agreement of runs over the same images: shares and differences by image, with intervals over images."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy import stats

from originality.experiments.familiarity.report import tokens_of

Numbers = Mapping[str, float]
"""One number for each image, by image id."""

Verdicts = Mapping[str, int]
"""Min tokens by image id; one more than the largest number tried if none passed."""

RESAMPLES = 4000
"""Number of bootstrap resamples of images, and of simulated evaluations of an image's words."""


def verdicts(rows: Sequence[dict[str, Any]]) -> dict[str, int]:
    """Min tokens of the judged images."""
    return {row["image_id"]: tokens_of(row) for row in rows if row["status"] == "judged"}


def distances(rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Mean distances at one token, of all images whose first word could be redrawn."""
    first = {row["image_id"]: row["sweep"][0]["distance_mean"] for row in rows if row["status"] == "judged"}
    return {image_id: distance for image_id, distance in first.items() if distance is not None}


def reevaluation_agreement(
    rows: Sequence[dict[str, Any]], threshold: float, seed: int = 0
) -> dict[str, float]:
    """How often two evaluations of an image's learned words would give the same min tokens.

    It is the agreement that the chance of redraws allows, before any chance of training. An evaluation's mean
    distance is simulated as normal around the measured one, with its standard error; whether a word is in
    distribution is taken as measured. If the last word that was learned does not pass, none does.

    Args:
        rows: verdicts whose words were each redrawn in full, without early stopping.
    """
    rng, found = np.random.default_rng(seed), {}
    for row in rows:
        if row["status"] == "judged":
            first, second = (_simulated_min_tokens(row, threshold, rng) for _ in range(2))
            found[row["image_id"]] = float(np.mean(first == second))
    return found


def _simulated_min_tokens(row: dict[str, Any], threshold: float, rng: np.random.Generator) -> np.ndarray:
    """Min tokens of RESAMPLES simulated evaluations of an image's words, int64 (RESAMPLES,)."""
    fewest = np.full(RESAMPLES, row["max_tokens"] + 1)
    for attempt in reversed(row["sweep"]):
        if attempt["editable"] and attempt["distance_mean"] is not None:
            means = rng.normal(attempt["distance_mean"], attempt["distance_sem"], RESAMPLES)
            fewest[means < threshold] = attempt["tokens"]
    return fewest


def shared_images(runs: Sequence[Numbers]) -> list[str]:
    """Images that all runs judged, sorted."""
    return sorted(set.intersection(*(set(run) for run in runs))) if runs else []


def within_group_agreement(runs: Sequence[Verdicts], images: Sequence[str]) -> np.ndarray:
    """Share of the pairs of runs that agree on each image, float64 (n,)."""
    pairs = list(itertools.combinations(runs, 2))
    return np.array([np.mean([a[i] == b[i] for a, b in pairs]) for i in images])


def between_group_agreement(
    ours: Sequence[Verdicts], theirs: Sequence[Verdicts], images: Sequence[str]
) -> np.ndarray:
    """Share of the pairs of one of ours and one of theirs that agree on each image, float64 (n,)."""
    return np.array([np.mean([a[i] == b[i] for a in ours for b in theirs]) for i in images])


def mean_difference(ours: Sequence[Numbers], theirs: Sequence[Numbers], images: Sequence[str]) -> np.ndarray:
    """Mean of our runs less the mean of theirs on each image, float64 (n,)."""
    return np.array([np.mean([a[i] for a in ours]) - np.mean([b[i] for b in theirs]) for i in images])


def mean_absolute_difference(pairs: Sequence[tuple[Numbers, Numbers]], images: Sequence[str]) -> np.ndarray:
    """Mean absolute difference of the two runs of a pair on each image, over the pairs, float64 (n,)."""
    return np.array([np.mean([abs(a[i] - b[i]) for a, b in pairs]) for i in images])


def rho(run: Verdicts, images: Sequence[str], rarity: Mapping[str, float]) -> float:
    """Spearman's rank correlation of min tokens with the images' rarity."""
    return float(stats.spearmanr([rarity[i] for i in images], [run[i] for i in images]).statistic)


def bootstrap_interval(values: np.ndarray, seed: int = 0) -> tuple[float, float, float]:
    """Lower bound, mean, upper bound of values by image, by a 95 % percentile bootstrap over images."""
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
