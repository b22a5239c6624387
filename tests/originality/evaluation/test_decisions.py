"""What redraws decide, and verdicts that are confirmed by more of them."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from originality.evaluation.confidence import PassRule
from originality.evaluation.decisions import Decisions, Word
from originality.evaluation.early_stopping import certain, share_certain
from originality.evaluation.rejudge import Thresholds, rejudged
from originality.evaluation.verdict import Attempt, Verdict, judge
from originality.settings.audit import AuditSettings
from originality.settings.presets import load_settings
from originality.sweep.sweep import Sweep
from tests.support.attempts import attempt_of
from tests.support.sweeps import Grey, changed, item, run

TOKENS, COUNT, MOST = 3, 12, 40


@functools.cache
def settings(confirm: float | None, round_: int | None = None, check: str = "editability") -> AuditSettings:
    parts = {
        "redraw": {"count": COUNT, "round": round_, "confirm": confirm, "most": MOST},
        "distance": {"metric": "imagenet", "threshold": 0.4},
        "in_distribution": {"check": check, "threshold": 0.5, "ask": "redrawn"},
    }
    return load_settings("laptop", None, {**parts, "domain": "houses", "max_tokens": TOKENS})


def audited(own: AuditSettings, distances: np.ndarray, hits: np.ndarray) -> Verdict:
    """The verdict on an image whose redraws and edit images are these: (TOKENS, MOST) each."""
    decisions, sweep = Decisions(own, 1.0), list[Attempt]()
    edited = own.in_distribution.check == "editability"

    def drawn(values: list[Any], decide: Any) -> tuple[tuple[Any, ...], bool]:
        seen: list[Any] = []
        while True:
            due = own.redraw.round_after(len(seen))
            assert due, "no decision, and no more may be drawn"
            seen += values[due.start : due.stop]
            if (outcome := decide(seen)) is not None:
                return tuple(seen), outcome

    for m in range(1, TOKENS + 1):
        word = Word("a", m, decisions.fail_again("a", sweep))
        seen, near = drawn(distances[m - 1].tolist(), functools.partial(decisions.near, word))
        shown, kept = None, None
        if near and edited:
            shown, kept = drawn(hits[m - 1].tolist(), lambda v, w=word: decisions.editable(w, v, True))
        sweep.append(attempt_of(m, seen, near, shown, kept))
        if sweep[-1].passed:
            break
    rule = PassRule.of(own)
    return judge("a", sweep, max_tokens=TOKENS, model="m", settings_digest=own.digest(), rule=rule)


def drawn_from(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Distances about means near the threshold and hits of shares near theirs: (TOKENS, MOST) each."""
    rng = np.random.default_rng(seed)
    means, shares = rng.uniform(0.3, 0.5, TOKENS), rng.uniform(0.2, 1.0, TOKENS)
    distances = np.clip(rng.normal(means[:, None], 0.08, (TOKENS, MOST)), 0, 1)
    return distances, rng.random((TOKENS, MOST)) < shares[:, None]


VALUES = st.lists(st.floats(0, 1), min_size=1, max_size=COUNT)
HITS = st.lists(st.booleans(), min_size=1, max_size=COUNT)
SEEDS = st.integers(0, 10_000)
ROUNDS = st.sampled_from([None, 4, 5])
CHECKS = st.sampled_from(["editability", "none"])


@given(VALUES, HITS)
def test_unless_it_is_to_be_confirmed_early_stopping_decides(values, hits):
    own, word = settings(None), Word("a", 1)
    decisions = Decisions(own, 1.0)
    assert decisions.near(word, values) == certain(values, COUNT, 0.4, 1.0, own.redraw.confidence)
    assert decisions.editable(word, hits, True) == share_certain(hits, COUNT, 0.5, own.redraw.confidence)


@given(SEEDS, ROUNDS, CHECKS)
def test_a_verdict_reaches_its_confidence_unless_all_that_may_be_was_drawn(seed, round_, check):
    found = audited(settings(0.9, round_, check), *drawn_from(seed))
    exhausted = any(a.redraws == MOST or len(a.edit_hits or ()) == MOST for a in found.sweep)
    assert exhausted or found.confidence >= 0.9 - 1e-6


@given(SEEDS, ROUNDS, CHECKS)
def test_the_first_redraws_are_those_of_an_audit_that_confirms_nothing(seed, round_, check):
    usual, confirmed = (audited(settings(p, round_, check), *drawn_from(seed)) for p in (None, 0.9))
    one, other = usual.sweep[0].distances, confirmed.sweep[0].distances
    assert other[: len(one)] == one
    assert all(a.redraws <= COUNT for a in usual.sweep)


@given(SEEDS, ROUNDS, CHECKS)
def test_rejudged_at_its_own_thresholds_a_confirmed_verdict_does_not_change(seed, round_, check):
    own = settings(0.9, round_, check)
    found = audited(own, *drawn_from(seed))
    assert rejudged(found, Thresholds(own, own)) == found


def test_it_draws_where_it_is_unsure_and_gains_confidence():
    """Over 100 images with distances near the threshold: far from all are extended, and those that are by
    far enough that the mean confidence rises."""
    pairs = [[audited(settings(p), *drawn_from(seed)) for p in (None, 0.9)] for seed in range(100)]
    usual, confirmed = zip(*pairs, strict=True)
    assert np.mean([v.confidence for v in confirmed]) > np.mean([v.confidence for v in usual]) + 0.05
    first = [v.sweep[0].redraws for v in confirmed]
    assert min(first) == COUNT < max(first) <= MOST


def test_the_most_redraws_must_exceed_the_usual_number():
    with pytest.raises(ValidationError, match=r"redraw\.most"):
        changed(settings(None), redraw={"confirm": 0.9, "most": COUNT})


def test_settings_that_confirm_nothing_keep_their_digests():
    default = load_settings("paper", None, {"domain": "houses"})
    assert changed(default, redraw={"most": 100}).digest() != default.digest()
    assert "confirm" not in str(default.model_dump(exclude_defaults=True))


@pytest.mark.long
def test_a_sweep_draws_more_of_a_word_near_the_threshold(quick):
    own = changed(quick, redraw={"count": 4, "round": None, "steps": 2}, inversion={"steps": 2})
    own = own.model_copy(update={"max_tokens": 1})

    def judged(settings: AuditSettings):
        sweep = Sweep(settings)
        sweep.distance = sweep.judge.distance = Grey()
        return run(sweep, item(0))["image-0"].record

    plain = judged(own)
    middle = float(np.mean(plain["sweep"][0]["distances"]))
    near, far = (
        judged(changed(own, redraw={"confirm": 0.9, "most": 9}, distance={"threshold": threshold}))
        for threshold in (middle + 1e-4, 1.5)
    )
    assert [near["sweep"][0]["redraws"], far["sweep"][0]["redraws"]] == [9, 4]
    assert near["sweep"][0]["distances"][:4] == plain["sweep"][0]["distances"]
    assert far["sweep"][0]["distances"] == plain["sweep"][0]["distances"]
    learning = own.inversion.steps * own.inversion.batch_size
    four, nine = (v["sweep"][0]["unet_samples"] - learning for v in (plain, near))
    assert nine * 4 == four * 9
