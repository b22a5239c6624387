"""The benchmark's statistics, on verdicts with known answers."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy.stats import norm

from originality.bench import agreement, learning, report, summary, variants
from originality.bench.work_done import counts, places
from originality.cost import measured_counts
from originality.cost.flops import Flops
from originality.cost.operations import BatchSlots, cost
from originality.experiments import held_out
from originality.shapes.image_sets import TaughtSet
from originality.sweep.sweep import Sweep

FLOPS = Flops(forward=1, step=2, encoding=0, decoding=0, text=0, text_step=0)


def row(variant: variants.Variant, seed: int, image_id: str, tokens: int | None):
    """An image that a variant judged: "tokens" passed, each before it was far."""
    settings = variant.settings(seed)
    steps, batch = settings.inversion.steps, settings.inversion.batch_size
    sweep = [
        {
            "tokens": m,
            "distance_mean": 0.1 if m == tokens else 0.9,
            "distance_sem": 0.01,
            "editable": True,
            "redraws": 4,
            "inversion_steps": steps,
            "unet_samples": steps * batch + 4 * 2 * settings.redraw.steps,
            "passed": m == tokens,
        }
        for m in range(1, (tokens or 5) + 1)
    ]
    return {
        "image_id": image_id,
        "status": "judged",
        "min_tokens": tokens,
        "max_tokens": 5,
        "sweep": sweep,
        "settings_digest": settings.digest(),
        "model_digest": "shapes",
        "places": {"training": steps * len(sweep) * 5 // 4, "drawing": 4 * len(sweep) * 2},
    }


@pytest.fixture
def folder(tmp_path):
    """Two seeds of paper, which differ in one of six images, and one of fast, which differs in another, and
    judged two images more; reduced judged five of them, and one of a motif that settings were chosen on."""
    output = {
        ("paper", 0): [1, 1, 3, 3, 5, None],
        ("paper", 1): [1, 2, 3, 3, 5, None],
        ("reduced", 2): [1, 1, 3, 3, 5, 1],
        ("fast", 3): [1, 1, 3, 2, 5, None, 4, 1],
    }
    images = [*(f"{group} {n}" for group in variants.GROUPS for n in (10, 11)), "rare 12", "rare 20"]
    for (name, seed), tokens in output.items():
        variant = variants.VARIANTS[name]
        requested = [*images[:5], "rare 20"] if name == "reduced" else images
        rows = [row(variant, seed, *of) for of in zip(requested, tokens, strict=False)]
        stray = {**rows[0], "settings_digest": "another"}
        text = "".join(json.dumps(r) + "\n" for r in (*rows, stray))
        variants.results_of(tmp_path, variant, seed).write_text(text)
    return tmp_path


def test_agreement_is_counted_by_image_over_pairs_of_runs(folder):
    found = summary.summarise(folder)
    promise = found["fast against paper"]
    assert promise["images"] == 6
    assert promise["paper with itself"][1] == pytest.approx(5 / 6)
    assert promise["agreement"][1] == pytest.approx((1 + 0.5 + 1 + 0 + 1 + 1) / 6)
    assert promise["agreement by run"] == pytest.approx([promise["agreement"][1]])
    assert promise["agreement less paper's own"][1] == pytest.approx(-1 / 12 - 1 / 6 + 1 / 6)
    assert promise["more tokens by group"]["rare"][1] == pytest.approx(-0.5)
    assert promise["more tokens by group"]["familiar"][1] == pytest.approx(-0.25)
    assert promise["more tokens by group"]["unseen"] == (0, 0, 0)
    assert found["derived"]["paper's words drawn again"] == (1, 1, 1)  # all are twenty standard errors off
    far = promise["distance at one token"]
    assert far["more"][1] == pytest.approx(-0.8 / 12)  # of one image, and from one of paper's two runs
    assert far["apart"][1] == pytest.approx(0.8 / 12)
    assert far["paper apart from itself"][1] == pytest.approx(0.8 / 6)
    fast = found["variants"]["fast"]
    assert fast["all images"]["images"] == [8]
    assert fast["all images"]["lanes busy"] == pytest.approx(0.8)
    own = fast["on the images of paper"]
    assert own["rho with rarity"] > 0.8
    assert own["agrees with reduced"][1] == pytest.approx(4 / 5)
    assert (
        found["variants"]["reduced"]["on the images of paper"]["agrees with fast"]
        == own["agrees with reduced"]
    )
    assert found["fast against reduced"]["images"] == 5  # not the one whose motif settings were chosen on


@pytest.mark.parametrize(
    "attempts, agree",
    [
        ([(0.3, 0.05, True)], 0.5),  # on the threshold
        ([(0.35, 0.05, True)], norm.cdf(1) ** 2 + norm.cdf(-1) ** 2),
        ([(0.1, 0.05, False), (0.3, 0.05, True)], 0.5),  # no word of the model, however near
        ([(0.3, 0.05, True), (0.3, 0.05, True)], 1 / 4 + 1 / 16 + 1 / 16),
        ([(None, None, False)], 1),
    ],
)
def test_two_evaluations_of_the_same_words_agree_as_chance_allows(attempts, agree):
    keys = ("distance_mean", "distance_sem", "editable")
    sweep = [{"tokens": m, **dict(zip(keys, of, strict=True))} for m, of in enumerate(attempts, 1)]
    rows = [{"image_id": "a", "status": "judged", "max_tokens": 2, "sweep": sweep}]
    assert agreement.reevaluation_agreement(rows, 0.3)["a"] == pytest.approx(agree, abs=0.04)


def test_without_a_part_fast_is_compared_with_itself_under_the_same_seed(folder):
    images = [f"{group} {n}" for group in variants.GROUPS for n in (10, 11)]
    for variant, seed, output in (
        (variants.VARIANTS["whole"], 3, [1, 1, 3, 2, 5, 4]),
        (variants.FAST, 4, [2, 2, 4, 3, 5, 4]),
    ):
        rows = [row(variant, seed, *of) for of in zip(images, output, strict=True)]
        variants.results_of(folder, variant, seed).write_text("".join(json.dumps(r) + "\n" for r in rows))
    found = summary.summarise(folder)["variants"]["whole"]["on the images of paper"]
    assert found[summary.UNDER_ITS_SEED] == pytest.approx(5 / 6)
    assert found["agrees with fast"][1] == pytest.approx((5 / 6 + 2 / 6) / 2)


def test_padding_of_passes_counts_as_work(folder):
    (rows,) = summary.rows_of(folder, variants.FAST)
    settings, rows = variants.FAST.settings(3), rows[:6]
    counted = counts(rows, settings)
    tried = np.mean([1, 1, 3, 2, 5, 5])
    steps = settings.inversion.steps * settings.inversion.batch_size
    assert counted.tokens_tried == pytest.approx(tried)
    assert counted.tokens_checked == pytest.approx(5 / 6)  # asked of what is near alone
    assert counted.step_samples == pytest.approx(tried * steps)
    assert counted.drawing_samples == pytest.approx(tried * 4 * 2 * settings.redraw.steps)
    assert counted.decoded == pytest.approx(tried * 4)
    filled = places(rows, settings)
    assert (filled.training, filled.drawing) == pytest.approx((1.25, 2))
    expected = tried * (steps * 2 * 1.25 + 4 * 2 * settings.redraw.steps * 2)
    assert cost(counted, FLOPS, places=filled).unet == pytest.approx(expected)
    of_paper = variants.PAPER.settings(0)
    assert places([{}], of_paper) == BatchSlots()
    with pytest.raises(KeyError):
        places([{}], settings)


def test_variants_are_compared_on_the_images_that_paper_judged(folder):
    found = summary.summarise(folder)
    spent = {name: of["on the images of paper"] for name, of in found["variants"].items()}
    assert {name: of["images"] for name, of in spent.items()} == {"paper": 6, "reduced": 5, "fast": 6}
    assert spent["fast"]["numbers of tokens"] == pytest.approx(np.mean([1, 1, 3, 2, 5, 5]))
    settings, tried = variants.FAST.settings(3), np.mean([1, 1, 3, 2, 5, 5])
    samples = settings.inversion.steps * settings.inversion.batch_size
    assert spent["fast"]["UNet samples forward and back"] == pytest.approx(tried * samples)
    assert spent["fast"]["UNet samples forward"] == pytest.approx(tried * 4 * 2 * settings.redraw.steps)
    promise = found["fast against paper"]
    assert promise["paper tries more numbers of tokens"] == pytest.approx(
        np.mean([1, 1.5, 3, 3, 5, 5]) / tried
    )
    assert summary.measured_in(folder)["fast"].counts.tokens_tried == pytest.approx(tried)


def test_times_are_reported_if_measured(folder):
    assert summary.summarise(folder)["times"] == {}
    taken = {"wall": {"paper_over_fast": 19.0}, "cpu": {"paper_over_fast": 20.0}}
    (folder / "paired.json").write_text(json.dumps(taken))
    found = summary.summarise(folder)
    more = found["fast against paper"]["paper tries more numbers of tokens"]
    assert found["times"] == {"paper over fast, a number of tokens": {"wall": 19.0, "cpu": 20.0}}
    assert found["derived"]["paper over fast, an image"] == pytest.approx(
        {"wall": 19 * more, "cpu": 20 * more}
    )


def test_verdicts_of_two_models_are_refused(folder):
    file = variants.results_of(folder, variants.FAST, 3)
    file.write_text(
        file.read_text() + json.dumps({**row(variants.FAST, 3, "rare 13", 1), "model_digest": "x"}) + "\n"
    )
    with pytest.raises(ValueError, match="several models"):
        summary.summarise(folder)


def test_the_report_is_written(folder):
    table = report.write(folder, folder / "counts.json")
    assert [line.split(":")[0] for line in table.splitlines()[2:]] == ["| paper", "| reduced", "| fast"]
    assert json.loads((folder / "summary.json").read_text())["variants"]["fast"]
    assert (folder / "cost.png").stat().st_size > 1000
    read = measured_counts.read(folder / "counts.json")
    assert read["fast-shapes"].images == read["paper-shapes"].images == 6
    assert read["fast-shapes"].places.training == pytest.approx(1.25)
    carried = summary.summarise(folder)["derived"]["Stable Diffusion v1-4"]
    assert "PFLOP an image" in carried["paper"] and "FLOP an image" in carried["fast"]


def test_settings_were_chosen_on_other_motifs_than_paper_judges():
    assert {len(TaughtSet().motifs_of(group)) for group in variants.GROUPS} == {variants.MOTIFS}
    chosen_on = learning.queries(variants.GROUPS, range(learning.FIRST, learning.FIRST + 4))
    assert not any(variants.untouched(query.image_id) for query in chosen_on)
    assert all(variants.untouched(query.image_id) for query in variants.PAPER.queries())


def test_an_interval_contains_its_mean():
    low, here, high = agreement.bootstrap_interval(np.array([0.0, 0.0, 1.0, 1.0, 1.0]))
    assert here == pytest.approx(0.6)
    assert low <= here <= high
    assert (low, high) != (here, here)


def test_every_variant_loads_and_no_two_are_the_same():
    digests = [v.settings(0).digest() for v in variants.VARIANTS.values()]
    assert len(set(digests)) == len(variants.VARIANTS)
    assert len(variants.PAPER.queries()) == 12
    assert len(variants.REDUCED.queries()) == 36
    assert len(variants.FAST.queries()) == 60
    alone = {*variants.PAPER.seeds, *variants.REDUCED.seeds}
    assert len(alone) == len(variants.PAPER.seeds) + len(variants.REDUCED.seeds)
    ours = [v for v in variants.VARIANTS.values() if v not in (variants.PAPER, variants.REDUCED)]
    assert not any(alone & set(v.seeds) for v in ours)  # noise of redraws that is the same agrees too easily
    assert set(variants.PAPER.queries()) < set(variants.REDUCED.queries()) < set(variants.FAST.queries())


@pytest.mark.long
def test_a_run_resumes_with_the_missing_images(tmp_path, quick, monkeypatch):
    variant = variants.Variant("fast", "")
    monkeypatch.setattr(variants.Variant, "settings", lambda self, seed: quick)
    for count in (1, 2, 2):
        queries = variants.queries(variants.GROUPS, [0])[:count]
        monkeypatch.setattr(variants.Variant, "queries", lambda self, queries=queries: queries)
        variants.run(variant, 0, tmp_path)
    results = variants.results_of(tmp_path, variant, 0)
    assert [json.loads(line)["image_id"] for line in results.read_text().splitlines()] == [
        "familiar 0",
        "rare 0",
    ]
    rows = [json.loads(line) for line in results.read_text().splitlines()]
    for row in rows:  # alone, in a run with two lanes
        steps = sum(a["inversion_steps"] for a in row["sweep"])
        drawn = sum(a["redraws"] for a in row["sweep"])
        assert row["places"] == {"training": 2 * steps, "drawing": drawn}


@pytest.mark.long
def test_batch_slots_of_an_interrupted_run_are_counted_once(tmp_path, quick, monkeypatch):
    monkeypatch.setattr(held_out, "SNAPSHOT_SECONDS", 0.0)
    requested, results = variants.queries(variants.GROUPS, [0])[:1], tmp_path / "cut.jsonl"
    sweep = Sweep(quick)
    step, taken = sweep.step, []

    def cut():
        if len(taken) == 6:
            raise KeyboardInterrupt
        taken.append(1)
        return step()

    sweep.step = cut  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        held_out.measure(sweep, requested, results)
    again = Sweep(quick)
    (row,) = held_out.measure(again, requested, results)
    assert again.slots.training < sum(a["inversion_steps"] for a in row["sweep"]) * 2
    (whole,) = held_out.measure(Sweep(quick), requested, tmp_path / "whole.jsonl")
    assert row["places"] == whole["places"]
    assert not list(results.with_suffix(".in-flight").iterdir())
