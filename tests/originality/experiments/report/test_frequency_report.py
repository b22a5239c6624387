"""Statistics of min tokens: thresholds, intervals, tests and correlations."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from originality.experiments.report import frequency_report
from originality.experiments.statistics import (
    average_by_kind,
    contrast,
    differences,
    mean_interval,
    rho,
    rho_interval,
)
from originality.experiments.tasks.measure_pairs import GROUPS
from tests.support.kept_records import record, sweep

DISTANCES = st.lists(st.one_of(st.none(), st.floats(0, 1)), min_size=5, max_size=5)


@given(DISTANCES, st.floats(0.01, 1), st.floats(0.01, 1))
def test_a_wider_threshold_never_needs_more_tokens(distances, one, other):
    low, high = sorted((one, other))
    fewer = frequency_report.min_tokens(sweep(distances), high)
    more = frequency_report.min_tokens(sweep(distances), low)
    assert 1 <= fewer <= more <= 6
    if more <= 5:
        assert distances[more - 1] < low and all(d is None or d >= low for d in distances[: more - 1])


def test_words_out_of_distribution_do_not_pass():
    assert frequency_report.min_tokens(sweep([0.1] * 5, editable=False), 0.3) == 6
    assert frequency_report.min_tokens(sweep([0.1] * 5, editable=None), 0.3) == 1
    assert frequency_report.min_tokens(sweep([math.nan] * 5), 0.3) == 6


def test_groups_that_differ():
    records = [record("pairs-0", (1, 3, 5)), record("pairs-1", (1, 2, 6))]
    summary = frequency_report.summarise(records, 0.3)
    means = [summary["groups"][g]["mean"] for g in GROUPS]
    assert means[0] < means[1] < means[2]
    assert (
        sum(summary["groups"][GROUPS[0]]["counts"].values()) == summary["groups"][GROUPS[0]]["images"] == 40
    )
    for difference in summary["differences"].values():
        low, high = difference["interval"]
        assert 0 < low < difference["mean"] < high and difference["p"] < 0.01
    found = frequency_report.tokens(records, 0.3)
    rank = np.repeat([0, 1, 2], 40)
    values = np.concatenate([found[g].ravel() for g in GROUPS])
    assert summary["rho"]["all"] == round(float(stats.spearmanr(rank, values).statistic), 3)
    assert summary["each"]["pairs-1"]["means"][GROUPS[1]] == round(float(found[GROUPS[1]][1].mean()), 2)


def test_groups_that_do_not_differ():
    summary = frequency_report.summarise([record(f"pairs-{k}", (3, 3, 3)) for k in range(3)], 0.3)
    assert summary["rho"]["all"] == 0 and summary["rho"]["interval"][0] < 0 < summary["rho"]["interval"][1]
    assert all(
        d["interval"][0] < 0 < d["interval"][1] and d["p"] > 0.4 for d in summary["differences"].values()
    )


@pytest.mark.parametrize("models, images", [(3, 20), (1, 8)])
def test_intervals_cover_the_truth_at_their_level(models, images):
    """On numbers of tokens drawn at random."""
    rng = np.random.default_rng(0)
    held = np.zeros(2)
    for _ in range(200):
        first, second = rng.integers(1, 7, (2, models, images))
        low, high = contrast((first, -1), (second, 1))["interval"]
        least, most = mean_interval(first)
        held += low <= 0 <= high, least <= 3.5 <= most
        by_scipy = stats.ttest_ind(second.mean(0), first.mean(0), equal_var=False).confidence_interval()
        assert (low, high) == pytest.approx(by_scipy, abs=1e-3)
    assert (held >= 0.91 * 200).all() and (held <= 0.99 * 200).all()


@pytest.mark.parametrize("images", [8, 20])
def test_the_detectable_difference_is_detected_with_80_percent_power(images):
    rng = np.random.default_rng(0)

    def result(shift):
        first, second = rng.standard_normal((2, 1, images))
        return differences({"a": first, "b": second + shift})["b - a"]

    detectable = np.mean([result(0)["detectable"] for _ in range(500)])
    seen = np.mean([result(detectable)["interval"][0] > 0 for _ in range(500)])
    assert 0.75 < seen < 0.85


def test_each_kind_counts_once():
    found = {"a": np.array([[1.0, 2, 6], [3, 4, 8]]), "b": np.array([[5.0, 1, 3], [5, 1, 3]])}
    result = average_by_kind(found, {"a": ["x", "x", "y"], "b": ["x", "y", "x"]})
    assert result["a"].tolist() == [[1.5, 6], [3.5, 8]] and result["b"].tolist() == [[4, 1], [4, 1]]


def test_a_pair_of_colours_counts_once_by_its_caption():
    one = record("pairs-0", (3, 3, 3))
    for row in one["rows"]:
        rare = row["group"] == GROUPS[1] and row["number"] < 2
        row["caption"] = f"big {'blue' if rare else 'red'} full circle and big red full star"
        if row["number"] == 19:
            row["caption"] = "big green full circle and big red full star"
        row["sweep"] = sweep([0.8, 0.8, 0.8, 0.8, 0.1] if rare else [0.1] * 5)
    result = frequency_report.by_pair([one, one], 0.3)
    assert list(result["pairs"].values()) == [2, 3, 2]
    assert result["differences"][f"{GROUPS[1]} - {GROUPS[0]}"]["mean"] == round(4 / 3, 3)
    assert frequency_report.summarise([one], 0.3)["differences"][f"{GROUPS[1]} - {GROUPS[0]}"]["mean"] == 0.4


def test_intervals_of_equal_values():
    same = np.full((1, 4), 3)
    assert mean_interval(same) == (3, 3)
    assert contrast((same, -1), (same + 1, 1))["interval"] == (1, 1)


def test_whether_a_condition_changes_the_effect():
    base, other = record("pairs-0", (3, 3, 3)), record("shorter", (3, 4, 5))
    result = frequency_report.more_than([other], base, 0.3)
    assert [g["mean"] for g in result["groups"].values()] == [0, 1, 2]
    assert result["differences"]["rare pair - common pair"] == {"mean": 1, "interval": (1, 1)}
    assert result["differences"]["unseen pair - common pair"] == {"mean": 2, "interval": (2, 2)}


def test_pairs_of_one_colour_and_of_two_are_summarised_separately():
    one = record("pairs-0", (3, 3, 3))
    for row in one["rows"]:
        of_one = row["number"] % 2 == 0  # "red ... and red ..."
        needed = 1 + GROUPS.index(row["group"]) if of_one else 5
        row["sweep"] = sweep([0.1 if m >= needed else 0.8 for m in range(1, 6)])
    result = frequency_report.by_colours([one, one], 0.3)
    assert list(result) == ["one colour", "two colours", "two - one"]
    assert result["two - one"]["unseen pair - common pair"] == {"mean": -2, "interval": (-2, -2)}
    for name, means in (("one colour", [1, 2, 3]), ("two colours", [5, 5, 5])):
        groups = result[name]["groups"].values()
        assert [g["mean"] for g in groups] == means and {g["images"] for g in groups} == {20}
    assert result["one colour"]["differences"]["unseen pair - common pair"]["interval"] == (2, 2)
    few = {**one, "rows": [row for row in one["rows"] if row["number"] % 2 == 0 or row["number"] == 1]}
    assert list(frequency_report.by_colours([few], 0.3)) == ["one colour"]


def test_the_smallest_distance_over_all_numbers_of_tokens():
    one = record("pairs-0", (1, 1, 1))
    for row in one["rows"]:
        row["sweep"] = sweep([0.9, 0.5 + 0.1 * GROUPS.index(row["group"]), None, math.nan, 0.8])
    one["rows"][0]["sweep"] = []
    result = frequency_report.best_distances([one, one])
    assert result["means"] == dict(zip(GROUPS, (0.525, 0.6, 0.7), strict=True))
    assert list(result["differences"]) == ["rare pair - common pair", "unseen pair - common pair"]
    assert result["differences"]["unseen pair - common pair"]["mean"] == 0.175


def test_a_picture_counts_once():
    one = record("fixed-location", (1, 3, 5))  # common pairs differ in the first one's colour alone
    rows = frequency_report.distinct(one)["rows"]
    assert [sum(row["group"] == group for row in rows) for group in GROUPS] == [3, 20, 20]


def test_correlations_of_the_number_of_tokens():
    """Badly drawn images need more tokens in every group, and the group has no effect beyond that."""
    rng = np.random.default_rng(0)
    one = record("pairs-0", (1, 1, 1), images=60)
    for row in one["rows"]:
        skill = rng.random() * 0.5 + 0.2 * GROUPS.index(row["group"])
        row["described"] = skill
        needed = 1 + round(4 * skill + 0.2 * rng.standard_normal())
        row["sweep"] = sweep([0.1 if m >= needed else 0.8 for m in range(1, 6)])
    result = frequency_report.drivers([one], 0.3)
    summary = {name: of["mean"] for name, of in result.items()}
    assert summary["group"] > 0.4 and summary["described"] > 0.85
    assert abs(summary["group, described alike"]) < 0.2 < 0.7 < summary["described, group alike"]
    for of in result.values():
        low, high = of["interval"]
        assert low < of["mean"] < high < low + 0.35
    needed = [frequency_report.min_tokens(row["sweep"], 0.3) for row in one["rows"]]
    group = [GROUPS.index(row["group"]) for row in one["rows"]]
    assert summary["group"] == round(float(stats.spearmanr(group, needed).statistic), 3)
    ranks = np.stack([stats.rankdata(v) for v in (needed, group, [r["described"] for r in one["rows"]])])
    inverse = np.linalg.inv(np.corrcoef(ranks))
    partial = -inverse[0, 1] / np.sqrt(inverse[0, 0] * inverse[1, 1])
    assert summary["group, described alike"] == pytest.approx(partial, abs=1e-3)


def test_agreement_of_two_measurements():
    first, second = record("pairs-0", (1, 3, 5)), record("pairs-1", (2, 2, 2))
    twice = frequency_report.agreement([first, first], 0.3)
    assert twice == {"tokens": 1.0, "distance at one token": 1.0}
    assert frequency_report.agreement([first], 0.3) == {"tokens": None, "distance at one token": None}
    both = [
        [frequency_report.min_tokens(row["sweep"], 0.3) for row in one["rows"]] for one in (first, second)
    ]
    found = frequency_report.agreement([first, second], 0.3)["tokens"]
    assert found == round(float(stats.spearmanr(*both).statistic), 3)


def test_the_position_check_is_reported_for_words_that_redraw():
    one = record("fixed-location", (1, 3, 6))
    for row in one["rows"]:
        for attempt in row["sweep"]:
            near = attempt["distance_mean"] < 0.3
            attempt["editability"] = 0.1 if near and row["group"] == GROUPS[0] else 0.9
            attempt["editable"] = attempt["editability"] >= 0.5
        if row["group"] == GROUPS[2]:
            row["sweep"] = sweep([0.8] * 5)
    summary = frequency_report.places(one, 0.3)
    assert summary[GROUPS[0]] == {"words": 94, "score": 0.1, "refused": 1.0}
    assert summary[GROUPS[1]] == {"words": 61, "score": 0.9, "refused": 0.0}
    assert summary[GROUPS[2]] == {"words": 0, "score": None, "refused": None}
    checked = frequency_report.summarise([one], 0.3)["groups"][GROUPS[0]]
    alone = frequency_report.summarise([frequency_report.by_distance_alone(one)], 0.3)["groups"][GROUPS[0]]
    assert (checked["never"], alone["never"], alone["one_token"]) == (1.0, 0.0, 0.7)
    assert frequency_report.first_near(sweep([0.8, 0.2, 0.1], editable=False), 0.3) == 2
    assert frequency_report.first_near(sweep([0.8] * 5), 0.3) is None


def test_the_bootstrap_resamples_images_with_all_their_values():
    found = {"a": np.array([[1.0, 2, 3], [1, 2, 3]]), "b": np.array([[4.0, 5], [4, 5]])}
    low, high = rho_interval(found)
    assert low <= rho(found) <= high <= 1
    alone = {**found, "b": found["b"][:, :1]}
    assert rho(alone) > 0 and np.isnan(rho_interval(alone)).all()  # no interval from a single image
    constant = {group: np.ones_like(values) for group, values in found.items()}
    assert rho(constant) == 0 and rho_interval(constant) == (0, 0)
