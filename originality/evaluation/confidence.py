"""How sure a verdict is: what fresh redraws of the same learned words would give.

Pure functions of what an attempt measured. The chance of training is not in them: a different seed also
learns different words (docs/confidence.md says how often whole audits agree).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, Self

import numpy as np
from scipy import stats

from originality.settings.audit import AuditSettings

MIN_DISTANCES_FOR_BOOTSTRAP = 10
"""With fewer distances than this, their mean is taken to follow Student's t. A bootstrap of so few values
cannot show how far values lie that were not drawn."""
DRAWS = 2_000
"""Bootstrap draws of each attempt. The Monte Carlo error of a probability is then at most 0.01."""
_EQUAL = 1e-9
"""Distances that differ by no more than this are equal but for rounding."""
_INTERVAL = (2.5, 97.5)
"""Percentiles of a 95 % interval."""


class Measured(Protocol):
    """What is needed of an attempt (:class:`originality.evaluation.verdict.Attempt`)."""

    @property
    def tokens(self) -> int:
        """Number of tokens tried."""

    @property
    def distance_mean(self) -> float | None:
        """Mean distance of the redraws; None if they could not be measured."""

    @property
    def distance_sem(self) -> float | None:
        """Standard error of that mean; None with fewer than two redraws."""

    @property
    def redraws(self) -> int:
        """Number of redraws that were measured."""

    @property
    def distances(self) -> tuple[float, ...] | None:
        """Distance of each redraw; None in rows of versions that kept no distances."""

    @property
    def edit_hits(self) -> tuple[bool, ...] | None:
        """For each image of the edit prompt, whether it shows the subject; None if not kept or not drawn."""

    @property
    def editable(self) -> bool | None:
        """Outcome of the in-distribution check; None if it was not made."""

    @property
    def passed(self) -> bool:
        """Whether distance and check both passed."""

    @property
    def failure(self) -> str | None:
        """Why this attempt has no result; None if it has one."""


@dataclass(frozen=True)
class PassRule:
    """The rule by which an attempt passes."""

    threshold: float
    """The mean distance must be less."""
    share: float
    """Least share of edit images that show the edit subject."""
    count: int
    """Redraws, and edit images, that a complete evaluation has. One that was extended, as its outcome was
    unsure, has more; a fresh one is then taken to have as many."""

    @classmethod
    def of(cls, settings: AuditSettings) -> Self:
        """The rule that an audit with these settings applies."""
        return cls(settings.distance.threshold, settings.in_distribution.threshold, settings.redraw.count)


@dataclass(frozen=True)
class Sureness:
    """How sure the verdict of a sweep is."""

    pass_probabilities: tuple[float, ...]
    """Of each attempt of the sweep, in its order."""
    score: float
    """Expected number of tokens; never counts as max_tokens + 1."""
    low: float
    """Lower end of the score's 95 % interval."""
    high: float
    """Upper end of it."""
    confidence: float
    """Probability that min tokens come out the same with fresh redraws."""


def sureness(image_id: str, sweep: Sequence[Measured], rule: PassRule, max_tokens: int) -> Sureness:
    """How sure the verdict of a finished sweep is: of m = 1, 2, ... up to the first that passed, or to
    max_tokens if none did.

    The interval holds 95 % of the scores that result if the true mean distances and shares are drawn anew
    from what the redraws say of them.

    Args:
        sweep: in the order of its tokens, not empty.
    """
    found = [_probabilities(image_id, attempt, rule) for attempt in sweep]
    here = np.array([point for point, _ in found])
    chain = chances(here, max_tokens)
    drawn = scores(chances(np.stack([draws for _, draws in found], axis=-1), max_tokens))
    score = float(scores(chain))
    low, high = np.percentile(drawn, _INTERVAL)
    return Sureness(
        pass_probabilities=tuple(here.tolist()),
        score=score,
        low=min(float(low), score),
        high=max(float(high), score),
        confidence=float(chain[next((a.tokens for a in sweep if a.passed), max_tokens + 1) - 1]),
    )


def chances(pass_probabilities: np.ndarray, max_tokens: int) -> np.ndarray:
    """Probability that m is the first number of tokens to pass, for m = 1 to max_tokens, then that none does.

    A sweep stops at its first pass. Numbers of tokens beyond it, which fresh redraws may come to need, are
    taken to pass with the probability of the last attempt.

    Args:
        pass_probabilities: float64 (..., t), 1 <= t <= max_tokens, of the first t numbers of tokens.

    Returns:
        float64 (..., max_tokens + 1), which sums to one.
    """
    given = np.asarray(pass_probabilities, np.float64)
    missing = max_tokens - given.shape[-1]
    each = np.concatenate([given, np.repeat(given[..., -1:], missing, axis=-1)], axis=-1)
    ones = np.ones_like(each[..., :1])
    before = np.concatenate([ones, np.cumprod(1 - each, axis=-1)], axis=-1)
    return before * np.concatenate([each, ones], axis=-1)


def scores(chain: np.ndarray) -> np.ndarray:
    """Expected numbers of tokens, float64 (...), of :func:`chances` (..., max_tokens + 1)."""
    return np.asarray(chain @ np.arange(1, chain.shape[-1] + 1))


def near_probability(image_id: str, attempt: Measured, rule: PassRule) -> float:
    """Probability that the mean distance of fresh redraws is under the threshold.

    Args:
        attempt: with at least one redraw that was measured.
    """
    return _near_probabilities(image_id, attempt, rule)[0]


def check_probability(image_id: str, attempt: Measured, rule: PassRule) -> float:
    """Probability that the in-distribution check passes with fresh images; 1 if it was not made."""
    return _check_probabilities(image_id, attempt, rule)[0]


def redrawn_at(sweep: Sequence[Measured], rule: PassRule) -> int | None:
    """Smallest number of tokens whose mean distance is under the threshold; None if there is none."""
    return min((a.tokens for a in sweep if _near(a, rule)), default=None)


def in_distribution_at(sweep: Sequence[Measured]) -> int | None:
    """Smallest number of tokens whose in-distribution check passed; None if none did or was checked."""
    return min((a.tokens for a in sweep if a.editable), default=None)


def _near(attempt: Measured, rule: PassRule) -> bool:
    return attempt.failure is None and (attempt.distance_mean or 0.0) < rule.threshold and _measured(attempt)


def _measured(attempt: Measured) -> bool:
    return attempt.distance_mean is not None and math.isfinite(attempt.distance_mean)


def _probabilities(image_id: str, attempt: Measured, rule: PassRule) -> tuple[float, np.ndarray]:
    """Pass probability of an attempt, and float64 (DRAWS,): the same if its true mean distance and its true
    share of edit images were those of each draw.

    An attempt that failed does not pass. The distance and the check are taken to be independent.
    """
    if attempt.failure is not None or not _measured(attempt):
        return 0.0, np.zeros(DRAWS)
    near, near_drawn = _near_probabilities(image_id, attempt, rule)
    kept, kept_drawn = _check_probabilities(image_id, attempt, rule)
    return near * kept, near_drawn * kept_drawn


def _near_probabilities(image_id: str, attempt: Measured, rule: PassRule) -> tuple[float, np.ndarray]:
    """Probability that a fresh mean distance is under the threshold, and the same for each drawn true mean.

    A fresh mean differs by two errors: the measured mean is not the true one, and twenty fresh redraws do
    not have the true mean either.
    """
    rng = _generator(image_id, attempt.tokens, "distance")
    values, mean, deviation, n = _moments(attempt, rule.threshold)
    fresh = max(rule.count, n)
    error = deviation / math.sqrt(fresh)
    if values is None or n < MIN_DISTANCES_FOR_BOOTSTRAP:
        means = mean + deviation / math.sqrt(n) * rng.standard_t(n - 1, DRAWS)
        whole = deviation * math.sqrt(1 / n + 1 / fresh)
        point = float(stats.t.cdf((rule.threshold - mean) / whole, n - 1))
        return point, stats.norm.cdf((rule.threshold - means) / error)
    # Bayesian bootstrap (Rubin 1981): weights of the values are uniform on the simplex. Its variance is
    # smaller than that of a mean of n values by the factor (n - 1) / (n + 1), which is put right.
    weights = rng.standard_exponential((DRAWS, n))
    weights /= weights.sum(axis=1, keepdims=True)
    means = mean + math.sqrt((n + 1) / (n - 1)) * (weights @ (values - mean))
    drawn = stats.norm.cdf((rule.threshold - means) / error)
    return float(drawn.mean()), drawn


def _moments(attempt: Measured, threshold: float) -> tuple[np.ndarray | None, float, float, int]:
    """Distances where kept, their mean, standard deviation (not zero) and number (at least two).

    Equal distances, or a single one, say nothing of how distances vary. One more at the threshold is then
    assumed, so that a word counts as the surer the more distances were equal, on any metric's scale.
    """
    mean, n = float(attempt.distance_mean or 0.0), attempt.redraws
    values = None if not attempt.distances else np.asarray(attempt.distances, np.float64)
    if values is not None:
        mean, n = float(values.mean()), len(values)
        deviation = float(values.std(ddof=1)) if n > 1 else 0.0
    else:
        deviation = (attempt.distance_sem or 0.0) * math.sqrt(n)
    if n > 1 and deviation > _EQUAL:
        return values, mean, deviation, n
    gap = threshold - mean if abs(threshold - mean) > _EQUAL else -_EQUAL  # at the threshold it does not pass
    return None, threshold - gap * n / (n + 1), abs(gap) / math.sqrt(n + 1), n + 1


def _check_probabilities(image_id: str, attempt: Measured, rule: PassRule) -> tuple[float, np.ndarray]:
    """Probability that a fresh check passes, and the same for each drawn true share of edit images.

    Known by single images for editability alone (Jeffreys' prior). Another check's outcome is taken as
    measured, and an attempt that was not checked as passing, as in the decision itself.
    """
    hits = attempt.edit_hits
    if not hits:
        kept = float(attempt.editable is not False)
        return kept, np.full(DRAWS, kept)
    a, b = sum(hits) + 0.5, len(hits) - sum(hits) + 0.5
    fresh = max(rule.count, len(hits))
    fewest = math.ceil(rule.share * fresh - _EQUAL)
    shares = _generator(image_id, attempt.tokens, "check").beta(a, b, DRAWS)
    point = float(stats.betabinom.sf(fewest - 1, fresh, a, b))
    return point, stats.binom.sf(fewest - 1, fresh, shares)


def _generator(image_id: str, tokens: int, purpose: str) -> np.random.Generator:
    """A generator seeded by its key alone: the same numbers wherever and whenever a row is made."""
    digest = hashlib.sha256(repr((image_id, tokens, purpose)).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "little"))
