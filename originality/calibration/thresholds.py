"""Chooses thresholds on images that a person labelled common or original.

In the paper a common image is redrawn with one token, and an original one with more or never (Section 4.2).
So the distance of the redraws at one token distinguishes them. This module computes its ROC curve: "positive"
is common, and an image is classified as common if its distance is strictly less than the threshold, as in
:func:`originality.evaluation.verdict.passes`. The distance threshold is chosen by the share of original
images that it may misclassify as common. The threshold of the in-distribution check is chosen on the common
images, most of which must pass it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic import BaseModel

from originality.settings.audit import AuditSettings
from originality.settings.calibrated import Calibration, Interval
from originality.settings.roles import Added, Decides, knobs

FALSE_COMMON = 0.05
"""Default of the share of original images that may be misclassified as common. Our choice."""
KEPT = 0.95
"""Default of the share of common images that must pass the check. Our choice."""
MIN_IMAGES = 20
"""Fewest images of a label without a warning: 5 % of fewer are less than one image."""
RESAMPLES = 2000
"""Bootstrap resamples."""
_TAILS = (2.5, 97.5)


@dataclass(frozen=True)
class Measured:
    """Measurements at one token of the images of one label."""

    distances: np.ndarray
    """float64 (n,): mean distance of each image's redraws, finite."""
    scores: np.ndarray
    """float64 (k,), k <= n: score of the in-distribution check, for the images that have one."""


def roc(common: np.ndarray, original: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """ROC curve of the distance, with a point for each distinct threshold, from no image under it to all.

    Returns:
        Ascending thresholds, the last infinite; the share of ``original`` under each (false positives); the
        share of ``common`` under each (true positives). Equal distances of both labels give a slanted step.
    """
    at = np.append(np.unique(np.concatenate([common, original])), np.inf)
    return at, share_under(original, at), share_under(common, at)


def share_under(values: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """Share of ``values`` strictly less than each threshold."""
    return np.searchsorted(np.sort(values), thresholds, "left") / len(values)


def auc(common: np.ndarray, original: np.ndarray) -> float:
    """Area under the ROC curve: the probability that a common image has a smaller distance than an original
    one, where a tie counts half (Mann-Whitney U divided by the number of pairs)."""
    ordered = np.sort(original)
    twice = np.searchsorted(ordered, common, "left") + np.searchsorted(ordered, common, "right")
    return float(1 - twice.mean() / (2 * len(original)))


def distance_threshold(original: np.ndarray, false_common: float) -> float:
    """Largest threshold with at most this share, in [0, 1), of the original images strictly under it. It is
    the distance of one of them."""
    return float(np.sort(original)[_allowed(len(original), false_common)])


def _allowed(images: int, share: float) -> int:
    """Largest number of images that is at most this share of them; ``share`` is less than 1."""
    # By comparing quotients: share * images may be rounded up to the next whole number.
    return int(np.count_nonzero(np.arange(images) / images <= share)) - 1


def true_false_rate(images: int, false_common: float) -> tuple[float, float]:
    """95 % interval of the share of all original images under such a threshold.

    It holds for every distribution of distances without ties: the share under the i-th smallest of n is
    distributed as Beta(i, n + 1 - i).
    """
    from scipy.special import betaincinv  # slow to import

    rank = _allowed(images, false_common) + 1
    low, high = betaincinv(rank, images + 1 - rank, np.array(_TAILS) / 100)
    return float(low), float(high)


def check_threshold(scores: np.ndarray, kept: float) -> float:
    """Largest threshold that at least this share, in (0, 1], of the scores reach."""
    short = np.count_nonzero(np.arange(1, len(scores) + 1) / len(scores) < kept)
    return float(np.sort(scores)[::-1][short])


def equivalent_above(labelled: Sequence[Measured], threshold: float) -> float | None:
    """Largest measured distance under a threshold: every threshold above it, up to this one, classifies all
    images the same. None if no image is under it."""
    under = np.concatenate([measured.distances for measured in labelled])
    under = under[under < threshold]
    return float(under.max()) if len(under) else None


def bootstrap(
    statistics: Callable[[np.ndarray, np.ndarray], Sequence[float]],
    common: np.ndarray,
    original: np.ndarray,
    seed: int = 0,
) -> list[Interval]:
    """Each statistic with its 95 % percentile interval. Each label is resampled separately, so that its
    number of images stays the same."""
    # Not scipy.stats.bootstrap: it refuses a label with a single image, and scipy.stats is slow to import.
    rng = np.random.default_rng(seed)
    drawn = [
        statistics(*(group[rng.integers(len(group), size=len(group))] for group in (common, original)))
        for _ in range(RESAMPLES)
    ]
    low, high = np.percentile(drawn, _TAILS, axis=0)
    here = statistics(common, original)
    return [(float(a), float(b), float(c)) for a, b, c in zip(low, here, high, strict=True)]


def calibrate(
    common: Measured, original: Measured, false_common: float = FALSE_COMMON, kept: float = KEPT
) -> dict[str, Any]:
    """Fields of a :class:`Calibration` that follow from the measurements. Each label needs at least one
    image."""

    def of_distances(known: np.ndarray, new: np.ndarray) -> tuple[float, float, float]:
        threshold = distance_threshold(new, false_common)
        return auc(known, new), threshold, float((known < threshold).mean())

    def of_scores(known: np.ndarray, new: np.ndarray) -> tuple[float, float]:
        return auc(-known, -new), check_threshold(known, kept)

    area, threshold, passing = bootstrap(of_distances, common.distances, original.distances)
    scored = len(common.scores) and len(original.scores)
    check = bootstrap(of_scores, common.scores, original.scores) if scored else None
    return {
        "common": len(common.distances),
        "original": len(original.distances),
        "auc": area,
        "false_common": false_common,
        "true_false_rate": true_false_rate(len(original.distances), false_common),
        "distance_threshold": threshold[1],
        "distance_interval": (threshold[0], threshold[2]),
        "common_passing": passing,
        "kept": kept,
        "in_distribution_threshold": check[1][1] if check else None,
        "in_distribution_interval": (check[1][0], check[1][2]) if check else None,
        "in_distribution_auc": check[0] if check else None,
    }


def method_digest(settings: AuditSettings) -> str:
    """Short digest of the settings that decide the distance and the score measured at one token, beside the
    weights: those with :attr:`Decides.METHOD`. Device, precision and lanes are not among them.

    A setting that was added after the first calibrations counts only where it is not at its default, so that
    earlier calibrations remain valid.
    """
    parts: dict[str, BaseModel] = {
        "model": settings.model,
        "domain": settings.selected_domain,  # what the chosen domain contains, whatever it is called
        "inversion": settings.inversion,
        "redraw": settings.redraw,
        "distance": settings.distance,
        "in_distribution": settings.in_distribution,
    }
    text = json.dumps({name: _method(part) for name, part in parts.items()}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _method(part: BaseModel) -> dict[str, Any]:
    values = part.model_dump(mode="json")
    return {
        knob.path: values[knob.path]
        for knob in knobs(type(part))
        if knob.has(Decides.METHOD)
        and not (knob.added is Added.AFTER_CALIBRATIONS and values[knob.path] == knob.default)
    }


def weaknesses(calibration: Calibration) -> list[str]:
    """Reasons why a calibration is useless; empty if it is useful."""
    low, area, high = calibration.auc
    found = []
    if high < 0.5:
        found.append(
            f"common images are redrawn worse than original ones (AUC {area:.2f} [{low:.2f}, {high:.2f}]); "
            "are the labels swapped?"
        )
    elif low <= 0.5:
        found.append(
            f"the distance does not distinguish common from original images (AUC {area:.2f} [{low:.2f}, "
            f"{high:.2f}] includes 0.5)"
        )
    if not calibration.common_passing[1]:
        found.append(
            f"no common image is under the threshold: with at most {calibration.false_common:.3g} of the "
            "original images under it, none can let one pass"
        )
    return found


def doubts(settings: AuditSettings, digests: Mapping[str, str]) -> list[str]:
    """Reasons why the calibration in the settings does not apply to this audit; empty if it does, or if there
    is none.

    Args:
        digests: as :func:`originality.sweep.preflight.preflight` returns them.
    """
    known = settings.calibration
    if known is None:
        return []
    found = []
    for of, digest, weights in (
        (known.model_digest, digests["model_digest"], "a different model"),
        (known.judge_digest, digests["judge_digest"], "different weights of metric or check"),
    ):
        if of != digest:
            found.append(f"it was made with {weights} (digest {of}, here {digest})")
    if known.method_digest != method_digest(settings):
        found.append("it was made with different settings of inversion, redraws, domain, metric or check")
    for name, calibrated, used in (
        ("distance", known.distance_threshold, settings.distance.threshold),
        ("in_distribution", known.in_distribution_threshold, settings.in_distribution.threshold),
    ):
        if calibrated is not None and calibrated != used:
            found.append(f"{name}.threshold is {used:.4g}, but {calibrated:.4g} was calibrated")
    return found + weaknesses(known)
