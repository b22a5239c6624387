"""The verdict on an image: the results of its sweep as one row."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from originality.evaluation.confidence import PassRule, in_distribution_at, redrawn_at, sureness

DECIMALS = 6
"""Of probabilities and scores in a row. Kinds of CPU differ in later ones."""


class Attempt(BaseModel):
    """Results of one number of tokens for one image."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    tokens: int
    """Number of pseudo-tokens."""
    distance_mean: float | None
    """Mean distance of the redraws; None if it could not be measured (the inversion failed)."""
    distance_sem: float | None
    """Standard error of that mean."""
    redraws: int
    """Redraws rendered and measured."""
    editability: float | None
    """Score of the in-distribution check; None if there was no check, or no evidence either way."""
    editable: bool | None
    """Whether that score passed; None if there is none."""
    passed: bool
    """Whether it was redrawn and in distribution; the sweep then stops."""
    inversion_steps: int
    """Optimiser steps of the inversion, skipped ones included."""
    skipped_steps: int = 0
    """Steps not taken because their loss or gradient overflowed in half precision."""
    unet_samples: int
    """Samples through the UNet, inversion and redraws (forward; those of the inversion also backward)."""
    seconds: float
    """Wall time, divided evenly among the images of a pass."""
    failure: str | None = None
    """Why this number of tokens could not be judged, e.g. "the loss of step 12 is not finite"."""
    distances: tuple[float, ...] | None = None
    """Distance of each redraw, in the order in which they were rendered; None in rows of older versions."""
    edit_hits: tuple[bool, ...] | None = None
    """For each image of the edit prompt, whether it shows the edit subject; None if none was rendered."""
    pass_probability: float | None = None
    """Probability that this number of tokens would pass with fresh redraws of the same word."""


class Verdict(BaseModel):
    """One row of a run's results: one image."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    image_id: str
    status: Literal["judged", "rejected", "failed"]
    min_tokens: int | None = None
    """Smallest number of tokens that passed; None if none did."""
    censored: bool = False
    """Whether no number of tokens up to max_tokens passed: the true number, if any, is larger."""
    max_tokens: int | None = None
    score: float | None = None
    """Expected number of tokens, never counted as max_tokens + 1; None if the image was not judged."""
    score_low: float | None = None
    """Lower end of the score's 95 % interval."""
    score_high: float | None = None
    """Upper end of it."""
    confidence: float | None = None
    """Probability that min_tokens would come out the same with fresh redraws of the same words."""
    redrawn_at: int | None = None
    """Smallest number of tokens whose mean distance was under the threshold."""
    in_distribution_at: int | None = None
    """Smallest number of tokens whose in-distribution check passed; None if none did or was checked."""
    reference_distance: float | None = None
    """Mean distance of the image to draws from the plain prompt; None if it was not measured."""
    sweep: tuple[Attempt, ...] = ()
    model: str | None = None
    settings_digest: str | None = None
    initial_word: str | None = None
    """Word that all pseudo-tokens started from; None if the image was never admitted to a sweep."""
    edit_subject: str | None = None
    """Subject looked for in images of the edit prompt; None if the check needs none."""
    error_class: str | None = None
    error_message: str | None = None
    note: str | None = None
    """Remark on the file of a judged image, e.g. that it lacks its end marker."""
    artefacts: str | None = None
    """Folder of the image's artefacts within the run; None if there are none."""
    attempts: int = 1
    worker: str | None = None
    finished_at: datetime = Field(default_factory=lambda: datetime.now(UTC))

    def row(self) -> dict[str, Any]:
        """The verdict as plain JSON values."""
        return self.model_dump(mode="json")


def passes(distance_mean: float | None, threshold: float, in_distribution: bool | None) -> bool:
    """The decision rule: redrawn (strictly under the threshold) and not found to be out of distribution.

    A distance that is missing or NaN never passes.
    """
    if distance_mean is None or math.isnan(distance_mean):
        return False
    return distance_mean < threshold and in_distribution is not False


def min_tokens(sweep: Sequence[Attempt]) -> int | None:
    """The smallest number of tokens that passed; None if none did.

    A larger one may fail again, because distances need not fall with m.
    """
    return next((a.tokens for a in sorted(sweep, key=lambda a: a.tokens) if a.passed), None)


def judge(
    image_id: str,
    sweep: Sequence[Attempt],
    *,
    max_tokens: int,
    model: str,
    settings_digest: str,
    initial_word: str | None = None,
    edit_subject: str | None = None,
    rule: PassRule | None = None,
) -> Verdict:
    """The verdict of a finished sweep; if every attempt failed, the image has failed.

    Args:
        rule: by which the attempts passed; None: how sure the verdict is, is left out.
    """
    verdict = Verdict(
        image_id=image_id,
        status="judged",
        max_tokens=max_tokens,
        sweep=tuple(sweep),
        model=model,
        settings_digest=settings_digest,
        initial_word=initial_word,
        edit_subject=edit_subject,
    )
    if sweep and all(a.failure for a in sweep):
        failure = {"error_class": "InversionFailed", "error_message": sweep[-1].failure}
        return verdict.model_copy(update={"status": "failed", **failure})
    fewest = min_tokens(sweep)
    found = {"min_tokens": fewest, "censored": fewest is None}
    return verdict.model_copy(update={**found, **_sureness(verdict, rule)})


def _sureness(verdict: Verdict, rule: PassRule | None) -> dict[str, Any]:
    """The fields of a verdict that say how sure it is."""
    if rule is None or not verdict.sweep or verdict.max_tokens is None:
        return {}
    found = sureness(verdict.image_id, verdict.sweep, rule, verdict.max_tokens)
    sweep = tuple(
        attempt.model_copy(update={"pass_probability": round(probability, DECIMALS)})
        for attempt, probability in zip(verdict.sweep, found.pass_probabilities, strict=True)
    )
    return {
        "sweep": sweep,
        "score": round(found.score, DECIMALS),
        "score_low": round(found.low, DECIMALS),
        "score_high": round(found.high, DECIMALS),
        "confidence": round(found.confidence, DECIMALS),
        "redrawn_at": redrawn_at(sweep, rule),
        "in_distribution_at": in_distribution_at(sweep),
    }
