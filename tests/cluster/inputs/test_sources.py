"""Folders that are removed or renamed while a collection is listed, or that do not answer."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import pytest

from cluster.inputs import local_files
from cluster.inputs.listing import scan
from cluster.inputs.manifest import Manifest
from cluster.inputs.sources import walk
from cluster.storage.store import Outage, StoreError
from tests.support.held_clock import Clock
from tests.support.waiting import PATIENCE


@pytest.fixture(autouse=True)
def _one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """List single files, so that what is removed after one file was yielded is not listed yet."""
    monkeypatch.setattr(local_files, "LISTED_AT_ONCE", 1)


def test_a_folder_that_vanishes_while_it_is_listed_is_noted(pictures: Path) -> None:
    for at in range(4):
        for number in range(20):
            (pictures / f"more-{number:02}").mkdir(exist_ok=True)
            (pictures / f"more-{number:02}" / "x.png").write_bytes(b"x")
        vanished: list[str] = []
        found = set()
        for place, (uri, _) in enumerate(walk(str(pictures), vanished.append)):
            found.add(Path(uri))
            if place == at:
                victims = [f for f in sorted(pictures.glob("more-*")) if f / "x.png" not in found]
                for folder in victims[:9]:
                    (folder / "x.png").unlink()
                    folder.rmdir()
        assert sorted(map(Path, vanished)) == victims[:9]
        assert pictures / "b.png" in found


def test_a_root_that_vanishes_while_it_is_listed_is_a_one_line_error(pictures: Path, tmp_path: Path) -> None:
    listing = walk(str(pictures))
    next(listing)
    pictures.rename(tmp_path / "away")
    with pytest.raises(StoreError, match="vanished"):
        list(listing)
    (tmp_path / "away").rename(pictures)
    listing = walk(str(pictures))
    next(listing)
    pictures.rename(tmp_path / "away")
    pictures.mkdir()  # as the empty folder does on which a share was mounted
    with pytest.raises(StoreError, match="vanished"):
        list(listing)


def test_vanished_folders_are_reported_with_the_skipped_files(
    pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = os.stat

    def stat(path: Any, *args: Any, **more: Any) -> os.stat_result:
        if path == f"{pictures}/deep":
            raise FileNotFoundError(2, "No such file or directory", path)
        return whole(path, *args, **more)

    monkeypatch.setattr(os, "stat", stat)
    manifest = scan(str(pictures))
    assert [manifest.path(number) for number in range(len(manifest))] == ["a.PNG", "b.png"]
    assert manifest.skipped_text == "skipped 3 files: 1 .txt, 1 hidden, 1 vanished"
    assert Manifest.from_parquet(manifest.to_parquet()).skipped_kinds["vanished"] == 1


@pytest.mark.parametrize("call", ["stat", "scandir"])
def test_a_mount_that_hangs_while_it_is_listed_is_a_one_line_error(
    pictures: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """Whether its type is requested, or its contents."""
    goes_on = threading.Event()
    requested = getattr(os, call)

    def hangs(path: Any = ".", *args: Any, **given: Any) -> Any:
        if str(path) == str(pictures):
            clock.hangs.set()
            goes_on.wait(PATIENCE)
        return requested(path, *args, **given)

    monkeypatch.setattr(os, call, hangs)
    try:
        with pytest.raises(Outage, match=r"no answer in \d+ s on .*does its mount hang\?$"):
            scan(str(pictures))
    finally:
        goes_on.set()
