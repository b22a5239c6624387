"""The origin of calibrated thresholds, as a part of the settings."""

from __future__ import annotations

from datetime import datetime

from pydantic import Field

from originality.contract.config import Frozen

Interval = tuple[float, float, float]
"""Lower end, value, upper end: 95 % of bootstrap resamples lie between the ends."""


class Calibration(Frozen):
    """Where thresholds come from (``originality calibrate``). A record only: it changes no verdict."""

    metric: str
    """The metric that ``distance_threshold`` was chosen for."""
    check: str
    """The check that ``in_distribution_threshold`` was chosen for."""
    model_digest: str
    """Digest of the model's weights and configuration."""
    judge_digest: str
    """Digest of the weights of metric and check."""
    method_digest: str
    """Digest of the other settings that decide the distance at one token
    (:func:`originality.calibration.thresholds.method_digest`)."""
    labels_digest: str
    """Digest of the measured images and their labels."""
    created: datetime
    """Time at which the thresholds were chosen, UTC."""

    common: int = Field(ge=1)
    """Number of images labelled common that the thresholds were chosen on."""
    original: int = Field(ge=1)
    """Number of images labelled original that the thresholds were chosen on."""
    auc: Interval
    """Area under the ROC curve of the distance at one token."""
    false_common: float = Field(ge=0, lt=1)
    """Largest share of the original images that may be under ``distance_threshold``."""
    true_false_rate: tuple[float, float]
    """95 % interval of the share of all original images like these that is under ``distance_threshold``."""
    distance_threshold: float
    """Chosen value of ``distance.threshold``."""
    distance_interval: tuple[float, float]
    """95 % interval of that threshold over bootstrap resamples."""
    common_passing: Interval
    """Share of the common images under the threshold of their resample."""

    kept: float = Field(gt=0, le=1)
    """Least share of the common images that must reach ``in_distribution_threshold``."""
    in_distribution_threshold: float | None
    """Chosen value of ``in_distribution.threshold``. None if there is no check, or no score for an image
    of each label."""
    in_distribution_interval: tuple[float, float] | None
    """95 % interval of that threshold over bootstrap resamples."""
    in_distribution_auc: Interval | None
    """Area under the ROC curve of the score at one token."""
