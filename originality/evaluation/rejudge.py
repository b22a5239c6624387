"""Verdicts under other thresholds, from the distances and hits that a row keeps. No image is drawn.

What a fresh audit would decide is decided again in its order: round by round, with the same early stopping.
Where it would have gone on measuring, the row does not say what it would have found.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from originality.evaluation.confidence import PassRule
from originality.evaluation.decisions import Decisions, Word
from originality.evaluation.verdict import Attempt, Verdict, judge
from originality.settings.audit import AuditSettings

NEEDS_SWEEP = "NeedsSweep"
"""Error class of rows that their kept measurements do not decide."""

_DECIDED = (
    *("status", "min_tokens", "censored", "sweep", "settings_digest", "error_class", "error_message"),
    *("score", "score_low", "score_high", "confidence", "redrawn_at", "in_distribution_at"),
)
"""Fields of a verdict that follow from its thresholds."""

_Value = TypeVar("_Value", float, bool)


class NeedsSweep(ValueError):  # noqa: N818 - named after what is needed
    """The kept measurements do not decide the row; the message says what is missing."""


@dataclass(frozen=True)
class Thresholds:
    """How an audit decides, before and after its thresholds change."""

    old: AuditSettings
    new: AuditSettings
    """The same settings with another ``distance.threshold`` or ``in_distribution.threshold``."""
    largest: float = 1.0
    """Largest distance of the metric."""


def rejudged(verdict: Verdict, thresholds: Thresholds) -> Verdict:
    """The verdict of a judged image under the new thresholds, as a fresh audit would find it.

    Steps, samples and seconds stay those that were spent. The score of the check of positions is of all
    redraws that were kept, also where a fresh audit would have stopped earlier.

    Returns:
        A judged verdict, whose sweep ends at its first pass; or a failed one with the error class
        NeedsSweep, whose sweep ends where its measurements no longer decide.
    """
    sweep: list[Attempt] = []
    settings, reason = thresholds.new, ""
    decisions = Decisions(settings, thresholds.largest)
    for attempt in sorted(verdict.sweep, key=lambda a: a.tokens):
        try:
            before = decisions.fail_again(verdict.image_id, sweep)
            word = Word(verdict.image_id, attempt.tokens, before)
            sweep.append(_attempt(attempt, word, decisions, thresholds))
        except NeedsSweep as needed:
            undecided = {"passed": False, "pass_probability": None}
            sweep.append(attempt.model_copy(update=undecided))
            reason = f"with {_tokens(attempt.tokens)}: {needed}"
            break
        if sweep[-1].passed:
            break
    if not reason and not any(a.passed for a in sweep) and len(sweep) < settings.max_tokens:
        tried = f"{_tokens(len(sweep))} no longer pass" + ("es" if len(sweep) == 1 else "")
        reason = f"{tried}, and more were not tried"
    found = judge(
        verdict.image_id,
        sweep,
        max_tokens=settings.max_tokens,
        model=verdict.model or settings.model.path,
        settings_digest=settings.digest(),
        rule=None if reason else PassRule.of(settings),
    )
    changed = {name: getattr(found, name) for name in _DECIDED}
    if reason:
        changed |= {"status": "failed", "min_tokens": None, "censored": False}
        changed |= {"error_class": NEEDS_SWEEP, "error_message": reason}
    return verdict.model_copy(update=changed)


def keeps_distances(verdict: Verdict) -> bool:
    """Whether each of its attempts that was measured keeps its distances; older versions kept none."""
    return all(a.failure is not None or a.distances is not None for a in verdict.sweep)


def _attempt(attempt: Attempt, word: Word, decisions: Decisions, thresholds: Thresholds) -> Attempt:
    """An attempt decided again.

    Raises:
        NeedsSweep: a fresh audit would have measured more.
    """
    if attempt.failure is not None:
        return attempt
    if not attempt.distances:
        raise NeedsSweep("an older version judged it, which kept no distances")
    near, distances = _first_decided(
        attempt.distances, lambda values: decisions.near(word, values), thresholds, "redraws"
    )
    changed = {"redraws": len(distances), "distances": distances}
    if distances != attempt.distances:
        changed["distance_mean"] = float(np.mean(distances))
        spread = float(np.std(distances, ddof=1) / math.sqrt(len(distances))) if len(distances) > 1 else None
        changed["distance_sem"] = spread
    changed |= _check(attempt, near, word, decisions, thresholds)
    passed = near and changed.get("editable") is not False
    return attempt.model_copy(update={**changed, "passed": passed})


def _check(
    attempt: Attempt, near: bool, word: Word, decisions: Decisions, thresholds: Thresholds
) -> dict[str, object]:
    """Fields of the in-distribution check, decided again."""
    check = thresholds.new.in_distribution
    if check.check == "none":
        return {"editability": None, "editable": None, "edit_hits": None}
    if not near and check.ask == "redrawn":
        return {"editability": None, "editable": None, "edit_hits": None}
    was_near = attempt.distance_mean is not None and attempt.distance_mean < thresholds.old.distance.threshold
    if not was_near and check.ask == "redrawn":
        raise NeedsSweep("its in-distribution check was not made, as its distance did not pass")
    if not attempt.edit_hits:
        kept = None if attempt.editability is None else attempt.editability >= check.threshold
        return {"editability": attempt.editability, "editable": kept, "edit_hits": None}
    kept, hits = _first_decided(
        attempt.edit_hits, lambda values: decisions.editable(word, values, near), thresholds, "edit images"
    )
    return {"editability": float(np.mean(hits)), "editable": kept, "edit_hits": hits}


def _first_decided(
    values: tuple[_Value, ...],
    decide: Callable[[Sequence[_Value]], bool | None],
    thresholds: Thresholds,
    what: str,
) -> tuple[bool, tuple[_Value, ...]]:
    """The outcome after the first round that decides, and the values seen until then.

    Raises:
        NeedsSweep: no round that was kept decides.
    """
    redraw, rendered = thresholds.new.redraw, 0
    while rendered < len(values) and (due := redraw.round_after(rendered)):
        rendered = min(due.stop, len(values))
        if (outcome := decide(values[:rendered])) is not None:
            return outcome, values[:rendered]
    most = redraw.count if redraw.confirm is None else redraw.most
    raise NeedsSweep(f"{len(values)} of {most} {what} were drawn, which do not decide")


def _tokens(number: int) -> str:
    return f"{number} token{'' if number == 1 else 's'}"
