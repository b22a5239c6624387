"""The listing of one shard: its images, what stands beside them, and what is wrong with it."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from cluster.inputs import shards
from cluster.inputs.container_listings import ContainerListing
from cluster.inputs.locations import Member
from cluster.inputs.shards import list_shard
from cluster.inputs.sources import describe, read_member
from tests.support.tars import END, header, padded, shard


def listing(folder: Path, data: bytes) -> ContainerListing:
    (folder / "s.tar").write_bytes(data)
    return list_shard(describe(str(folder / "s.tar")))


def names(found: ContainerListing) -> list[str]:
    """The uris behind the "#", of those that have one."""
    return [uri.partition("s.tar#")[2] for uri in found.table["uri"].to_pylist()]


def test_images_and_what_stands_beside_them(tmp_path: Path) -> None:
    members = {
        "a/1.cls": b"3",
        "a/1.jpg": b"one",
        "a/1.json": b'{"artist": "x", "year": 1900}',
        "a/1.txt": b"a dog",
        "a/2.jpg": b"two!",
        "a/2.txt": b"a cat",
        "a/2.npy": b"123",
        "b/2.PNG": b"three",
        "b/3.txt": b"of no image",
    }
    found = listing(tmp_path, shard(members))
    table = found.table.drop_columns(["uri", "offset", "problem"]).to_pylist()
    assert names(found) == ["a/1.jpg", "a/2.jpg", "b/2.PNG"]
    assert table == [
        {"bytes": 3, "cls": 3, "artist": "x", "year": 1900, "txt": "a dog"},
        {"bytes": 4, "cls": None, "artist": None, "year": None, "txt": "a cat"},
        {"bytes": 5, "cls": None, "artist": None, "year": None, "txt": None},
    ]
    assert found.skipped == {".npy": 1, ".txt": 1}
    container = describe(str(tmp_path / "s.tar"))
    data = [read_member(Member(container, row["offset"], row["bytes"])) for row in found.table.to_pylist()]
    assert data == [b"one", b"two!", b"three"]
    assert ContainerListing.from_table(found.to_table()) == found


def test_several_images_of_one_key_share_their_columns(tmp_path: Path) -> None:
    members = {"1.left.jpg": b"l", "1.right.jpg": b"r", "1.txt": b"both", "1.seg.txt": b"no column"}
    found = listing(tmp_path, shard(members))
    assert names(found) == ["1.left.jpg", "1.right.jpg"]
    assert found.table["txt"].to_pylist() == ["both", "both"] and found.skipped == {".txt": 1}


def test_a_key_of_very_many_images_is_not_held_in_memory(tmp_path: Path) -> None:
    members = [("1.txt", b"all"), *((f"1.{n}.jpg", b"x") for n in range(2500))]
    found = listing(tmp_path, shard(members))
    assert found.table["txt"].to_pylist() == ["all"] * 2500


def test_files_that_are_no_images_are_counted_by_kind(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, kind in {
            "d": tarfile.DIRTYPE,
            "l.png": tarfile.SYMTYPE,
            "h.png": tarfile.LNKTYPE,
            "c.png": tarfile.CHRTYPE,
            "f.png": tarfile.FIFOTYPE,
        }.items():
            about = tarfile.TarInfo(name)
            about.type, about.linkname = kind, "/etc/passwd"
            tar.addfile(about)
    extra = shard({"._1.jpg": b"a Mac's", "__MACOSX/1.jpg": b"", "README": b"", "x.png": b"x"})
    found = listing(tmp_path, buffer.getvalue()[: 5 * 512] + extra)
    assert names(found) == ["x.png"]
    assert found.skipped == {"folders": 1, "links": 2, "devices": 1, "pipes": 1, "hidden": 2, "other": 1}


def test_names_are_only_names(tmp_path: Path) -> None:
    odd = ["/etc/x.png", "../../x.png", "./1.png", "a\nb.png", "\x1b[2J.png", "a#b.png", "~2.png", "é/ü.png"]
    found = listing(tmp_path, shard([(name, b"x") for name in odd]))
    assert names(found) == odd and not found.skipped
    bad = header(b"\xff\xfe.png", 1) + padded(b"x") + END
    assert names(listing(tmp_path, bad)) == ["%FF%FE.png"]


def test_members_with_equal_names_are_separate_inputs(tmp_path: Path) -> None:
    members = [("a.png", b"1"), ("b.png", b"2"), ("a.png", b"33"), ("a.png", b"4"), ("b.png", b"5")]
    found = listing(tmp_path, shard(members))
    assert names(found) == ["a.png", "b.png", "a.png~2", "a.png~3", "b.png~2"]
    assert found.table["bytes"].to_pylist() == [1, 1, 2, 1, 1]


@pytest.mark.parametrize(
    ("rest", "named"),
    [
        (b"", ""),  # cut between two members
        (header(b"2.png", 10 * 2**30) + b"x" * 512, "2.png"),
        (header(b"2.txt", 10 * 2**30) + b"x" * 512, ""),
        (header(b"2.png", 5)[:100], ""),
        (b"x" * 512 + END, ""),
        (header(b"2.png", 5, checksum=b"000000\0 ") + padded(b"12345") + END, ""),
    ],
)
def test_a_damaged_shard_is_a_row_behind_those_that_were_found(
    tmp_path: Path, rest: bytes, named: str
) -> None:
    found = listing(tmp_path, header(b"1.png", 3) + padded(b"abc") + rest)
    first, last = found.table.to_pylist()
    assert (first["uri"], first["problem"]) == (f"{tmp_path}/s.tar#1.png", None)
    assert last["uri"] == f"{tmp_path}/s.tar" + (f"#{named}" if named else "")
    assert last["problem"].startswith(last["uri"]) and (last["offset"], last["bytes"]) == (None, None)


def test_a_shard_that_changes_while_it_is_listed_is_damaged(tmp_path: Path) -> None:
    (tmp_path / "s.tar").write_bytes(shard({"1.png": b"x"}))
    container = describe(str(tmp_path / "s.tar"))
    (tmp_path / "s.tar").write_bytes(shard({f"{n}.png": b"x" * 600 for n in range(9)}))
    (row,) = list_shard(container).table.to_pylist()
    assert "has changed since" in row["problem"]


def test_requests_are_few(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At most one an image, and far fewer if images are small."""

    def requests(size: int, count: int) -> int:
        made: list[int] = []
        monkeypatch.setattr(shards, "read_member", lambda member: made.append(1) or read_member(member))
        members = []
        for n in range(count):
            members += [(f"{n:05}.jpg", b"x" * size), (f"{n:05}.json", b'{"a": 1}'), (f"{n:05}.txt", b"text")]
        found = listing(tmp_path, shard(members))
        assert found.table.num_rows == count == len(found.table["txt"].drop_null())
        return len(made)

    assert requests(2_000, 2_000) <= 20
    assert requests(300_000, 40) <= 41
