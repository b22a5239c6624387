"""What is said of an image: the sweep's findings as one row."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class Attempt(BaseModel):
    """One number of tokens tried on one image."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    tokens: int
    """How many pseudo-tokens."""
    distance_mean: float | None
    """Mean distance of the redraws; None where it could not be measured (the inversion failed)."""
    distance_sem: float | None
    """Standard error of that mean."""
    redraws: int
    """Images drawn and measured."""
    editability: float | None
    """Score of the in-distribution check; None where it was not asked for or could not be taken."""
    editable: bool | None
    """Whether that score passed."""
    passed: bool
    """Redrawn and in distribution: the sweep stops here."""
    inversion_steps: int
    skipped_steps: int = 0
    """Of those: not taken, as their numbers had overflowed in half precision."""
    unet_samples: int
    """Samples through the UNet, inversion and redraws together (forward; the inversion's also backward)."""
    seconds: float
    """Wall time, shared evenly among the images of a batch."""
    failure: str | None = None
    """Why the number of tokens could not be judged, e.g. "the loss of step 12 is nan"."""


class Verdict(BaseModel):
    """One row for one image (see the run folder's contract)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    image_id: str
    status: Literal["judged", "rejected", "failed"]
    min_tokens: int | None = None
    """Smallest number of tokens that passed; None when none did."""
    censored: bool = False
    """True when no number of tokens up to max_tokens passed."""
    max_tokens: int | None = None
    sweep: tuple[Attempt, ...] = ()
    model: str | None = None
    settings_digest: str | None = None
    initial_word: str | None = None
    """All pseudo-tokens started from it; None where the image was never in hand."""
    edit_subject: str | None = None
    """Looked for in a scene of the concept; None where that was not asked."""
    error_class: str | None = None
    error_message: str | None = None
    note: str | None = None
    """A remark on a judged image's file: it lacks its end marker, say."""
    artefacts: str | None = None
    """Folder within the run of what came of the image beside its row; None where nothing did."""
    attempts: int = 1
    worker: str | None = None
    finished_at: datetime = Field(default_factory=lambda: datetime.now(UTC))

    @property
    def folder(self) -> str:
        """Of the artefacts; in runs of older versions the image had one for all attempts."""
        return self.artefacts or f"images/{self.image_id}"

    def row(self) -> dict[str, Any]:
        """The verdict as plain JSON values."""
        return self.model_dump(mode="json")


def passes(distance_mean: float | None, threshold: float, in_distribution: bool | None) -> bool:
    """The decision rule: redrawn (strictly under the threshold) and not found out of distribution.

    A distance that is missing or not a number never passes.
    """
    if distance_mean is None or math.isnan(distance_mean):
        return False
    return distance_mean < threshold and in_distribution is not False


def min_tokens(sweep: Sequence[Attempt]) -> int | None:
    """The first number of tokens that passed. Distances need not fall with m: the first one counts."""
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
) -> Verdict:
    """The verdict of a finished sweep; one in which every attempt failed is a failed image."""
    if sweep and all(a.failure for a in sweep):
        return Verdict(
            image_id=image_id,
            status="failed",
            max_tokens=max_tokens,
            sweep=tuple(sweep),
            model=model,
            settings_digest=settings_digest,
            initial_word=initial_word,
            edit_subject=edit_subject,
            error_class="InversionFailed",
            error_message=sweep[-1].failure,
        )
    fewest = min_tokens(sweep)
    return Verdict(
        image_id=image_id,
        status="judged",
        min_tokens=fewest,
        censored=fewest is None,
        max_tokens=max_tokens,
        sweep=tuple(sweep),
        model=model,
        settings_digest=settings_digest,
        initial_word=initial_word,
        edit_subject=edit_subject,
    )
