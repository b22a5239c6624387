"""What the redraws and edit images seen so far decide; None while more are to be drawn.

Two rules ask for more: :mod:`originality.evaluation.early_stopping`, until it is certain what all
``redraw.count`` images would decide, and then ``redraw.confirm``, until the verdict is as sure as that. Pure
functions of what was measured, so that a sweep and :mod:`originality.evaluation.rejudge` decide alike.

A verdict's confidence is the product of its attempts' certainties (:mod:`originality.evaluation.confidence`).
So a sweep has a budget of doubt, of which each attempt may use a part: one that passes ends the sweep and may
use all that is left; one that fails leaves as much as the numbers of tokens that may follow will need.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from originality.evaluation.confidence import Measured, PassRule, check_probability, near_probability
from originality.evaluation.early_stopping import certain, share_certain
from originality.settings.audit import AuditSettings


@dataclass(frozen=True)
class Seen:
    """What was seen of one number of tokens, as :mod:`originality.evaluation.confidence` reads it."""

    tokens: int
    distances: tuple[float, ...] | None = None
    edit_hits: tuple[bool, ...] | None = None
    editable: bool | None = None
    passed: bool = False
    failure: str | None = None
    distance_sem: float | None = None

    @property
    def redraws(self) -> int:
        """Number of redraws that were measured."""
        return len(self.distances or ())

    @property
    def distance_mean(self) -> float | None:
        """Mean distance of the redraws; None if there are none."""
        return float(np.mean(self.distances)) if self.distances else None


@dataclass(frozen=True)
class Word:
    """A learned word under judgement."""

    image_id: str
    tokens: int
    before: float = 1.0
    """Probability that all attempts before this one, which failed, fail again with fresh redraws."""


class Decisions:
    """The decisions of an audit."""

    def __init__(self, settings: AuditSettings, largest: float) -> None:
        """``largest``: largest distance of the metric."""
        self._redraw, self._check, self._largest = settings.redraw, settings.in_distribution, largest
        self._threshold, self._max_tokens = settings.distance.threshold, settings.max_tokens
        self._rule = PassRule.of(settings)

    def fail_again(self, image_id: str, sweep: Sequence[Measured]) -> float:
        """Probability that all these attempts, which failed, fail again with fresh redraws. It is computed
        only where the settings ask for confirmation, as nothing else depends on it."""
        if self._redraw.confirm is None:
            return 1.0
        measured = [attempt for attempt in sweep if attempt.failure is None]
        near = (near_probability(image_id, attempt, self._rule) for attempt in measured)
        kept = (check_probability(image_id, attempt, self._rule) for attempt in measured)
        return math.prod(1 - n * k for n, k in zip(near, kept, strict=True))

    def near(self, word: Word, distances: Sequence[float]) -> bool | None:
        """Whether the mean distance is under the threshold."""
        redraw = self._redraw
        total = max(redraw.count, len(distances))
        near = certain(distances, total, self._threshold, self._largest, redraw.confidence)
        if near is None or not self._may_draw_more(len(distances)):
            return near
        found = near_probability(word.image_id, Seen(word.tokens, tuple(distances)), self._rule)
        if not near:
            return near if 1 - found >= self._needed_to_fail(word) else None
        needed = self._needed_to_pass(word)
        # Where edit images follow, the distance and they may each use half of the doubt.
        edits_follow = self._check.check == "editability"
        return near if found >= (math.sqrt(needed) if edits_follow else needed) else None

    def editable(self, word: Word, hits: Sequence[bool], near: bool) -> bool | None:
        """Whether enough edit images show the edit subject. ``near``: as the redraws decided; if they did not
        pass, the verdict does not depend on the edit images."""
        total = max(self._redraw.count, len(hits))
        editable = share_certain(hits, total, self._check.threshold, self._redraw.confidence)
        if editable is None or not near or not self._may_draw_more(len(hits)):
            return editable
        seen = replace(Seen(word.tokens), edit_hits=tuple(map(bool, hits)))
        kept = check_probability(word.image_id, seen, self._rule)
        if not editable:
            return editable if 1 - kept >= self._needed_to_fail(word) else None
        return editable if kept >= math.sqrt(self._needed_to_pass(word)) else None

    def _may_draw_more(self, drawn: int) -> bool:
        return self._redraw.confirm is not None and len(self._redraw.round_after(drawn)) > 0

    def _needed_to_pass(self, word: Word) -> float:
        """Least probability to pass again of an attempt that passes."""
        confirm = self._redraw.confirm or 0.0
        # Where earlier attempts have used up the doubt, no certainty of this one brings the verdict to the
        # confidence. It is then held to the confidence by itself.
        return confirm / word.before if word.before > confirm else confirm

    def _needed_to_fail(self, word: Word) -> float:
        """Least probability to fail again of an attempt that fails."""
        to_come = self._max_tokens - word.tokens + 1
        return float(self._needed_to_pass(word) ** (1 / to_come))
