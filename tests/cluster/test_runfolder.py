from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from mean_colour import paint

from cluster.manifest import InputError, Manifest, scan
from cluster.runfolder import RunMismatch, open_run, plan
from cluster.store import NotFound, open_store

IDENTITY = {"settings": {"seed": 0, "inversion": {"steps": 250}}, "model_digest": "abc"}


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    paint(folder, "b.png", (1, 1, 1))
    paint(folder, "a.PNG", (1, 1, 1))
    paint(folder / "deep", "c.jpg", (3, 3, 3))
    (folder / "notes.txt").write_text("no image")
    (folder / "._b.png").write_bytes(b"a Mac's")
    return folder


def test_scan_lists_sorted_and_hashed(pictures: Path) -> None:
    manifest = scan(f"{pictures}/")
    assert [manifest.path(e) for e in manifest.entries] == ["a.PNG", "b.png", "deep/c.jpg"]
    assert manifest.entries[0].uri == f"{pictures}/a.PNG"
    data = (pictures / "b.png").read_bytes()
    assert manifest.entries[1].image_id == hashlib.sha256(data).hexdigest()
    assert manifest.entries[1].bytes == len(data)
    assert manifest.skipped == 2
    assert [manifest.path(e) for e in manifest.images()] == ["a.PNG", "deep/c.jpg"]
    assert Manifest.from_parquet(manifest.to_parquet()) == manifest


def test_scan_of_one_file(pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(pictures)
    for uri in (str(pictures / "b.png"), "b.png"):
        (entry,) = scan(uri).entries
        assert entry.uri == str(pictures / "b.png")


def test_a_folder_may_be_named_like_an_image(tmp_path: Path) -> None:
    paint(tmp_path / "odd.png", "x.png", (1, 2, 3))
    assert len(scan(str(tmp_path / "odd.png")).entries) == 1


def test_nothing_to_judge(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none does not exist; give a folder"):
        scan(str(tmp_path / "none"))
    with pytest.raises(InputError, match=r"none\.png does not exist; give an image"):
        scan(str(tmp_path / "none.png"))
    with pytest.raises(InputError, match="no files in"):
        scan(str(tmp_path))
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(InputError, match=r"holds 1 file but no image; accepted are \.jpg"):
        scan(str(tmp_path))


def test_plan_freezes_and_resumes(pictures: Path, tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "run"))
    first = plan(str(pictures), store, IDENTITY)
    paint(pictures, "later.png", (9, 9, 9))
    again = plan(str(pictures), store, IDENTITY)
    assert again.manifest == first.manifest and again.description == first.description
    assert open_run(str(tmp_path / "run")).manifest == first.manifest


def test_a_plan_that_died_between_its_two_objects_is_completed(pictures: Path, tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "run"))
    plan(str(pictures), store, IDENTITY)
    store.delete("manifest.parquet")
    assert len(plan(str(pictures), store, IDENTITY).manifest.entries) == 3


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
    shared = run.manifest.entries[0].image_id
    run.ledger.commit(shared, {"status": "judged"}, {})
    rows = {row["path"]: row["status"] for row in run.inputs()}
    assert rows == {"a.PNG": "judged", "b.png": "judged", "deep/c.jpg": "pending"}


def test_no_run_there(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "none"):
        with pytest.raises(NotFound):
            open_run(str(folder))
