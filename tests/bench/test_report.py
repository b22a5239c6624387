"""The benchmark's arithmetic, on verdicts whose answer is known."""

from __future__ import annotations

import json

import numpy as np
import pytest

from originality import measured
from originality.bench import agreement, report, runs
from originality.bench.spent import counts, filled, unet_flops
from originality.flops import Flops

FLOPS = Flops(forward=1, step=2, encoding=0, decoding=0, text=0, text_step=0)


def row(variant: runs.Variant, seed: int, image_id: str, tokens: int | None):
    """An image that a variant judged: "tokens" passed, each before it was far."""
    settings = variant.settings(seed)
    steps, batch = settings.inversion.steps, settings.inversion.batch_size
    sweep = [
        {
            "tokens": m,
            "distance_mean": 0.1 if m == tokens else 0.9,
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
    }


@pytest.fixture
def folder(tmp_path):
    """Two seeds of paper, which differ in one of six images, and one of fast, which differs in another."""
    said = {
        ("paper", 0): [1, 1, 3, 3, 5, None],
        ("paper", 1): [1, 2, 3, 3, 5, None],
        ("fast", 0): [1, 1, 3, 2, 5, None],
    }
    images = [f"{group} {n}" for group in runs.GROUPS for n in (10, 11)]
    for (name, seed), tokens in said.items():
        variant = runs.VARIANTS[name]
        rows = [row(variant, seed, *of) for of in zip(images, tokens, strict=True)]
        stray = {**rows[0], "settings_digest": "another"}
        text = "".join(json.dumps(r) + "\n" for r in (*rows, stray))
        runs.results_of(tmp_path, variant, seed).write_text(text)
    digest = runs.FAST.settings(0).digest()
    places = {
        "settings_digest": digest,
        "lanes": 100,
        "in_hand": 80,
        "ahead": 5,
        "redraws": 40,
        "drawn": 20,
    }
    stray = {**places, "settings_digest": "another", "lanes": 10_000}
    (tmp_path / "fast-0.occupancy.jsonl").write_text(f"{json.dumps(places)}\n{json.dumps(stray)}\n")
    return tmp_path


def test_agreement_is_counted_by_image_over_pairs_of_runs(folder):
    summary = report.summarise(folder)
    promise = summary["fast against paper"]
    assert promise["images"] == 6
    assert promise["paper with itself"][1] == pytest.approx(5 / 6)
    assert promise["agreement"][1] == pytest.approx((1 + 0.5 + 1 + 0 + 1 + 1) / 6)
    assert promise["agreement less paper's own"][1] == pytest.approx(-1 / 12 - 1 / 6 + 1 / 6)
    assert promise["more tokens by group"]["rare"][1] == pytest.approx(-0.5)
    assert promise["more tokens by group"]["familiar"][1] == pytest.approx(-0.25)
    assert promise["more tokens by group"]["unseen"] == (0, 0, 0)
    fast = summary["variants"]["fast"]
    assert fast["images"] == [6]
    assert fast["lanes busy"] == pytest.approx(0.8)
    assert fast["rho with rarity"] > 0.8


def test_what_fills_up_passes_is_spent_as_well(folder):
    (rows,) = report.rows_of(folder, runs.FAST)
    settings = runs.FAST.settings(0)
    counted = counts(rows, settings)
    tried = np.mean([1, 1, 3, 2, 5, 5])
    steps = settings.inversion.steps * settings.inversion.batch_size
    assert counted.tokens_tried == pytest.approx(tried)
    assert counted.tokens_checked == pytest.approx(5 / 6)  # asked of what is near alone
    assert counted.step_samples == pytest.approx(tried * steps)
    assert counted.drawing_samples == pytest.approx(tried * 4 * 2 * settings.redraw.steps)
    assert counted.decoded == pytest.approx(tried * 4)
    places = filled([{"lanes": 100, "in_hand": 80, "redraws": 40, "drawn": 20}])
    expected = tried * (steps * 2 / 0.8 + 4 * 2 * settings.redraw.steps * 2)
    assert unet_flops(counted, places, FLOPS) == pytest.approx(expected)
    assert filled([]) == {"training": 1, "drawing": 1}


def test_the_report_is_written(folder):
    table = report.write(folder, folder / "counts.json")
    assert [line.split(":")[0] for line in table.splitlines()[2:]] == ["| paper", "| fast"]
    assert json.loads((folder / "summary.json").read_text())["variants"]["fast"]
    assert (folder / "cost.png").stat().st_size > 1000
    read = measured.read(folder / "counts.json")
    assert read["fast-shapes"].images == 6
    carried = report.summarise(folder)["Stable Diffusion v1-4"]
    assert "PFLOP an image" in carried["paper"] and "FLOP an image" in carried["fast"]


def test_an_interval_holds_its_statistic():
    low, here, high = agreement.interval(np.array([0.0, 0.0, 1.0, 1.0, 1.0]))
    assert here == pytest.approx(0.6)
    assert low <= here <= high
    assert (low, high) != (here, here)


def test_every_variant_loads_and_no_two_are_the_same():
    digests = [v.settings(0).digest() for v in runs.VARIANTS.values()]
    assert len(set(digests)) == len(runs.VARIANTS)
    assert len(runs.PAPER.asked()) == 12
    assert len(runs.REDUCED.asked()) == 36
    assert len(runs.FAST.asked()) == 60
    assert set(runs.PAPER.asked()) < set(runs.REDUCED.asked()) < set(runs.FAST.asked())


def test_a_run_goes_on_with_what_is_missing(tmp_path, quick, monkeypatch):
    variant = runs.Variant("fast", "")
    monkeypatch.setattr(runs.Variant, "settings", lambda self, seed: quick)
    for count in (1, 2, 2):
        asked = runs.queries(runs.GROUPS, [0])[:count]
        monkeypatch.setattr(runs.Variant, "asked", lambda self, asked=asked: asked)
        runs.run(variant, 0, tmp_path)
    results = runs.results_of(tmp_path, variant, 0)
    assert [json.loads(line)["image_id"] for line in results.read_text().splitlines()] == [
        "familiar 0",
        "rare 0",
    ]
    told = [json.loads(line) for line in results.with_suffix(".occupancy.jsonl").read_text().splitlines()]
    assert len(told) == 2
    assert all(t["lanes"] > t["in_hand"] > 0 for t in told)


def test_how_full_passes_were_is_kept_of_a_run_that_is_stopped(tmp_path, quick, monkeypatch):
    def stopped(sweep, asked, results):
        sweep.occupancy.trained(8, 6, 1)
        raise KeyboardInterrupt

    monkeypatch.setattr(runs.Variant, "settings", lambda self, seed: quick)
    monkeypatch.setattr(runs, "measure", stopped)
    with pytest.raises(KeyboardInterrupt):
        runs.run(runs.FAST, 0, tmp_path)
    told = json.loads((tmp_path / "fast-0.occupancy.jsonl").read_text())
    assert (told["lanes"], told["in_hand"], told["settings_digest"]) == (8, 6, quick.digest())
