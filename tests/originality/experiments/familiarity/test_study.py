"""The familiarity study: its queries, and its report on rows with known answers."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from PIL import Image

from originality.experiments.familiarity import tuning
from originality.experiments.familiarity.report import (
    by_colours,
    by_pair,
    summarise,
    summarise_steps,
    write_report,
)
from originality.experiments.familiarity.study import PAIR_GROUPS, examples, measure_steps
from originality.experiments.held_out import COUNTS, measure, queries, query
from originality.inversion.inverter import Inverter
from originality.settings.presets import load_settings
from originality.shapes.image_sets import TRIO, TaughtSet, clear_view
from originality.shapes.motifs import GROUPS
from originality.sweep.sweep import Sweep
from tests.support.places import EXAMPLES


def judged(tokens_by_group, images=20):
    return [
        {
            "image_id": f"{group} {number}",
            "group": group,
            "status": "judged",
            "min_tokens": tokens if tokens < 6 else None,
            "max_tokens": 5,
            "model_digest": "m",
            "sweep": [{"distance_mean": 0.1 * tokens}],
        }
        for group, tokens in tokens_by_group.items()
        for number in range(images)
    ]


def trained(steps_by_group, images=10):
    return [
        {"group": group, "tokens": 5, "steps": steps}
        for group, steps in steps_by_group.items()
        for _ in range(images)
    ]


@pytest.mark.parametrize("group", [*GROUPS, *PAIR_GROUPS])
def test_queries_are_visible_and_repeatable(group):
    scenes = [query(group, k) for k in range(6)]
    assert all(clear_view(scene) for scene in scenes)
    assert [s.placed for s in scenes] == [query(group, k).placed for k in range(6)]
    assert len({s.placed for s in scenes}) == 6
    assert {len(s.placed) for s in scenes} == {3 if group in GROUPS else 2}


@pytest.mark.parametrize("group, count", COUNTS.items())
def test_queries_of_a_number_of_elements_contain_no_pair(group, count):
    for number in range(6):
        scene = query(group, number)
        assert len(scene.elements) == count and clear_view(scene)
        assert sum(e.shape in TRIO for e in scene.elements) <= 1
        assert {(e.size, e.texture) for e in scene.elements} == {("big", "full")}


def test_queries_go_through_every_motif_of_a_group():
    for group in GROUPS:
        requested = [tuple(sorted(query(group, k).elements)) for k in range(20)]
        assert sorted(requested) == sorted(m.elements for m in TaughtSet().motifs_of(group))


def test_groups_in_the_order_of_familiarity_have_rho_one():
    rows = judged({"familiar": 1, "rare": 2, "scarce": 4, "unseen": 6})
    summary = summarise(rows)
    assert summary["rho"]["motifs"] == {"rho": 1.0, "interval": (1.0, 1.0)}
    assert summary["differences"]["rare - familiar"] == {"mean": 1.0, "interval": (1.0, 1.0)}
    assert summary["groups"]["familiar"]["one_token"] == 1.0
    assert summary["groups"]["unseen"]["never"] == 1.0
    assert summary["groups"]["unseen"]["mean_min_tokens"] == 6.0


def test_groups_that_do_not_differ_have_rho_near_zero_and_an_interval_around_it():
    rng = np.random.default_rng(0)
    rows = judged({"familiar": 1, "rare": 1, "unseen": 1}, images=40)
    for row in rows:
        row["min_tokens"] = int(rng.integers(1, 6))
    low, high = summarise(rows)["rho"]["motifs"]["interval"]
    assert low < 0 < high


def test_steps_of_a_group_that_mostly_never_passes_have_no_median():
    summary = summarise_steps(trained({"familiar": 10, "rare": 40, "unseen": None}))
    assert summary["groups"]["familiar"] == {"images": 10, "median_steps": 10.0, "passed": 1.0}
    assert summary["groups"]["unseen"] == {"images": 10, "median_steps": None, "passed": 0.0}
    assert summary["rho"] == 1.0


def test_pairs_of_one_colour_and_of_two_are_summarised_separately():
    rows = judged({"common pair": 2, "familiar": 1})
    pairs = [row for row in rows if row["group"] == "common pair"]
    for k, row in enumerate(pairs):
        row["caption"] = f"big red full circle and big {'red' if k % 4 else 'blue'} full square"
        row["min_tokens"] = 1 if k % 4 else None
    never = rows[0]["max_tokens"] + 1.0
    assert by_colours(rows) == {
        "one colour": {"common pair": {"images": 15, "mean_min_tokens": 1.0, "one_token": 15}},
        "two colours": {"common pair": {"images": 5, "mean_min_tokens": never, "one_token": 0}},
    }


def test_a_pair_of_colours_with_more_images_counts_once():
    rows = judged(dict.fromkeys(PAIR_GROUPS, 1), images=6)
    for k, row in enumerate(rows):
        first = k % 6 == 0
        row["caption"] = f"big {'blue' if first else 'red'} full circle and big red full square"
        row["min_tokens"] = 5 if first and row["group"] != "common pair" else 1
    messages = by_pair(rows)
    assert messages["pairs"] == dict.fromkeys(PAIR_GROUPS, 2)
    assert [d["mean"] for d in messages["differences"].values()] == [2.0, 0.0, 2.0]
    by_image = summarise(rows)["differences"]["unseen pair - common pair"]["mean"]
    assert by_image == round(4 / 6, 3)


def test_the_report_is_written(tmp_path):
    rows = judged({"familiar": 1, "rare": 2, "unseen": 6})
    steps = trained({"familiar": 10, "rare": 40, "unseen": None})
    text = write_report(rows, steps, load_settings("laptop"), tmp_path, 15)
    assert "| unseen | 0 % | 20 | 6.00 [6.00, 6.00] | 0 % | 100 % | 0.60 | never |" in text
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["model_digest"] == "m"
    assert {g: v["images"] for g, v in summary["untouched"]["groups"].items()} == dict.fromkeys(
        ("familiar", "rare", "unseen"), 5
    )
    assert "15" in text and "familiar 100 %, rare 0 %, unseen 0 %" in text
    with Image.open(tmp_path / "min-tokens.png") as picture:
        assert picture.width > 500


def test_parts_divide_the_images_and_each_has_every_group():
    whole = queries(GROUPS, range(20))
    parts = [queries(GROUPS, range(20), f"{k}/3") for k in (1, 2, 3)]
    assert sorted(q.image_id for part in parts for q in part) == sorted(q.image_id for q in whole)
    assert all({q.group for q in part} == set(GROUPS) for part in parts)


@pytest.mark.long
def test_each_image_is_measured_once(tmp_path, quick, capsys):
    results = tmp_path / "results.jsonl"
    rows = measure(Sweep(quick), queries(["familiar", "unseen"], [0]), results)
    assert [r["image_id"] for r in rows] == ["familiar 0", "unseen 0"]
    assert all(r["status"] == "judged" and len(r["sweep"]) >= 1 for r in rows)
    again = measure(Sweep(quick), queries(["familiar", "unseen"], [0, 1]), results)
    assert again[:2] == rows
    assert {r["image_id"] for r in again} == {"familiar 0", "unseen 0", "familiar 1", "unseen 1"}
    other = quick.model_copy(update={"seed": 1})
    (line,) = measure(
        Sweep(other), queries(["familiar"], [0]), results
    )  # lines of other settings are left out
    assert line["image_id"] == "familiar 0"
    assert len(results.read_text().splitlines()) == 5


def test_steps_to_pass_are_those_of_the_sweep(tmp_path, quick):
    (swept,) = measure(Sweep(quick), queries(["familiar"], [0]), tmp_path / "results.jsonl")
    requested, results = queries(["familiar"], [0]), tmp_path / "steps.jsonl"
    (row,) = measure_steps(quick, requested, 1, results, (1, 4))
    assert len(row["distances"]) == 2
    assert row["distances"][-1] == pytest.approx(swept["sweep"][0]["distance_mean"], abs=1e-4)
    assert measure_steps(quick, requested, 1, results, (1, 4)) == [row]


def test_tuning_measures_every_checkpoint(tmp_path, monkeypatch, capsys):
    settings = json.dumps({"inversion": {"batch_size": 2}, "redraw": {"count": 2, "steps": 2}})
    command = f"tuning --out {tmp_path} --count 1 --groups rare --checkpoints 1 2 --settings".split()
    monkeypatch.setattr("sys.argv", [*command, settings])
    tuning.main()
    output = capsys.readouterr().out
    (row,) = map(json.loads, (tmp_path / "distances.jsonl").read_text().splitlines())
    assert row["image_id"] == "rare 200"
    assert len(row["distances"]) == 2 and row["steps"] is None
    assert f"| 2 | {row['distances'][1]:.2f} (" in output


def test_a_diverging_word_has_no_steps_to_pass(tmp_path, quick, monkeypatch):
    losses = Inverter.losses
    monkeypatch.setattr(Inverter, "losses", lambda self, *requested: losses(self, *requested) * math.nan)
    (row,) = measure_steps(quick, queries(["rare"], [0]), 1, tmp_path / "steps.jsonl")
    assert (row["steps"], row["distances"]) == (None, [])


def test_the_examples_are_the_committed_ones(tmp_path):
    examples(tmp_path)
    made = {p.name: np.asarray(Image.open(p)) for p in tmp_path.iterdir()}
    assert len(made) == 9
    for name, pixels in made.items():
        committed = np.asarray(Image.open(EXAMPLES / name))
        # The last bit of a sine, which another kind of CPU has differently, may tip the rounding of a pixel.
        assert np.abs(pixels.astype(int) - committed).max() <= 1, name
