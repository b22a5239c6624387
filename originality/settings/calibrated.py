"""Where calibrated thresholds come from, as a part of the settings."""

from __future__ import annotations

from datetime import datetime

from pydantic import Field

from originality.contract.config import Frozen

Interval = tuple[float, float, float]
"""Low, itself, high: 95 % of bootstrap resamples lie between."""


class Calibration(Frozen):
    """Where thresholds come from (``originality calibrate``); decides no verdict."""

    metric: str
    """The distance that ``distance_threshold`` holds for."""
    check: str
    """The check that ``in_distribution_threshold`` holds for."""
    model_digest: str
    judge_digest: str
    """Of the weights of metric and check."""
    method_digest: str
    """Of all other settings that a distance at one token follows from
    (originality.calibration.thresholds)."""
    labels_digest: str
    """Of the images that were measured and their labels."""
    created: datetime

    common: int = Field(ge=1)
    """Labelled images that the thresholds were chosen on."""
    original: int = Field(ge=1)
    auc: Interval
    """Area under the ROC curve of the distance at one token."""
    false_common: float = Field(ge=0, lt=1)
    """At most this share of the original images is under ``distance_threshold``."""
    true_false_rate: tuple[float, float]
    """In which that share is of all original images that are like these, at 95 %."""
    distance_threshold: float
    distance_interval: tuple[float, float]
    """In which 95 % of bootstrap resamples put that threshold."""
    common_passing: Interval
    """Share of the common images under the threshold of their resample."""

    kept: float = Field(gt=0, le=1)
    """At least this share of the common images reaches ``in_distribution_threshold``."""
    in_distribution_threshold: float | None
    """None where there is no check, or it gave no score for an image of each label."""
    in_distribution_interval: tuple[float, float] | None
    in_distribution_auc: Interval | None
    """How well the score at one token tells common from original images."""
