"""Snapshots: a sweep resumes from any of its steps to the same bytes, and from nothing else."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from originality.inversion.inverter import Inverter
from originality.sweep.image_state import FORMAT, encode, unpack
from originality.sweep.sweep import Sweep
from tests.support.sweeps import item, run, timeless


def uninterrupted(sweep: Sweep):
    """The result of image 0 beside another one, and its stage and snapshot before every step."""
    for k in (0, 1):
        sweep.admit(item(k))
    snapshots, done = [], {}
    while "image-0" not in done:
        snapshots.append((sweep.stage("image-0"), sweep.snapshot("image-0")))
        done |= {f.item_id: f for f in sweep.step()}
    return done["image-0"], snapshots


@pytest.fixture(scope="module")
def course(quick):
    return uninterrupted(Sweep(quick))


def restored(quick, snapshot):
    sweep = Sweep(quick)
    sweep.restore(item(0), snapshot)
    assert sweep.snapshot("image-0") == snapshot
    return run(sweep)["image-0"]


@pytest.mark.long
@pytest.mark.parametrize("step", range(11))
def test_a_sweep_resumes_from_any_step_to_the_same_bytes(quick, course, step):
    finished, snapshots = course
    # Four steps and its redraws; the other image's redraws; the same again.
    assert [stage for stage, _ in snapshots] == [0] * 4 + [1] + [2] * 5 + [3]
    again = restored(quick, snapshots[step][1])
    assert timeless(again.record) == timeless(finished.record)
    assert again.files == finished.files
    assert again.counters == finished.counters


@pytest.mark.long
def test_a_sweep_resumes_after_a_failed_attempt(quick, monkeypatch):
    losses = Inverter.losses

    def diverges(self, lanes, *part):
        return losses(self, lanes, *part) * (math.nan if lanes[0].tokens == 1 else 1.0)

    monkeypatch.setattr(Inverter, "losses", diverges)
    finished, snapshots = uninterrupted(Sweep(quick))
    assert "loss of step 0" in finished.record["sweep"][0]["failure"]
    stage, snapshot = snapshots[2]
    assert stage == 2
    again = restored(quick, snapshot)
    assert timeless(again.record) == timeless(finished.record)
    assert again.files == finished.files


@pytest.mark.long
def test_a_sweep_resumes_from_a_failure_that_the_host_had_not_read(quick, monkeypatch):
    """Step 1 fails, and the snapshot is taken before step 2, after which the host reads of the failure."""
    losses = Inverter.losses

    def diverges(self, lanes, *part):
        spoilt = torch.tensor([math.nan if (x.tokens, x.step) == (1, 1) else 1.0 for x in lanes])
        return losses(self, lanes, *part) * spoilt

    monkeypatch.setattr(Inverter, "losses", diverges)
    quick = quick.model_copy(update={"max_tokens": 1})
    unsaved_sweep, (finished, snapshots) = Sweep(quick), uninterrupted(Sweep(quick))
    for k in (0, 1):
        unsaved_sweep.admit(item(k))
    unsaved = run(unsaved_sweep)["image-0"]
    assert "loss of step 1" in finished.record["sweep"][0]["failure"]
    saved, tensors = unpack(snapshots[2][1])
    assert (saved.step, len(saved.losses), saved.loss_scale, saved.skipped_steps) == (1, 1, 0.5, 1)
    assert tensors["optimiser step"] == 1
    for other in (unsaved, restored(quick, snapshots[2][1])):
        assert timeless(other.record) == timeless(finished.record)
        assert other.files == finished.files
        assert other.counters == finished.counters


@pytest.mark.long
def test_early_stopping_is_at_the_same_step_with_and_without_snapshots(quick, monkeypatch):
    """A snapshot makes the host read the last step's loss; the step to stop at must not depend on that."""
    monkeypatch.setattr("originality.inversion.lane.settled", lambda losses, *_: len(losses) == 4)
    early = {"steps": 9, "cycle": 2, "stop": "settled"}
    quick = quick.model_copy(update={"max_tokens": 1, "inversion": quick.inversion.model_copy(update=early)})
    looked, snapshots = uninterrupted(unsaved_sweep := Sweep(quick))
    (attempt,) = looked.record["sweep"]
    assert attempt["inversion_steps"] == 5
    for k in (0, 1):
        unsaved_sweep.admit(item(k))
    for other in (
        run(unsaved_sweep)["image-0"],
        *(restored(quick, snapshot) for _, snapshot in snapshots[3:6]),
    ):
        assert timeless(other.record) == timeless(looked.record)
        assert other.files == looked.files


def test_seconds_are_carried_over(quick, course):
    _, snapshots = course
    saved, _ = unpack(snapshots[8][1])
    assert saved.seconds > 0
    again = restored(quick, snapshots[8][1])
    assert again.record["sweep"][0]["seconds"] == saved.attempts[0].seconds
    assert again.record["sweep"][1]["seconds"] > saved.seconds


@pytest.fixture(scope="module")
def empty(quick):
    """A sweep without images."""
    return Sweep(quick)


def refused(empty, snapshot, why="the snapshot ", known=0):
    with pytest.raises(ValueError, match=why) as caught:
        empty.restore(item(known), snapshot)
    assert "\n" not in str(caught.value)
    assert not empty.images


@given(data=st.data())
def test_a_damaged_snapshot_is_refused(empty, course, data):
    whole = course[1][data.draw(st.sampled_from((0, 8)))][1]
    at = data.draw(st.one_of(st.integers(0, 300), st.integers(0, len(whole) - 1)))
    noise = data.draw(st.binary(max_size=40))
    damaged = data.draw(
        st.sampled_from(
            (
                whole[:at],
                whole[at + 1 :],
                whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :],
                whole[:at] + b"\0" + noise + whole[at:],
                whole + b"\0" + noise,
                FORMAT + noise,
                noise,
            )
        )
    )
    refused(empty, damaged)


def test_a_snapshot_of_different_settings_model_or_image_is_refused(quick, empty, course):
    snapshot = course[1][8][1]
    refused(Sweep(quick.model_copy(update={"seed": 9})), snapshot, "different settings")
    refused(empty, snapshot, "different image", known=1)
    saved, tensors = unpack(snapshot)
    other = encode({**saved.model_dump(mode="json"), "model": "0" * 16}, tensors)
    refused(empty, other, "different settings")
    version = FORMAT.replace(b"3", b"2")
    refused(empty, version + snapshot[len(version) :], "version")


def test_an_intact_snapshot_with_unexpected_content_is_refused(empty, course):
    """With a valid checksum, but with parts missing, or of a different shape or type."""
    saved, tensors = unpack(course[1][8][1])
    output = saved.model_dump(mode="json")
    assert encode(output, tensors) == course[1][8][1]
    assert len(tensors) == 1 + 3 + 2  # vectors, optimiser, word and redraws of m = 1
    for name, value in tensors.items():
        refused(empty, encode(output, {k: v for k, v in tensors.items() if k != name}), "does not hold")
        refused(empty, encode(output, {**tensors, name: value[None]}), "does not hold")
        refused(empty, encode(output, {**tensors, name: value.double()}), "does not hold")
    refused(empty, encode(output, {**tensors, "more": torch.zeros(1)}), "does not hold")
    for name in output:
        refused(empty, encode({k: v for k, v in output.items() if k != name}, tensors), "cannot be read")
        refused(empty, encode({**output, name: {}}, tensors), "cannot be read")
    (first,) = output["attempts"]
    for wrong in (
        {"step": 9, "losses": [0.0] * 9},
        {"step": 0},
        {"losses": []},
        {"attempts": []},
        {"attempts": [{**first, "tokens": 2}]},
        {"attempts": [{**first, "passed": True}]},
        {"attempts": [first, {**first, "tokens": 2}]},
        {"attempts": [{**first, "redraws": 2}]},
    ):
        refused(empty, encode({**output, **wrong}, tensors), "does not hold")
    for nothing in (None, [], {}, "said"):
        refused(empty, encode(nothing, tensors), "cannot be read")


@pytest.mark.long
def test_a_snapshot_written_by_an_older_version_is_restored(quick, empty):
    """Committed as it was written after three steps. Digests of settings and model may have changed since."""
    older = (Path(__file__).parent / "older.snapshot").read_bytes()
    saved, tensors = unpack(older)
    assert encode(saved.model_dump(mode="json"), tensors) == older
    today = {"settings": quick.digest(), "model": empty.model.digest}
    snapshot = encode({**saved.model_dump(mode="json"), **today}, tensors)
    sweep = Sweep(quick)
    sweep.restore(item(0), snapshot)
    assert sweep.snapshot("image-0") == snapshot
    assert run(sweep)["image-0"].record["sweep"][0]["inversion_steps"] == 4


def test_attempts_of_an_older_version_have_no_distances(quick, course):
    saved, tensors = unpack(course[1][8][1])
    fields = saved.model_dump(mode="json")
    (first,) = fields["attempts"]
    assert len(first["distances"]) == first["redraws"]
    later = ("distances", "edit_hits", "pass_probability")
    fields["attempts"] = [{k: v for k, v in first.items() if k not in later}]
    sweep = Sweep(quick)
    sweep.restore(item(0), encode(fields, tensors))
    record = run(sweep)["image-0"].record
    assert record["sweep"][0]["distances"] is None and record["sweep"][1]["distances"]
    assert record["sweep"][0]["pass_probability"] is not None  # of their mean and its standard error
    assert record["confidence"] is not None


def test_the_names_of_tensors_in_a_snapshot_have_not_changed(course):
    _, tensors = unpack(course[1][8][1])
    adamw = {"optimiser exp_avg", "optimiser exp_avg_sq", "optimiser step"}
    assert set(tensors) == {"vectors", "word <s1>", "redraws 0", *adamw}


def test_a_snapshot_holds_no_more_than_it_needs(quick, course):
    """The redraws of m = 1, of 3 x 64 x 64 pixels, are most of it."""
    assert len(course[1][3][1]) < 4_000
    assert len(course[1][8][1]) < 4_000 + 3 * 64 * 64 * 3 + 4 * 128 * 4
