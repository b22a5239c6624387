"""What is said of tokens: thresholds, intervals, tests, and what they go with."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from originality.experiments.report import frequency_report
from originality.experiments.statistics import average_by_kind, contrast, differences, mean_interval
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


def test_what_is_out_of_distribution_does_not_pass():
    assert frequency_report.min_tokens(sweep([0.1] * 5, editable=False), 0.3) == 6
    assert frequency_report.min_tokens(sweep([0.1] * 5, editable=None), 0.3) == 1
    assert frequency_report.min_tokens(sweep([math.nan] * 5), 0.3) == 6


def test_what_is_said_of_groups_that_differ():
    records = [record("pairs-0", (1, 3, 5)), record("pairs-1", (1, 2, 6))]
    said = frequency_report.summarise(records, 0.3)
    means = [said["groups"][g]["mean"] for g in GROUPS]
    assert means[0] < means[1] < means[2]
    assert sum(said["groups"][GROUPS[0]]["counts"].values()) == said["groups"][GROUPS[0]]["images"] == 40
    for difference in said["differences"].values():
        low, high = difference["interval"]
        assert 0 < low < difference["mean"] < high and difference["p"] < 0.01
    found = frequency_report.tokens(records, 0.3)
    rank = np.repeat([0, 1, 2], 40)
    values = np.concatenate([found[g].ravel() for g in GROUPS])
    assert said["rho"]["all"] == round(float(stats.spearmanr(rank, values).statistic), 3)
    assert said["each"]["pairs-1"]["means"][GROUPS[1]] == round(float(found[GROUPS[1]][1].mean()), 2)


def test_groups_that_do_not_differ_are_not_told_apart():
    said = frequency_report.summarise([record(f"pairs-{k}", (3, 3, 3)) for k in range(3)], 0.3)
    assert said["rho"]["all"] == 0 and said["rho"]["interval"][0] < 0 < said["rho"]["interval"][1]
    assert all(d["interval"][0] < 0 < d["interval"][1] and d["p"] > 0.4 for d in said["differences"].values())


@pytest.mark.parametrize("models, images", [(3, 20), (1, 8)])
def test_intervals_hold_the_truth_as_often_as_they_say(models, images):
    """Of numbers of tokens that are nothing but chance."""
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
def test_four_of_five_samples_tell_the_difference_that_is_called_detectable(images):
    rng = np.random.default_rng(0)

    def told(shift):
        first, second = rng.standard_normal((2, 1, images))
        return differences({"a": first, "b": second + shift})["b - a"]

    detectable = np.mean([told(0)["detectable"] for _ in range(500)])
    seen = np.mean([told(detectable)["interval"][0] > 0 for _ in range(500)])
    assert 0.75 < seen < 0.85


def test_kinds_count_once_each():
    found = {"a": np.array([[1.0, 2, 6], [3, 4, 8]]), "b": np.array([[5.0, 1, 3], [5, 1, 3]])}
    told = average_by_kind(found, {"a": ["x", "x", "y"], "b": ["x", "y", "x"]})
    assert told["a"].tolist() == [[1.5, 6], [3.5, 8]] and told["b"].tolist() == [[4, 1], [4, 1]]


def test_a_pair_of_colours_counts_once_by_its_caption():
    one = record("pairs-0", (3, 3, 3))
    for row in one["rows"]:
        rare = row["group"] == GROUPS[1] and row["number"] < 2
        row["caption"] = f"big {'blue' if rare else 'red'} full circle and big red full star"
        if row["number"] == 19:
            row["caption"] = "big green full circle and big red full star"
        row["sweep"] = sweep([0.8, 0.8, 0.8, 0.8, 0.1] if rare else [0.1] * 5)
    told = frequency_report.by_pair([one, one], 0.3)
    assert list(told["pairs"].values()) == [2, 3, 2]
    assert told["differences"][f"{GROUPS[1]} - {GROUPS[0]}"]["mean"] == round(4 / 3, 3)
    assert frequency_report.summarise([one], 0.3)["differences"][f"{GROUPS[1]} - {GROUPS[0]}"]["mean"] == 0.4


def test_intervals_of_values_that_are_all_the_same():
    same = np.full((1, 4), 3)
    assert mean_interval(same) == (3, 3)
    assert contrast((same, -1), (same + 1, 1))["interval"] == (1, 1)


def test_whether_a_condition_changes_the_effect():
    base, other = record("pairs-0", (3, 3, 3)), record("shorter", (3, 4, 5))
    told = frequency_report.more_than([other], base, 0.3)
    assert [g["mean"] for g in told["groups"].values()] == [0, 1, 2]
    assert told["differences"]["rare pair - common pair"] == {"mean": 1, "interval": (1, 1)}
    assert told["differences"]["unseen pair - common pair"] == {"mean": 2, "interval": (2, 2)}


def test_pairs_of_one_colour_and_of_two_are_told_apart():
    one = record("pairs-0", (3, 3, 3))
    for row in one["rows"]:
        of_one = row["number"] % 2 == 0  # "red ... and red ..."
        needed = 1 + GROUPS.index(row["group"]) if of_one else 5
        row["sweep"] = sweep([0.1 if m >= needed else 0.8 for m in range(1, 6)])
    told = frequency_report.by_colours([one, one], 0.3)
    assert list(told) == ["one colour", "two colours", "two - one"]
    assert told["two - one"]["unseen pair - common pair"] == {"mean": -2, "interval": (-2, -2)}
    for name, means in (("one colour", [1, 2, 3]), ("two colours", [5, 5, 5])):
        groups = told[name]["groups"].values()
        assert [g["mean"] for g in groups] == means and {g["images"] for g in groups} == {20}
    assert told["one colour"]["differences"]["unseen pair - common pair"]["interval"] == (2, 2)
    few = {**one, "rows": [row for row in one["rows"] if row["number"] % 2 == 0 or row["number"] == 1]}
    assert list(frequency_report.by_colours([few], 0.3)) == ["one colour"]


def test_the_least_distance_of_all_numbers_of_tokens():
    one = record("pairs-0", (1, 1, 1))
    for row in one["rows"]:
        row["sweep"] = sweep([0.9, 0.5 + 0.1 * GROUPS.index(row["group"]), None, math.nan, 0.8])
    one["rows"][0]["sweep"] = []
    told = frequency_report.best_distances([one, one])
    assert told["means"] == dict(zip(GROUPS, (0.525, 0.6, 0.7), strict=True))
    assert list(told["differences"]) == ["rare pair - common pair", "unseen pair - common pair"]
    assert told["differences"]["unseen pair - common pair"]["mean"] == 0.175


def test_a_picture_counts_once():
    one = record("fixed-location", (1, 3, 5))  # common pairs differ in the first one's colour alone
    rows = frequency_report.distinct(one)["rows"]
    assert [sum(row["group"] == group for row in rows) for group in GROUPS] == [3, 20, 20]


def test_what_the_number_of_tokens_goes_with():
    """Badly drawn images need more tokens in every group, and the group has no say beyond that."""
    rng = np.random.default_rng(0)
    one = record("pairs-0", (1, 1, 1), images=60)
    for row in one["rows"]:
        skill = rng.random() * 0.5 + 0.2 * GROUPS.index(row["group"])
        row["described"] = skill
        needed = 1 + round(4 * skill + 0.2 * rng.standard_normal())
        row["sweep"] = sweep([0.1 if m >= needed else 0.8 for m in range(1, 6)])
    told = frequency_report.drivers([one], 0.3)
    said = {name: of["mean"] for name, of in told.items()}
    assert said["group"] > 0.4 and said["described"] > 0.85
    assert abs(said["group, described alike"]) < 0.2 < 0.7 < said["described, group alike"]
    for of in told.values():
        low, high = of["interval"]
        assert low < of["mean"] < high < low + 0.35
    needed = [frequency_report.min_tokens(row["sweep"], 0.3) for row in one["rows"]]
    group = [GROUPS.index(row["group"]) for row in one["rows"]]
    assert said["group"] == round(float(stats.spearmanr(group, needed).statistic), 3)
    ranks = np.stack([stats.rankdata(v) for v in (needed, group, [r["described"] for r in one["rows"]])])
    inverse = np.linalg.inv(np.corrcoef(ranks))
    partial = -inverse[0, 1] / np.sqrt(inverse[0, 0] * inverse[1, 1])
    assert said["group, described alike"] == pytest.approx(partial, abs=1e-3)


def test_how_far_two_measurements_agree():
    first, second = record("pairs-0", (1, 3, 5)), record("pairs-1", (2, 2, 2))
    twice = frequency_report.agreement([first, first], 0.3)
    assert twice == {"tokens": 1.0, "distance at one token": 1.0}
    assert frequency_report.agreement([first], 0.3) == {"tokens": None, "distance at one token": None}
    both = [
        [frequency_report.min_tokens(row["sweep"], 0.3) for row in one["rows"]] for one in (first, second)
    ]
    found = frequency_report.agreement([first, second], 0.3)["tokens"]
    assert found == round(float(stats.spearmanr(*both).statistic), 3)


def test_places_are_told_of_words_that_redraw_and_of_no_others():
    one = record("fixed-location", (1, 3, 6))
    for row in one["rows"]:
        for attempt in row["sweep"]:
            near = attempt["distance_mean"] < 0.3
            attempt["editability"] = 0.1 if near and row["group"] == GROUPS[0] else 0.9
            attempt["editable"] = attempt["editability"] >= 0.5
        if row["group"] == GROUPS[2]:
            row["sweep"] = sweep([0.8] * 5)
    said = frequency_report.places(one, 0.3)
    assert said[GROUPS[0]] == {"words": 94, "score": 0.1, "refused": 1.0}
    assert said[GROUPS[1]] == {"words": 61, "score": 0.9, "refused": 0.0}
    assert said[GROUPS[2]] == {"words": 0, "score": None, "refused": None}
    checked = frequency_report.summarise([one], 0.3)["groups"][GROUPS[0]]
    alone = frequency_report.summarise([frequency_report.by_distance_alone(one)], 0.3)["groups"][GROUPS[0]]
    assert (checked["never"], alone["never"], alone["one_token"]) == (1.0, 0.0, 0.7)
    assert frequency_report.first_near(sweep([0.8, 0.2, 0.1], editable=False), 0.3) == 2
    assert frequency_report.first_near(sweep([0.8] * 5), 0.3) is None
