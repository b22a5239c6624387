"""Hidden and skipped files of a collection, and how they are reported."""

from __future__ import annotations

import json
import uuid
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cluster.inputs.listing import scan
from cluster.inputs.manifest import InputError, Manifest
from cluster.storage.store import open_store
from tests.support.listed_paths import paths
from tests.support.mean_colour import paint

HIDDEN = [
    ".git/x.png",
    ".thumbnails/large/x.png",
    "__MACOSX/deep/._x.png",
    "@eaDir/x.jpg/SYNOPHOTO_THUMB_M.jpg",
    "deep/@eaDir/x.png",
    "$RECYCLE.BIN/S-1-5/x.png",
    "$Recycle.Bin/x.png",
    "System Volume Information/x.png",
    "#recycle/x.png",
    ".Trashes/501/x.png",
    ".Trash-1000/files/x.png",
    "lost+found/x.png",
    ".x.png",
    "deep/._x.png",
    "Thumbs.db",
    "deep/.DS_Store",
]
SHOWN = ["a.png", "deep/lost and found/c.png", "git/d.png", "eaDir/e.JFIF", "x.git/f.jpe", "g..png"]
OTHERS = ["a.txt", "b.TXT", "deep/c.txt", "d.json", "e.mov", "Makefile"]


def fill(folder: Path) -> None:
    for name in (*HIDDEN, *SHOWN, *OTHERS):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"some bytes")


def test_hidden_folders_are_excluded_and_skipped_files_counted(tmp_path: Path, s3: str) -> None:
    folder = tmp_path / ".config" / "@eaDir"  # where the collection lies does not matter
    fill(folder)
    prefix = f"{s3}/{uuid.uuid4().hex}/.config"
    for name in (*HIDDEN, *SHOWN, *OTHERS):
        open_store(prefix).write(name, b"some bytes")
    for place in (str(folder), prefix, f"{folder}/**", f"{prefix}/**/*"):
        manifest = scan(place)
        assert paths(manifest) == sorted(SHOWN), place
        assert manifest.skipped == len(HIDDEN) + len(OTHERS)
        assert manifest.skipped_text == ("skipped 22 files: 16 hidden, 3 .txt, 1 .json, 1 .mov, 1 other")


def test_a_pattern_may_name_hidden_files(tmp_path: Path) -> None:
    fill(tmp_path)
    assert paths(scan(f"{tmp_path}/.git")) == ["x.png"]
    assert paths(scan(f"{tmp_path}/.git/*")) == ["x.png"]
    assert paths(scan(f"{tmp_path}/**/@eaDir/*.png")) == ["deep/@eaDir/x.png"]
    assert paths(scan(f"{tmp_path}/**/.thumbnails/**/*.png")) == [".thumbnails/large/x.png"]
    assert paths(scan(f"{tmp_path}/.[tT]*/**")) == [
        ".Trash-1000/files/x.png",
        ".Trashes/501/x.png",
        ".thumbnails/large/x.png",
    ]
    assert paths(scan(f"{tmp_path}/.x.png")) == [".x.png"]


def test_an_unreadable_folder_is_an_error_unless_it_is_hidden(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Root can read everything, so a name that fails the listing stands in for missing permissions."""
    paint(tmp_path, "a.png", (1, 2, 3))
    from cluster.inputs.sources import walk
    from cluster.storage.store import StoreError

    def scandir(path: str) -> object:
        if str(path).endswith(("lost+found", "private")):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    import os

    real = os.scandir
    monkeypatch.setattr(os, "scandir", scandir)
    (tmp_path / "lost+found").mkdir()
    assert [Path(uri).name for uri, _ in walk(str(tmp_path))] == ["a.png"]
    (tmp_path / "private").mkdir()
    with pytest.raises(StoreError, match="private: Permission denied; make it readable"):
        list(walk(str(tmp_path)))


def test_skipped_files_are_recorded_and_earlier_manifests_open(tmp_path: Path) -> None:
    fill(tmp_path)
    data = scan(str(tmp_path)).to_parquet()
    assert Manifest.from_parquet(data).skipped_kinds[".txt"] == 3
    table = pq.read_table(pa.BufferReader(data))
    old = table.replace_schema_metadata({"source": "x", "skipped": "12"})
    sink = pa.BufferOutputStream()
    pq.write_table(old, sink)
    manifest = Manifest.from_parquet(sink.getvalue().to_pybytes())
    assert manifest.skipped_text == "skipped 12 files"


def test_many_kinds_and_hostile_ones(tmp_path: Path) -> None:
    paint(tmp_path, "a.png", (1, 2, 3))
    for number in range(12):
        (tmp_path / f"x.k{number}").touch()
    (tmp_path / "evil.\x1b[31mred").touch()
    text = scan(str(tmp_path)).skipped_text
    assert text.startswith("skipped 13 files: 1 .k") and text.endswith("5 of 5 other kinds")
    assert json.dumps(text).isascii() and "\x1b" not in text


def test_a_folder_without_images_names_its_contents(tmp_path: Path) -> None:
    for name in ("a.psd", "b.psd", "c.mov"):
        (tmp_path / name).touch()
    with pytest.raises(InputError, match=r"2 \.psd, 1 \.mov"):
        scan(str(tmp_path))
