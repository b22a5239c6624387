"""Continuous batching: lanes are refilled immediately, and sharing passes changes no image's results."""

from __future__ import annotations

import pytest
import torch

from originality.inversion.inverter import Inverter
from originality.settings.audit import AuditSettings
from originality.sweep.sweep import Sweep
from tests.support.sweeps import Grey, changed, item, run, timeless


@pytest.fixture(scope="module")
def rounds(quick) -> AuditSettings:
    """Rounds of two redraws of ten, three images' rounds in a pass."""
    redraw = {"count": 10, "round": 2, "together": 6, "confidence": 0.9, "steps": 2}
    inversion = {"steps": 2, "batch_size": 2}
    return changed(
        quick,
        inversion=inversion,
        redraw=redraw,
        in_distribution={"check": "none"},
        distance={"threshold": 0.4},
    ).model_copy(update={"max_tokens": 3})


class Watched(Sweep):
    """A sweep that records how many lanes each training pass has."""

    def __init__(self, settings: AuditSettings) -> None:
        super().__init__(settings)
        self.distance = self.judge.distance = Grey()
        self.training: list[int] = []
        advance = self.inverter.advance
        self.inverter.advance = lambda lanes: self.training.append(len(lanes)) or advance(lanes)  # type: ignore[method-assign]


@pytest.fixture(scope="module")
def several(rounds):
    sweep = Watched(rounds)
    return sweep, run(sweep, *(item(k) for k in range(5)))


@pytest.mark.long
def test_results_are_independent_of_the_other_images(rounds, several):
    """To the last bit: passes have the same shape, whatever fills them and wherever in them the image is."""
    sweep = Watched(rounds)
    for k in (0, 4):
        alone, among = run(sweep, item(k))[f"image-{k}"], several[1][f"image-{k}"]
        assert timeless(alone.record) == timeless(among.record)
        assert alone.files == among.files


def test_a_free_lane_is_refilled_immediately(several):
    """While images wait to be admitted every pass is full."""
    sweep, done = several
    assert sweep.capacity == 2 + 2
    whole = sum(a["inversion_steps"] for f in done.values() for a in f.record["sweep"])
    assert sum(sweep.training) == whole
    alone = sweep.training.count(1)
    assert sweep.training == [2] * (len(sweep.training) - alone) + [1] * alone
    assert alone <= 2 * 3  # the last image's


@pytest.mark.long
def test_lanes_trained_ahead_change_no_verdict(rounds, several):
    sweep = Watched(changed(rounds, inversion={"ahead": True}))
    done = run(sweep, *(item(k) for k in (0, 3, 1)))
    for name, early in done.items():
        among, same = several[1][name], {"settings_digest": ""}
        assert {**timeless(early.record), **same} == {**timeless(among.record), **same}
        assert done[name].files == among.files
    needed = sum(a["inversion_steps"] for f in done.values() for a in f.record["sweep"]) * 2
    ahead = sum(f.counters.get("unet_samples_ahead", 0) for f in done.values())
    assert sum(sweep.training) * 2 == needed + ahead
    sweep.training.clear()
    run(sweep, item(0))
    assert sweep.training == [2, 2, 1, 1]  # one and two tokens together, then three


def test_rounds_end_where_the_verdict_is_certain(rounds, several):
    whole = run(Watched(changed(rounds, redraw={"round": None, "together": None})), *map(item, (0, 3)))
    fewer = 0
    for name, full in whole.items():
        for ours, theirs in zip(several[1][name].record["sweep"], full.record["sweep"], strict=True):
            assert theirs["redraws"] == 10
            assert ours["redraws"] in (2, 4, 6, 8, 10)
            assert ours["passed"] == theirs["passed"]
            fewer += ours["redraws"] < 10
            if ours["redraws"] == 10:
                assert ours["distance_mean"] == pytest.approx(theirs["distance_mean"], abs=0.02)
    assert fewer
    assert {a["passed"] for f in whole.values() for a in f.record["sweep"]} == {False, True}


SETTLED = {"steps": 12, "cycle": 2, "stop": "settled", "tolerance": 0.9, "cooldown": 2, "ahead": True}


@pytest.fixture(scope="module")
def running_ahead(request, rounds):
    settings = changed(rounds, inversion=request.param)
    return settings, run(Watched(settings), *map(item, (3, 0)))["image-0"]


@pytest.mark.long
@pytest.mark.parametrize(
    ("running_ahead", "steps"),
    [*(({"ahead": True}, steps) for steps in (2, 5, 7)), *((SETTLED, steps) for steps in (4, 9, 12))],
    indirect=["running_ahead"],
)
def test_a_sweep_in_rounds_resumes_from_any_step(running_ahead, steps):
    """Also while a word waits for its next round, and beside lanes trained ahead."""
    settings, uninterrupted = running_ahead
    if settings.inversion.stop == "settled":
        assert any(a["inversion_steps"] < 12 for a in uninterrupted.record["sweep"])
    sweep = Watched(settings)
    for k in (3, 0):
        sweep.admit(item(k))
    for _ in range(steps):
        assert "image-0" not in [finished.item_id for finished in sweep.step()]
    again = Watched(settings)
    again.restore(item(0), sweep.snapshot("image-0"))
    restored = run(again)["image-0"]
    assert timeless(restored.record) == timeless(uninterrupted.record)
    assert restored.files == uninterrupted.files


@pytest.mark.parametrize("templates", [None, 2])
def test_position_and_neighbours_change_no_bit_of_a_lane(model, quick, templates):
    settings = quick.inversion.model_copy(update={"templates": templates})
    inverter = Inverter(model, quick.selected_domain, settings, 0, 4)
    moments = [model.encode(model.fit(item(k).content)) for k in range(4)]

    def learned(order, tokens):
        lanes = [inverter.open(str(k), moments[k], tokens[k]) for k in order]
        for _ in range(3):
            inverter.advance(lanes)
        return {lane.image_id: lane.vectors.detach() for lane in lanes}

    straight, turned = (learned(order, (1, 2, 1, 2)) for order in ((0, 1, 2, 3), (2, 3, 1, 0)))
    for name, vectors in straight.items():
        assert torch.equal(vectors, turned[name]), name
    wider = learned((0, 3, 2), (1, 2, 5, 4))  # each prompt's vectors are padded to five tokens
    assert torch.equal(straight["0"], wider["0"])


def test_progress_can_be_read_at_any_moment(rounds, monkeypatch):
    """As the worker's other thread does, even while the next lane is being opened."""
    sweep = Watched(rounds)
    opened, messages = sweep.inverter.open, []

    def requested(*given):
        messages.append(sweep.progress)
        return opened(*given)

    monkeypatch.setattr(sweep.inverter, "open", requested)
    run(sweep, item(0))
    assert len(messages) == 3 and "m=2 step 0/2" in messages[1]


def test_a_single_image_fills_a_pass_with_rounds_that_it_may_need(rounds, several):
    sweep = Watched(changed(rounds, redraw={"together": 10, "reference": False}))
    drawn = []
    generate = sweep.model.generate
    sweep.model.generate = lambda words, noise, redraw: (
        drawn.append(len(noise)) or generate(words, noise, redraw)
    )
    record = run(sweep, item(3))["image-3"].record
    among = several[1]["image-3"].record
    assert drawn == [10]
    for ours, theirs in zip(record["sweep"], among["sweep"], strict=True):
        assert (ours["redraws"], ours["passed"]) == (theirs["redraws"], theirs["passed"]) == (6, True)
        assert ours["unet_samples"] == theirs["unet_samples"]
    assert sweep.slots.drawing == 10
