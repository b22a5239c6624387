from __future__ import annotations

import threading
from pathlib import Path

import pytest

from cluster.inputs import source_check
from cluster.inputs.source_check import SourceCheck, SourceGone, folder_of
from cluster.storage.store import Refused, open_store
from originality.contract.faults import MachineFault
from tests.support.mean_colour import paint
from tests.support.waiting import PATIENCE


def test_a_missing_or_empty_folder_rejects_no_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source_check, "REST_SECONDS", 0.0)
    folder = tmp_path / "in"
    check = SourceCheck(str(folder))
    path = paint(folder, "a.png", (1, 1, 1))
    check.check()
    path.unlink()
    with pytest.raises(SourceGone, match="in is empty on "):
        check.check()
    folder.rmdir()
    with pytest.raises(SourceGone, match="in does not exist on "):
        check.check()
    (tmp_path / "in").write_text("a file")
    with pytest.raises(SourceGone):
        check.check()
    SourceCheck("").check()  # of a list, whose images lie anywhere


def test_an_images_folder_exists_if_it_contains_anything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source_check, "REST_SECONDS", 0.0)
    check, image = SourceCheck(""), str(tmp_path / "in" / "a.png")
    assert not check.has_folder_of(image)
    (tmp_path / "in").mkdir()
    assert not check.has_folder_of(image)
    assert SourceCheck(str(tmp_path / "in"), one_input=True).has_folder_of(image)
    paint(tmp_path / "in", "b.png", (1, 1, 1))
    assert check.has_folder_of(image) and check.has_folder_of((tmp_path / "in" / "a.png").as_uri())
    assert [folder_of(uri) for uri in ("/a.png", "a.png", "s3://b/a.png")] == ["/", ".", "s3://b"]


def test_a_mount_that_hangs_is_a_machine_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It blocks no other thread: no folder is listed under a lock."""
    answers = threading.Event()
    monkeypatch.setattr(source_check, "LOOK_SECONDS", 0.0)
    monkeypatch.setattr(source_check, "look_into", lambda folder: str(answers.wait(PATIENCE)))
    check = SourceCheck(str(tmp_path))
    try:
        with pytest.raises(MachineFault, match=r"no answer in .*does its mount hang") as raised:
            check.check()
        assert not isinstance(raised.value, SourceGone)
        with pytest.raises(MachineFault, match="does its mount hang"):
            check.has_folder_of(str(tmp_path / "in" / "a.png"))
    finally:
        answers.set()


def test_a_source_that_was_found_is_not_listed_for_each_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[str] = []
    monkeypatch.setattr(source_check, "why_gone", lambda source: looks.append(source) or "")
    check = SourceCheck(str(tmp_path))
    for _ in range(100):
        check.check()
    assert 1 <= len(looks) < 100


def test_a_missing_prefix_or_bucket(s3: str) -> None:
    open_store(f"{s3}/source-check").write("a.png", b"x")
    SourceCheck(f"{s3}/source-check").check()
    with pytest.raises(SourceGone, match="source-check-moved is empty on "):
        SourceCheck(f"{s3}/source-check-moved").check()
    assert SourceCheck("").has_folder_of(f"{s3}/source-check/b.png")
    assert not SourceCheck("").has_folder_of(f"{s3}/source-check-moved/b.png")
    with pytest.raises((Refused, SourceGone)):
        SourceCheck("s3://originality-no-such-bucket/in").check()
