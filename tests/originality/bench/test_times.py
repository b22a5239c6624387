"""The timing benchmarks, at settings that take seconds."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace as Event
from typing import Any

import pytest
import torch

from originality.bench.timing import paired, profile, steps
from originality.bench.timing.profiler_scopes import (
    DRAWS,
    OPTIMISER,
    OURS,
    SCOPE,
    TEXT,
    TEXT_BACK,
    UNET,
    UNET_BACK,
    VAE,
)
from originality.evaluation.judge import Judge
from originality.experiments.held_out import queries
from originality.inversion.inverter import Inverter
from originality.model.diffusion import LatentDiffusion
from originality.settings.audit import AuditSettings
from originality.shapes.image_sets import TaughtSet


@pytest.fixture(scope="module")
def tiny(quick: AuditSettings) -> AuditSettings:
    inversion = quick.inversion.model_copy(update={"steps": 3, "batch_size": 2})
    redraw = quick.redraw.model_copy(update={"count": 2, "steps": 1})
    check = quick.in_distribution.model_copy(update={"check": "none"})
    parts = {"inversion": inversion, "redraw": redraw, "in_distribution": check}
    return quick.model_copy(update={"max_tokens": 1, **parts})


def test_the_plain_loop_changes_only_its_own_token(model: LatentDiffusion, tmp_path: Path) -> None:
    TaughtSet().scene(2, 0).image().save(tmp_path / "image.png")
    table = model.text.tables[0].weight.clone()
    loop = steps.PlainLoop(model, tmp_path / "image.png", samples=2)
    before = loop.table.detach().clone()
    loop.step()
    moved = (loop.table != before).any(1).nonzero().flatten().tolist()
    assert moved == [len(before) - 1]
    assert torch.equal(model.text.tables[0].weight, table)
    assert "<s>" not in model.text.tokenizers[0].get_vocab()


def test_ratios_of_steps_follow_from_their_times(model: LatentDiffusion) -> None:
    found = steps.measure(model, 0.0, lanes=2, samples=2, min_rounds=2)
    assert found["rounds"] == 2
    for clock in ("wall", "cpu"):
        ms = found[clock]["ms_a_sample"]
        assert found[clock]["plain_over_single"] == ms["plain"] / ms["single"]
        assert found[clock]["lanes2_over_single"] == ms["lanes2"] / ms["single"]


@pytest.mark.long
def test_the_paired_run_alternates_on_different_images(tiny: AuditSettings) -> None:
    found = paired.measure(tiny, tiny, "FP", batch=2)
    fast, paper = found["runs"]
    assert (fast["preset"], fast["tokens_judged"]) == ("fast", 2)
    assert (paper["preset"], paper["tokens_judged"]) == ("paper", 1)
    assert len({*fast["images"], *paper["images"]}) == 3
    for clock in ("wall", "cpu"):
        times = found[clock]
        assert times["paper_over_fast"] == pytest.approx(paper[clock] / (fast[clock] / 2))


@pytest.mark.long
def test_a_profile_covers_the_complete_audit_and_changes_no_class(tiny: AuditSettings) -> None:
    methods = {(of, name): getattr(of, name) for of, name in ((Inverter, "advance"), (Judge, "advance"))}
    found = profile.measure(tiny, queries(("familiar",), [0]), every=2)
    assert all(getattr(of, name) is method for (of, name), method in methods.items())
    kinds = found["kinds"]
    assert (kinds["steps"]["calls"], kinds["steps"]["profiled"]) == (3, 2)
    for kind in kinds.values():
        assert kind["in_scopes"] == pytest.approx(1, abs=0.05)
        assert sum(kind["parts"].values()) == pytest.approx(kind["seconds"])
    assert {UNET, UNET_BACK, TEXT, TEXT_BACK, OPTIMISER, DRAWS, OURS} <= set(kinds["steps"]["parts"])
    assert {UNET, VAE} <= set(kinds["redraws"]["parts"]) and UNET_BACK not in kinds["redraws"]["parts"]
    assert all(seconds > 0 for kind in kinds.values() for seconds in kind["parts"].values())
    assert sum(part["share"] for part in found["parts"].values()) == pytest.approx(1)
    assert 0 < found["unet_vae_metric"] < found["unet_vae_metric_text"] < 1
    assert "text encoder, backward" in profile.table(found)


def _event(name: str, start: int, end: int, thread: int = 1) -> Any:
    return Event(name=name, thread=thread, time_range=Event(start=start, end=end))


def test_each_moment_belongs_to_the_innermost_scope() -> None:
    events = [
        _event(SCOPE + OURS, 0, 100),
        _event("aten::cat", 2, 6),
        _event("aten::copy_", 3, 5),  # inside the one before
        _event(SCOPE + UNET, 10, 40),
        _event("aten::mm", 11, 39),
        _event(SCOPE + UNET_BACK, 50, 90),
        _event("aten::mm", 52, 69),
        _event(SCOPE + TEXT_BACK, 70, 90),
        _event(SCOPE + TEXT, 20, 30, thread=2),
    ]
    scopes: defaultdict[str, float] = defaultdict(float)
    rest: defaultdict[str, float] = defaultdict(float)
    profile.attribute(events, scopes, rest)
    found = {name: round(1e6 * seconds) for name, seconds in scopes.items()}
    assert found == {OURS: 30, UNET: 30, UNET_BACK: 20, TEXT_BACK: 20}
    assert {name: round(1e6 * seconds) for name, seconds in rest.items()} == {"aten::cat": 4}
