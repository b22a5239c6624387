"""How sure a verdict is: probabilities, the chain of first passes, scores, and how they change."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from originality.evaluation.confidence import (
    MIN_DISTANCES_FOR_BOOTSTRAP,
    PassRule,
    chances,
    in_distribution_at,
    redrawn_at,
    scores,
    sureness,
)
from originality.evaluation.verdict import Attempt, judge, passes
from originality.settings.presets import load_settings

RULE = PassRule(threshold=0.3, share=0.5, count=20)
DISTANCES = st.lists(st.floats(0, 1), min_size=1, max_size=20)
PROBABILITIES = st.lists(st.floats(0, 1), min_size=1, max_size=6)


def attempt(tokens=1, distances=(0.2,), editable=True, hits=None, failure=None, rule=RULE, kept=True):
    """An attempt with these distances; ``kept``: each of them is in the row, not only their mean."""
    mean, n = float(np.mean(distances)), len(distances)
    return Attempt(
        tokens=tokens,
        distance_mean=None if failure else mean,
        distance_sem=float(np.std(distances, ddof=1) / math.sqrt(n)) if n > 1 else None,
        redraws=n,
        editability=None,
        editable=editable,
        passed=failure is None and passes(mean, rule.threshold, editable),
        inversion_steps=1,
        unet_samples=1,
        seconds=1.0,
        failure=failure,
        distances=tuple(distances) if kept else None,
        edit_hits=hits,
    )


def probability(*args, rule=RULE, **kwargs):
    (found,) = sureness("a", [attempt(*args, rule=rule, **kwargs)], rule, 1).pass_probabilities
    return found


def spread(mean, n=20, width=0.2):
    """Distances of this mean, evenly spread."""
    return tuple(mean + width * (2 * np.arange(n) / (n - 1) - 1))


@given(DISTANCES, st.floats(0, 1), st.floats(0, 1), st.booleans())
def test_a_pass_probability_grows_with_the_threshold(distances, one, other, kept):
    low, high = sorted((one, other))
    found = [probability(1, distances, rule=PassRule(t, 0.5, 20), kept=kept) for t in (low, high)]
    assert 0 <= found[0] <= found[1] + 1e-6 <= 1 + 2e-6


@given(st.lists(st.booleans(), min_size=1, max_size=20), st.floats(0, 1), st.floats(0, 1))
def test_a_pass_probability_falls_with_the_least_share(hits, one, other):
    low, high = sorted((one, other))
    found = [probability(1, (0.1,) * 20, hits=tuple(hits), rule=PassRule(0.3, s, 20)) for s in (high, low)]
    assert 0 <= found[0] <= found[1] + 1e-6 <= 1 + 2e-6


@given(PROBABILITIES, st.integers(0, 6))
def test_the_chances_sum_to_one_and_the_score_lies_within_its_range(given_, more):
    most = len(given_) + more
    chain = chances(np.array(given_), most)
    assert chain.shape == (most + 1,) and (chain >= 0).all()
    assert chain.sum() == pytest.approx(1)
    assert 1 - 1e-9 <= float(scores(chain)) <= most + 1 + 1e-9


@given(PROBABILITIES, st.data())
def test_the_score_falls_when_an_attempt_passes_more_surely(given_, data):
    place = data.draw(st.integers(0, len(given_) - 1))
    surer = [*given_]
    surer[place] = data.draw(st.floats(given_[place], 1))
    one, other = (float(scores(chances(np.array(p), 6))) for p in (given_, surer))
    assert other <= one + 1e-9


@given(st.lists(DISTANCES, min_size=1, max_size=4), st.integers(0, 2))
def test_a_sweep_gives_the_same_numbers_again(found, more):
    sweep = [attempt(m, distances) for m, distances in enumerate(found, 1)]
    first, again = (sureness("a", sweep, RULE, len(sweep) + more) for _ in range(2))
    assert first == again
    assert first.low <= first.score <= first.high
    assert 0 <= first.confidence <= 1 + 1e-9


def test_the_draws_of_an_image_are_its_own():
    sweep = [attempt(1, spread(0.28))]
    one, other = (sureness(image_id, sweep, RULE, 1) for image_id in "ab")
    assert one != other
    assert one.confidence == pytest.approx(other.confidence, abs=0.02)


def test_the_chances_follow_the_first_pass():
    chain = chances(np.array([0.5, 0.2]), 4)
    assert chain == pytest.approx([0.5, 0.1, 0.08, 0.064, 0.256])  # the third and fourth pass as the second
    assert float(scores(chain)) == pytest.approx(0.5 + 0.2 + 0.24 + 0.256 + 5 * 0.256)
    assert chances(np.array([[1.0, 0.0], [0.0, 0.0]]), 2) == pytest.approx(np.array([[1, 0, 0], [0, 0, 1]]))


@pytest.mark.parametrize("mean", [0.2, 0.28, 0.3, 0.32, 0.4])
def test_bootstrap_and_student_t_agree_where_values_are_many(mean):
    kept = probability(1, spread(mean))
    moments = probability(1, spread(mean), kept=False)
    assert kept == pytest.approx(moments, abs=0.03)


def test_both_errors_count():
    """A fresh mean differs from the measured one by more than either mean does from the true one."""
    values = spread(0.26)
    error = np.std(values, ddof=1) / math.sqrt(20)
    both = 0.5 * math.erfc(-(0.3 - 0.26) / (error * math.sqrt(2)) / math.sqrt(2))
    one = 0.5 * math.erfc(-(0.3 - 0.26) / error / math.sqrt(2))
    assert probability(1, values) == pytest.approx(both, abs=0.02)
    assert probability(1, values) < one - 0.05


def test_fewer_redraws_are_less_sure():
    found = [probability(1, (0.1,) * n) for n in (1, 2, 4, 8, 20)]
    assert found == sorted(found) and found[0] < 0.8 and found[-1] > 0.999
    found = [probability(1, spread(0.2, n)) for n in (2, 4, MIN_DISTANCES_FOR_BOOTSTRAP - 1)]
    assert found == sorted(found)


@pytest.mark.parametrize("n", [1, 4, 20])
def test_equal_distances_are_as_sure_on_any_scale_and_do_not_pass_at_the_threshold(n):
    near = [probability(1, (d,) * n) for d in (0.0, 0.1, 0.29)]
    assert near == pytest.approx([near[0]] * 3)
    far = probability(1, (0.9,) * n)
    assert far == pytest.approx(1 - near[0])
    assert probability(1, (0.3,) * n) < 0.5


def test_edit_images_count_and_other_checks_count_as_measured():
    near = (0.05, 0.1) * 10
    assert probability(1, near, hits=(True,) * 20) > 0.99
    half = probability(1, near, hits=(True, False) * 10)
    assert 0.5 < half < 0.7  # ten of twenty still pass
    assert probability(1, near, hits=(False,) * 20, editable=False) < 0.01
    assert probability(1, near, editable=False) == 0
    assert probability(1, near, editable=None) == probability(1, near)


def test_an_attempt_that_failed_does_not_pass():
    assert probability(1, (0.1,) * 20, failure="the loss of step 3 is nan") == 0
    assert redrawn_at([attempt(1, failure="nan")], RULE) is None


def test_confidence_is_the_chance_of_the_verdict():
    sweep = [attempt(1, spread(0.4)), attempt(2, spread(0.32)), attempt(3, spread(0.25))]
    found = sureness("a", sweep, RULE, 5)
    first, second, third = found.pass_probabilities
    assert found.confidence == pytest.approx((1 - first) * (1 - second) * third)
    never = sureness("a", sweep[:2], RULE, 2)
    assert never.confidence == pytest.approx((1 - first) * (1 - second))


def test_simulated_verdicts_repeat_as_often_as_their_confidence():
    """Words whose distances are drawn from known distributions, evaluated twice."""
    rng = np.random.default_rng(0)

    def evaluated(means, image_id):
        sweep = []
        for m, mean in enumerate(means, 1):
            sweep.append(attempt(m, np.round(rng.beta(3 * mean, 3 * (1 - mean), 20) * 6) / 6))
            if sweep[-1].passed:
                break
        return judge(image_id, sweep, max_tokens=3, model="m", settings_digest="s", rule=RULE)

    pairs = []
    for k in range(400):
        means = np.sort(rng.uniform(0.05, 0.6, 3))[::-1]
        one, other = (evaluated(means, f"{k} {n}") for n in range(2))
        pairs.append((one.confidence, one.min_tokens == other.min_tokens))
    confidence, same = np.array(pairs).T
    assert same.mean() == pytest.approx(confidence.mean(), abs=0.06)
    sure = confidence > 0.9
    assert sure.sum() > 50 and same[sure].mean() >= 0.9


def test_the_interval_is_narrow_where_distances_are_far_from_the_threshold():
    far = [attempt(1, spread(0.7)), attempt(2, spread(0.1, width=0.05))]
    sure = sureness("a", far, RULE, 5)
    assert sure.score == pytest.approx(2, abs=0.01) and sure.high - sure.low < 0.02
    unsure = sureness("a", [attempt(1, spread(0.31)), attempt(2, spread(0.29))], RULE, 5)
    assert unsure.low < 1.5 and unsure.high > 2.5


def test_redrawn_and_in_distribution_are_distinguished():
    sweep = [
        attempt(1, (0.5,) * 4, editable=None),
        attempt(2, (0.2,) * 4, editable=False),
        attempt(3, (0.4,) * 4, editable=True),
        attempt(4, (0.1,) * 4, editable=True),
    ]
    verdict = judge("a", sweep, max_tokens=5, model="m", settings_digest="s", rule=RULE)
    assert (verdict.redrawn_at, verdict.in_distribution_at, verdict.min_tokens) == (2, 3, 4)
    assert in_distribution_at(sweep[:2]) is None and redrawn_at(sweep[:1], RULE) is None


def test_a_row_holds_rounded_values_and_one_without_a_rule_none():
    sweep = [attempt(1, spread(0.32)), attempt(2, spread(0.28))]
    row = judge("a", sweep, max_tokens=5, model="m", settings_digest="s", rule=RULE).row()
    numbers = [row[name] for name in ("score", "score_low", "score_high", "confidence")]
    numbers += [a["pass_probability"] for a in row["sweep"]]
    assert all(number == round(number, 6) for number in numbers)
    assert row["sweep"][0]["distances"] == list(spread(0.32))
    bare = judge("a", sweep, max_tokens=5, model="m", settings_digest="s")
    assert bare.score is bare.confidence is bare.redrawn_at is bare.sweep[0].pass_probability is None
    failed = judge("a", [attempt(1, failure="nan")], max_tokens=1, model="m", settings_digest="s", rule=RULE)
    assert (failed.status, failed.score, failed.confidence) == ("failed", None, None)


def test_a_rule_is_that_of_the_settings():
    settings = load_settings("fast-shapes")
    assert PassRule.of(settings) == PassRule(0.3, 0.5, 20)


def test_passing_twice_is_no_surer_than_each():
    """The chain of two attempts is the one of independent events."""
    for one, other in itertools.product((0.0, 0.3, 1.0), repeat=2):
        chain = chances(np.array([one, other]), 2)
        assert chain == pytest.approx([one, (1 - one) * other, (1 - one) * (1 - other)])
