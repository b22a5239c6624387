"""Listing Arrow files and streams: each image is a range of the file; what is damaged or hostile."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.inputs.arrow_files import arrow_schema, list_arrow
from cluster.inputs.container_listings import ContainerListing
from cluster.inputs.locations import Member
from cluster.inputs.sources import Unreadable, describe, read_member
from cluster.inputs.table_options import ImageTable
from cluster.inputs.table_rows import LEFT_OUT
from tests.support.image_tables import arrow, hugging_face

IMAGE = ImageTable("image")


def listing(folder: Path, data: bytes, how: ImageTable = IMAGE) -> ContainerListing:
    (folder / "a.arrow").write_bytes(data)
    return list_arrow(describe(f"{folder}/a.arrow"), how, read_member)


def images_of(data: bytes, found: ContainerListing) -> list[bytes | None]:
    rows = found.table.to_pylist()
    return [None if r["offset"] is None else data[r["offset"] : r["offset"] + r["bytes"]] for r in rows]


@pytest.mark.parametrize("is_file", [False, True])
@pytest.mark.parametrize("kind", ["struct", "binary", "large_binary"])
def test_each_image_is_a_range(tmp_path: Path, kind: str, is_file: bool) -> None:
    images = [None if n == 5 else os.urandom(n * 7) for n in range(25)]
    table = hugging_face(images, n=list(range(25)), text=["x" * n for n in range(25)])
    if kind != "struct":
        types = {"binary": pa.binary(), "large_binary": pa.large_binary()}
        table = table.set_column(0, "image", pa.array(images, types[kind]))
    data = arrow(table, 10, is_file)
    found = listing(tmp_path, data)
    assert images_of(data, found) == images
    assert found.table["n"].to_pylist() == found.table["container_row"].to_pylist() == list(range(25))
    assert found.table["text"].to_pylist() == ["x" * n for n in range(25)]
    problems = found.table["problem"].to_pylist()
    assert problems[5] == "this row holds no image" and found.table["problem"].null_count == 24
    if kind == "struct":
        assert found.table["image_path"].to_pylist()[:2] == ["0.png", "1.png"]


def test_images_are_not_read(tmp_path: Path) -> None:
    data = arrow(hugging_face([os.urandom(100_000) for _ in range(100)], n=list(range(100))), 20)
    (tmp_path / "a.arrow").write_bytes(data)
    read: list[int] = []

    def fetch(member: Member) -> bytes:
        read.append(member.size)
        return read_member(member)

    assert list_arrow(describe(f"{tmp_path}/a.arrow"), IMAGE, fetch).table.num_rows == 100
    assert sum(read) < 0.1 * len(data) and len(read) < 30


def test_wide_columns_are_left_out(tmp_path: Path) -> None:
    found = listing(tmp_path, arrow(hugging_face([b"x"] * 3, text=["y" * 2**20] * 3, n=[1, 2, 3])))
    assert found.table["text"].null_count == 3 and found.table["n"].to_pylist() == [1, 2, 3]
    assert found.skipped == {LEFT_OUT: 3}


def test_nested_columns_are_json(tmp_path: Path) -> None:
    table = hugging_face([b"x"], tags=[["a", "b"]], about=[{"n": [1]}], key=[b"bytes"])
    row = listing(tmp_path, arrow(table)).table.to_pylist()[0]
    assert (row["tags"], row["about"]) == ('["a", "b"]', '{"n": [1]}') and "key" not in row


GOOD = arrow(hugging_face([b"1", b"22", b"333"], n=[1, 2, 3]), 2)


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "is empty"),
        (b"no Arrow at all", "is not an Arrow file"),
        (GOOD[16:], "is not an Arrow file"),
        (b"\xff\xff\xff\xff" + struct.pack("<i", 2**30), "cut off at byte 0"),
        (b"\xff\xff\xff\xff" + struct.pack("<i", -5) + bytes(100), "at byte 0"),
        (b"\xff\xff\xff\xff" + struct.pack("<i", 64) + b"\xff" * 64, "damaged at byte 0"),
        (b"\xff\xff\xff\xff" + struct.pack("<i", 64) + bytes(64), "schema"),
        (arrow(hugging_face([b"x"] * 50, n=[1] * 50), compression="zstd"), "without compression"),
        (arrow(hugging_face([b"x"], n=pa.array(["a"]).dictionary_encode())), "write it as Parquet"),
        (arrow(pa.table({"image": pa.array([b"x"], pa.binary_view())})), "binary_view"),
        (arrow(pa.table({"other": [b"x"]})), "has no column 'image'"),
    ],
)
def test_a_file_that_cannot_be_read_is_one_row_with_its_name(
    tmp_path: Path, data: bytes, problem: str
) -> None:
    (row,) = listing(tmp_path, data).table.to_pylist()
    assert row["uri"] == f"{tmp_path}/a.arrow" and row["container_row"] is None
    assert row["problem"].startswith(f"{tmp_path}/a.arrow") and problem in row["problem"]


def test_what_precedes_damage_is_listed(tmp_path: Path) -> None:
    found = listing(tmp_path, GOOD[:-100])
    assert images_of(GOOD, found) == [b"1", b"22", None]
    assert "cut off" in found.table["problem"][2].as_py()


def test_offsets_that_lie_are_refused(tmp_path: Path) -> None:
    data = arrow(pa.table({"image": [b"abcd", b"efgh", b"ijkl"]}))
    offsets = struct.pack("<4i", 0, 4, 8, 12)
    assert data.count(offsets) == 1
    for lie in ((0, 4, 2, 12), (-4, 4, 8, 12), (0, 4, 8, 2**31 - 1), (0, 2**30, 8, 12)):
        found = listing(tmp_path, data.replace(offsets, struct.pack("<4i", *lie)))
        assert "offsets" in found.table["problem"][0].as_py() and found.table.num_rows == 1


def test_the_schema_alone(tmp_path: Path) -> None:
    (tmp_path / "a.arrow").write_bytes(GOOD)
    assert arrow_schema(describe(f"{tmp_path}/a.arrow"), read_member).names == ["image", "n"]
    (tmp_path / "a.arrow").write_bytes(b"x" * 100)
    with pytest.raises(Unreadable, match="is not an Arrow file"):
        arrow_schema(describe(f"{tmp_path}/a.arrow"), read_member)


@pytest.mark.parametrize("byte", [b"\x00", b"\x7f", b"\xff"])
def test_no_byte_ends_the_process(tmp_path: Path, byte: bytes) -> None:
    for at in range(len(GOOD)):
        for row in listing(tmp_path, GOOD[:at] + byte + GOOD[at + 1 :]).table.to_pylist():
            assert row["problem"] or row["offset"] + row["bytes"] <= len(GOOD)


@given(st.integers(0, len(GOOD) - 1), st.binary(min_size=1, max_size=8))
def test_damage_anywhere_gives_rows_within_the_file_or_problems(
    tmp_path_factory: pytest.TempPathFactory, at: int, damage: bytes
) -> None:
    folder = tmp_path_factory.mktemp("x")
    data = GOOD[:at] + damage + GOOD[at + len(damage) :]
    for row in listing(folder, data).table.to_pylist():
        if row["offset"] is None:
            assert row["problem"]
        else:
            assert 0 <= row["offset"] <= row["offset"] + row["bytes"] <= len(data)
