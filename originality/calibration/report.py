"""Output of a calibration: lines for the terminal, settings for a file, and a figure.

The figure shows the ROC curve and the histograms of both labels.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from pydantic import BaseModel

from originality.calibration.thresholds import MIN_IMAGES, Measured, equivalent_above, roc, share_under
from originality.settings.audit import AuditSettings
from originality.settings.calibrated import Calibration

_COMMON, _ORIGINAL, _CUT = "#0072b2", "#d55e00", "#000000"
"""Colours of Okabe and Ito's palette, safe for colour-blind readers. Hatching and dashes distinguish the
labels without colour too."""
_BINS = (8, 30)
"""Least and largest number of histogram bins."""


def findings(
    calibration: Calibration, common: Measured, original: Measured, left_out: Counter[str]
) -> list[str]:
    """The results in lines. ``left_out``: number of images that could not be used, by reason."""
    reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(left_out.items()))
    fewest, passing, most = (100 * share for share in calibration.common_passing)
    least, worst = (100 * share for share in calibration.true_false_rate)
    at = _spread(calibration.distance_threshold, calibration.distance_interval)
    lines = [
        f"{calibration.common} common and {calibration.original} original images measured with one token"
        + (f"; {left_out.total()} left out ({reasons})" if left_out else ""),
        f"{calibration.metric}: AUC {_spread(calibration.auc[1], calibration.auc)}",
        f"distance.threshold {at}: {passing:.0f} % [{fewest:.0f}, {most:.0f}] of common images are under it, "
        f"at most {100 * calibration.false_common:.3g} % of these original ones ({least:.2g} to "
        f"{worst:.2g} % of all such images)",
    ]
    above = equivalent_above((common, original), calibration.distance_threshold)
    if above is not None:
        lines.append(f"every threshold above {above:.4g} up to it classifies these images the same")
    if calibration.in_distribution_threshold is None:
        return [*lines, f"check {calibration.check}: no scores, so in_distribution.threshold stays as it is"]
    assert calibration.in_distribution_auc and calibration.in_distribution_interval
    at = _spread(calibration.in_distribution_threshold, calibration.in_distribution_interval)
    area = calibration.in_distribution_auc
    return [
        *lines,
        f"{calibration.check}: AUC {_spread(area[1], area)}",
        f"in_distribution.threshold {at}: at least {100 * calibration.kept:.3g} % of common images reach it",
    ]


def _spread(value: float, interval: Sequence[float]) -> str:
    return f"{value:.4g} [{interval[0]:.4g}, {interval[-1]:.4g}]"


def few_images(calibration: Calibration) -> list[str]:
    """Warnings about labels with few images."""
    counts = {"common": calibration.common, "original": calibration.original}
    return [
        f"{count} {label} images are few, so the thresholds are uncertain; label {MIN_IMAGES} or more"
        for label, count in counts.items()
        if count < MIN_IMAGES
    ]


def thresholds(settings: AuditSettings, calibration: Calibration) -> dict[str, Any]:
    """The settings to write to the file: the thresholds, the settings that they apply to, and their
    origin."""
    distance = {"metric": settings.distance.metric, **_chosen(settings.distance, ("branch",))}
    check: dict[str, Any] = {"check": settings.in_distribution.check}
    if calibration.in_distribution_threshold is not None:
        check.update(_chosen(settings.in_distribution, ("detector", "detector_score")))
        check["threshold"] = calibration.in_distribution_threshold
    return {
        "distance": {**distance, "threshold": calibration.distance_threshold},
        "in_distribution": check,
        "calibration": calibration.model_dump(mode="json"),
    }


def _chosen(part: BaseModel, names: Sequence[str]) -> dict[str, Any]:
    """The named settings that are not at their defaults."""
    values = part.model_dump(mode="json")
    return {name: values[name] for name in names if values[name] != type(part).model_fields[name].default}


def figure(calibration: Calibration, common: Measured, original: Measured) -> bytes:
    """PNG image with the ROC curve of the distance, the histogram of the distances and, if the check has
    scores, their histogram."""
    from matplotlib.figure import Figure  # slow to import

    kept_from = calibration.in_distribution_threshold
    scored = kept_from is not None
    drawn = Figure(figsize=(4.8 * (2 + scored), 4.3), layout="constrained")
    axes = drawn.subplots(1, 2 + scored)
    _draw_roc(axes[0], calibration, common.distances, original.distances)
    title = f"Distance at one token ({calibration.metric})"
    under = calibration.distance_threshold
    _draw_histograms(axes[1], title, common.distances, original.distances, under, "common under")
    if kept_from is not None:
        title = f"Score at one token ({calibration.check})"
        _draw_histograms(axes[2], title, common.scores, original.scores, kept_from, "kept from")
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
    buffer = io.BytesIO()
    drawn.savefig(buffer, format="png", dpi=150)
    return buffer.getvalue()


def _draw_roc(axis: Any, calibration: Calibration, common: np.ndarray, original: np.ndarray) -> None:
    _, false, true = roc(common, original)
    low, area, high = calibration.auc
    axis.plot((0, 1), (0, 1), color="#777777", linestyle=":", linewidth=1.2, label="chance")
    axis.plot(false, true, color=_COMMON, linewidth=2, label=f"AUC {area:.2f} [{low:.2f}, {high:.2f}]")
    at = np.array([calibration.distance_threshold])
    axis.plot(
        share_under(original, at),
        share_under(common, at),
        "o",
        markersize=9,
        markerfacecolor="white",
        markeredgecolor=_CUT,
        markeredgewidth=1.8,
        clip_on=False,
        label=f"threshold {at[0]:.3g}",
    )
    axis.set(xlim=(-0.02, 1), ylim=(0, 1.02), aspect="equal")
    axis.set_xlabel(f"share of the {len(original)} original images under it")
    axis.set_ylabel(f"share of the {len(common)} common images under it")
    axis.set_title("ROC of the distance", loc="left")
    axis.legend(loc="lower right", frameon=False)


def _draw_histograms(
    axis: Any, title: str, common: np.ndarray, original: np.ndarray, threshold: float, cut: str
) -> None:
    """Histograms of both labels in the same bins: common filled, original hatched."""
    both = np.concatenate([common, original])
    low, high = float(both.min()), float(both.max())
    bins = int(np.clip(2 * np.sqrt(len(both)), *_BINS))
    edges = np.linspace(low, high if high > low else low + 1.0, bins + 1)
    for values, name, look in (
        (common, "common", {"facecolor": _COMMON, "alpha": 0.55, "edgecolor": _COMMON}),
        (original, "original", {"facecolor": "none", "edgecolor": _ORIGINAL, "hatch": "////"}),
    ):
        weights = np.full(len(values), 1 / len(values))
        label = f"{name} ({len(values)})"
        axis.hist(values, edges, weights=weights, histtype="stepfilled", linewidth=1.5, label=label, **look)
    axis.axvline(threshold, color=_CUT, linestyle="--", linewidth=1.8, label=f"{cut} {threshold:.3g}")
    axis.set_xlabel(title)
    axis.set_ylabel("share of the label's images")
    axis.set_title(title.partition(" ")[0] + "s by label", loc="left")
    axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=3, frameon=False, columnspacing=1.0)
