"""Verdicts under other thresholds: as a fresh audit decides, or an honest "needs a longer sweep"."""

from __future__ import annotations

import functools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from originality.evaluation.confidence import PassRule
from originality.evaluation.distance.dreamsim import DreamSim
from originality.evaluation.distance.elements import ElementSetDistance
from originality.evaluation.early_stopping import certain, share_certain
from originality.evaluation.rejudge import NEEDS_SWEEP, Thresholds, keeps_distances, rejudged
from originality.evaluation.verdict import Attempt, Verdict, judge, passes
from originality.settings.audit import AuditSettings
from originality.settings.presets import load_settings
from originality.sweep.sweep import Sweep
from tests.support.attempts import attempt_of
from tests.support.sweeps import Grey, changed, item, run, timeless

TOKENS, COUNT = 4, 12


@functools.cache
def settings(
    threshold: float, share: float = 0.5, round_: int | None = None, ask="always", check="editability"
):
    parts = {
        "redraw": {"count": COUNT, "round": round_, "confidence": 0.8},
        "distance": {"metric": "imagenet", "threshold": threshold},
        "in_distribution": {"check": check, "threshold": share, "ask": ask},
    }
    return load_settings("laptop", None, {**parts, "domain": "houses", "max_tokens": TOKENS})


def stopped(values, decide, size):
    """The values that are seen until a round decides, and the outcome."""
    seen: list = []
    while True:
        seen += values[len(seen) : len(seen) + size]
        if (outcome := decide(seen)) is not None:
            return seen, outcome


def audited(distances, hits, own: AuditSettings) -> Verdict:
    """What an audit finds of an image with these distances of redraws and hits of edit images."""
    redraw, check = own.redraw, own.in_distribution
    sweep: list[Attempt] = []
    for m in range(1, TOKENS + 1):
        seen, near = stopped(
            distances[m - 1],
            lambda v: certain(v, COUNT, own.distance.threshold, 1.0, redraw.confidence),
            redraw.round_size,
        )
        shown, editable = None, None
        if check.check == "editability" and (near or check.ask == "always"):
            shown, editable = stopped(
                hits[m - 1],
                lambda v: share_certain(v, COUNT, check.threshold, redraw.confidence),
                redraw.round_size,
            )
        sweep.append(attempt_of(m, seen, near, shown, editable))
        if sweep[-1].passed:
            break
    digest, rule = own.digest(), PassRule.of(own)
    return judge("a", sweep, max_tokens=TOKENS, model="m", settings_digest=digest, rule=rule)


def science(verdict: Verdict) -> dict:
    return verdict.model_dump(exclude={"finished_at"})


def per_attempt(values):
    """COUNT values for each number of tokens."""
    return st.lists(st.lists(values, min_size=COUNT, max_size=COUNT), min_size=TOKENS, max_size=TOKENS)


VALUES = per_attempt(st.sampled_from([0.0, 0.2, 0.4, 0.6, 1.0]))
HITS = per_attempt(st.booleans())
LIMITS = st.sampled_from([0.0, 0.1, 0.3, 0.35, 0.45, 0.6, 1.1])
SHARES = st.sampled_from([0.0, 0.3, 0.5, 0.8])
ROUNDS = st.sampled_from([None, 1, 3, 5])
ASK = st.sampled_from(["always", "redrawn"])
CHECK = st.sampled_from(["editability", "none"])


@given(VALUES, HITS, LIMITS, SHARES, ROUNDS, ASK, CHECK)
def test_at_the_runs_own_thresholds_nothing_changes(distances, hits, limit, share, round_, ask, check):
    own = settings(limit, share, round_, ask, check)
    found = audited(distances, hits, own)
    assert rejudged(found, Thresholds(own, own)) == found


@given(VALUES, HITS, LIMITS, LIMITS, SHARES, SHARES, ROUNDS, ASK, CHECK)
def test_rejudging_equals_a_new_audit_or_asks_for_a_sweep(
    distances, hits, limit, other, share, other_share, round_, ask, check
):
    old, new = (settings(t, s, round_, ask, check) for t, s in ((limit, share), (other, other_share)))
    found, fresh = audited(distances, hits, old), audited(distances, hits, new)
    again = rejudged(found, Thresholds(old, new))
    if again.error_class == NEEDS_SWEEP:
        assert (again.status, again.min_tokens, again.censored, again.score) == ("failed", None, False, None)
        assert again.error_message and again.settings_digest == new.digest()
        enough = [a.redraws for a in found.sweep[: len(fresh.sweep)]] >= [a.redraws for a in fresh.sweep]
        whole = len(found.sweep) >= len(fresh.sweep) and round_ is None and ask == "always"
        assert not (enough and whole)  # everything that a fresh audit sees was there
    else:
        assert science(again) | {"sweep": None} == science(fresh) | {"sweep": None}
        for ours, theirs in zip(again.sweep, fresh.sweep, strict=True):
            assert ours == theirs


@pytest.mark.parametrize(
    "old, new, reason",
    [
        (settings(0.5), settings(0.1), "1 token no longer passes, and more were not tried"),
        (settings(0.1, round_=3), settings(0.205, round_=3), "3 of 12 redraws were drawn"),
        (settings(0.1, ask="redrawn"), settings(0.5, ask="redrawn"), "check was not made"),
        (settings(0.5, 0.1, round_=3), settings(0.5, 0.5, round_=3), "edit images were drawn"),
    ],
)
def test_a_row_names_why_it_needs_a_longer_sweep(old, new, reason):
    found = audited([[0.2] * COUNT] * TOKENS, [[True, True, False, False] * 3] * TOKENS, old)
    again = rejudged(found, Thresholds(old, new))
    assert (again.status, again.error_class) == ("failed", NEEDS_SWEEP)
    assert reason in again.error_message
    assert not any(attempt.passed for attempt in again.sweep)


def test_the_check_of_positions_is_decided_by_its_score():
    """Its score is of the redraws that were kept."""
    old = load_settings("laptop", None, {"distance": {"metric": "elements", "threshold": 0.5}})
    attempt = Attempt(
        tokens=1,
        distance_mean=0.2,
        distance_sem=0.01,
        redraws=20,
        editability=0.6,
        editable=True,
        passed=True,
        inversion_steps=1,
        unet_samples=1,
        seconds=1.0,
        distances=(0.19, 0.21) * 10,
    )
    found = judge("a", [attempt], max_tokens=5, model="m", settings_digest="s", rule=PassRule.of(old))
    strict = changed(old, in_distribution={"threshold": 0.7})
    again = rejudged(found, Thresholds(old, strict))
    assert again.error_class == NEEDS_SWEEP and again.sweep[0].editable is False
    assert rejudged(found, Thresholds(old, changed(old, in_distribution={"threshold": 0.55}))).min_tokens == 1


def test_failed_attempts_stay_and_rows_of_older_versions_need_a_sweep():
    old, new = settings(0.5), settings(0.3)
    found = audited([[0.4] * COUNT] * TOKENS, [[True] * COUNT] * TOKENS, old)
    (attempt,) = found.sweep
    failed = attempt.model_copy(
        update={"failure": "nan", "passed": False, "distance_mean": None, "distances": ()}
    )
    mixed = found.model_copy(update={"sweep": (failed, attempt.model_copy(update={"tokens": 2}))})
    assert rejudged(mixed, Thresholds(old, settings(0.45))).min_tokens == 2
    older = found.model_copy(update={"sweep": (attempt.model_copy(update={"distances": None}),)})
    assert keeps_distances(found) and keeps_distances(mixed) and not keeps_distances(older)
    assert "older version" in (rejudged(older, Thresholds(old, new)).error_message or "")


def test_distances_of_the_own_metrics_are_at_most_one():
    from originality.vision.imagenet import ImageNetFeatures

    assert DreamSim.largest == ElementSetDistance.largest == ImageNetFeatures.largest == 1.0


@pytest.mark.long
def test_rejudging_a_sweep_equals_judging_it_again(quick):
    """Words and redraws do not depend on the threshold."""

    def judged(own: AuditSettings) -> dict[str, Verdict]:
        sweep = Sweep(own)
        sweep.distance = sweep.judge.distance = Grey()
        rows = run(sweep, *(item(k) for k in range(2)))
        return {image_id: Verdict.model_validate(done.record) for image_id, done in rows.items()}

    base = changed(
        quick, redraw={"count": 6, "round": 2, "confidence": 0.8}, in_distribution={"check": "none"}
    )
    strict, loose = (changed(base, distance={"threshold": t}) for t in (0.0, 0.45))
    found, fresh = judged(strict), judged(loose)
    same = 0
    for image_id, verdict in found.items():
        again = rejudged(verdict, Thresholds(strict, loose))
        if again.error_class != NEEDS_SWEEP:
            assert again.min_tokens == fresh[image_id].min_tokens
            ours, theirs = (timeless(v.row())["sweep"] for v in (again, fresh[image_id]))
            spent = ("unet_samples",)
            assert [{k: v for k, v in a.items() if k not in spent} for a in ours] == [
                {k: v for k, v in a.items() if k not in spent} for a in theirs
            ]
            same += 1
    assert not any(passes(a.distance_mean, 0.0, None) for v in found.values() for a in v.sweep)
    assert same or all(a.redraws < 6 for v in found.values() for a in v.sweep)
