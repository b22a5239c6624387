from __future__ import annotations

from datetime import datetime, tzinfo
from pathlib import Path

import numpy as np
import pytest

from cluster.inputs.identities import image_id_of, unread_id
from cluster.inputs.manifest import InputError, Manifest
from cluster.run.folder import RunFolder, RunMismatch, open_run, plan
from cluster.run.layout import snapshot_path
from cluster.storage.store import NotFound, StoreError, open_store
from tests.support.joined_inputs import inputs
from tests.support.mean_colour import paint

IDENTITY = {"settings": {"seed": 0, "inversion": {"steps": 250}}, "model_digest": "abc"}


def test_plan_freezes_and_resumes(pictures: Path, tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "run"))
    first = plan(str(pictures), store, IDENTITY)
    paint(pictures, "later.png", (9, 9, 9))
    again = plan(str(pictures), store, IDENTITY)
    assert again.manifest.table == first.manifest.table and again.description == first.description
    assert open_run(str(tmp_path / "run")).manifest.table == first.manifest.table


def test_a_plan_that_died_between_its_two_objects_is_completed(pictures: Path, tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "run"))
    plan(str(pictures), store, IDENTITY)
    store.delete("manifest.parquet")
    assert len(plan(str(pictures), store, IDENTITY).manifest) == 3


def test_bad_input_leaves_no_run(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "run"))
    with pytest.raises(InputError):
        plan(str(tmp_path / "none"), store, IDENTITY)
    assert list(store.list()) == []


def test_other_settings_are_refused_by_name(pictures: Path, tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "run"))
    plan(str(pictures), store, IDENTITY)
    other = {"settings": {"seed": 1, "inversion": {"steps": 9}}, "model_digest": "abc", "new": "x"}
    with pytest.raises(RunMismatch) as caught:
        plan(str(pictures), store, other)
    message = str(caught.value)
    assert "settings.inversion.steps: 250 -> 9; settings.seed: 0 -> 1)" in message
    assert "new: None -> 'x'" in message
    assert "model_digest" not in message and "\n" not in message


def test_inputs_join_rows(pictures: Path, tmp_path: Path) -> None:
    run = plan(str(pictures), open_store(str(tmp_path / "run")), IDENTITY)
    shared = image_id_of((pictures / "a.PNG").read_bytes())
    run.identities.learn(0, shared)
    run.identities.learn(1, shared)
    run.identities.save()
    run.ledger.commit(shared, {"status": "judged"}, {})
    rows = {row["path"]: row["status"] for row in inputs(open_run(run.store.url))}
    assert rows == {"a.PNG": "judged", "b.png": "judged", "deep/c.jpg": "pending"}


def test_only_inputs_without_a_record_are_leased(pictures: Path, tmp_path: Path) -> None:
    run = plan(str(pictures), open_store(str(tmp_path / "run")), IDENTITY)
    shared = image_id_of((pictures / "a.PNG").read_bytes())
    run.identities.learn(0, shared)
    run.identities.learn(2, unread_id(run.manifest.uri(2)))
    every = np.arange(3)
    assert [lease.image_id for lease in run.leases(every).grant("w", 9)] == [shared, None, None]
    run.ledger.commit(shared, {"status": "judged"}, {})
    assert [lease.number for lease in run.leases(every).grant("w", 9)] == [1, 2]
    run.ledger.commit(unread_id(run.manifest.uri(2)), {"status": "failed"}, {})
    assert [lease.number for lease in run.leases(every).grant("w", 9)] == [1]
    assert run.leases(np.array([0, 2])).open == 0


def test_records_without_a_plan_are_not_planned_over(pictures: Path, tmp_path: Path) -> None:
    run = plan(str(pictures), open_store(str(tmp_path / "run")), IDENTITY)
    run.ledger.commit("ab", {"status": "judged"}, {})
    run.store.delete("run.json")
    with pytest.raises(StoreError, match=r"holds records but no run\.json"):
        plan(str(pictures), run.store, IDENTITY)


def test_snapshots_of_finished_images_are_cleared(pictures: Path, tmp_path: Path) -> None:
    run = plan(str(pictures), open_store(str(tmp_path / "run")), IDENTITY)
    run.ledger.commit("ab", {"status": "judged"}, {})
    for image_id in ("ab", "cd"):
        run.store.write(snapshot_path(image_id), b"x")
    run.clear_snapshots()
    assert [f.path for f in run.store.list("progress")] == [snapshot_path("cd")]


def test_no_run_there(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "none"):
        with pytest.raises(NotFound):
            open_run(str(folder))


def test_an_input_is_leased_with_its_word(tmp_path: Path, pictures: Path) -> None:
    (pictures / "list.csv").write_text("uri,word\na.PNG,dog\nb.png,\n")
    run = plan(str(pictures / "list.csv"), open_store(str(tmp_path / "run")), IDENTITY)
    leases = RunFolder(run.store).leases(np.arange(2)).grant("w", 2)
    assert [(lease.number, lease.columns) for lease in leases] == [(0, {"word": "dog"}), (1, {})]


def test_a_refused_collection_writes_nothing(tmp_path: Path, pictures: Path) -> None:
    def refuse(manifest: Manifest) -> None:
        raise InputError(f"{len(manifest)} are too many")

    store = open_store(str(tmp_path / "run"))
    with pytest.raises(InputError, match="3 are too many"):
        plan(str(pictures), store, IDENTITY, refuse)
    assert list(store.list("")) == []
    assert len(plan(str(pictures), store, IDENTITY).manifest) == 3
    assert len(plan(str(pictures), store, IDENTITY, refuse).manifest) == 3  # accepted when it began


class HourAhead(datetime):
    @classmethod
    def now(cls, tz: tzinfo | None = None) -> HourAhead:
        return cls.fromtimestamp(datetime.now(tz).timestamp() + 3600, tz)


def test_an_input_that_a_fast_clock_could_not_read_is_settled_by_the_next_start(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its image_id is that of its uri until the bytes are read, and a retry takes that row back."""
    run = plan(str(pictures), open_store(str(tmp_path / "out")), IDENTITY)
    with monkeypatch.context() as patch:
        patch.setattr("cluster.run.folder.datetime", HourAhead)
        run.identities.learn(0, unread_id(run.manifest.uri(0)))
        run.identities.save()
    again = RunFolder(run.store)
    image_id = image_id_of(b"now it is there")
    again.identities.learn(0, image_id)
    again.identities.save()
    again.ledger.commit(image_id, {"status": "judged"}, {})
    later = RunFolder(run.store)
    assert later.identities[0] == image_id
    assert later.leases(np.arange(1)).open == 0
