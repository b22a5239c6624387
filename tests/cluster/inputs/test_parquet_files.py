"""Listing one Parquet file: its columns, what is left out, and hostile files."""

from __future__ import annotations

import datetime
import os
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.parquet.encryption as pe
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.inputs.container_listings import ContainerListing
from cluster.inputs.locations import Cell, Member
from cluster.inputs.parquet_cells import ParquetCells
from cluster.inputs.parquet_files import list_parquet
from cluster.inputs.sources import Unreadable, describe, read_member
from cluster.inputs.table_options import ImageTable
from cluster.inputs.table_rows import LEFT_OUT
from tests.support.image_tables import hugging_face, parquet

IMAGE = ImageTable("image")


def listing(folder: Path, data: bytes, how: ImageTable = IMAGE) -> ContainerListing:
    (folder / "a.parquet").write_bytes(data)
    return list_parquet(describe(f"{folder}/a.parquet"), how, read_member)


def test_images_are_not_read(tmp_path: Path) -> None:
    images = [os.urandom(100_000) for _ in range(40)]
    data = parquet(hugging_face(images, n=list(range(40))), row_group_size=10, compression="none")
    (tmp_path / "a.parquet").write_bytes(data)
    read: list[int] = []

    def fetch(member: Member) -> bytes:
        read.append(member.size)
        return read_member(member)

    found = list_parquet(describe(f"{tmp_path}/a.parquet"), IMAGE, fetch)
    assert found.table["n"].to_pylist() == found.table["container_row"].to_pylist() == list(range(40))
    assert sum(read) < 0.1 * len(data)


def test_columns_of_all_types(tmp_path: Path) -> None:
    when = datetime.datetime(2030, 1, 2)
    others = {
        "flag": [True],
        "day": [when.date()],
        "at": pa.array([when], pa.timestamp("us")),
        "tags": [["a", "b"]],
        "about": [{"n": 1}],
        "kind": pa.array(["x"]).dictionary_encode(),
        "key": [b"bytes"],
        "uri": ["s3://b/k"],
        "container_row": [3],
        "signed": ["https://h/?X-Amz-Signature=0123456789abcdef0123456789"],
    }
    row = listing(tmp_path, parquet(hugging_face([b"x"], **others))).table.to_pylist()[0]
    assert row["uri"] == f"{tmp_path}/a.parquet#0" and row["image_path"] == "0.png"
    assert (row["flag"], row["day"], row["at"]) == (True, when.date(), when)
    assert (row["tags"], row["about"], row["kind"]) == ('["a", "b"]', '{"n": 1}', "x")
    assert (row["list_uri"], row["list_container_row"], row["container_row"]) == ("s3://b/k", 3, 0)
    assert "key" not in row and "0123456789" not in row["signed"]


def test_long_values_are_left_out_and_counted(tmp_path: Path) -> None:
    texts = ["short", "x" * 70_000, "x" * 60_000]
    found = listing(tmp_path, parquet(hugging_face([b"x"] * 3, text=texts, other=["y" * 5000] * 3)))
    assert [row and len(row) for row in found.table["text"].to_pylist()] == [5, None, 60_000]
    found = listing(
        tmp_path, parquet(hugging_face([b"x"] * 2, text=["x" * 40_000] * 2, b=["y" * 30_000] * 2))
    )
    assert found.table["text"].to_pylist() == [None, None] and found.table["b"].null_count == 0
    assert found.skipped == {LEFT_OUT: 2}


def test_a_long_value_repeated_very_often_takes_little_memory(tmp_path: Path) -> None:
    """A megabyte in a dictionary, of which each of 20,000 rows is one: 20 GB as text."""
    words = pa.DictionaryArray.from_arrays(pa.array([0] * 20_000, pa.int32()), ["x" * 2**20])
    data = parquet(hugging_face([b"x"] * 20_000, text=words))
    before = pa.default_memory_pool().max_memory()
    found = listing(tmp_path, data)
    assert found.table["text"].null_count == found.table.num_rows == 20_000
    assert pa.default_memory_pool().max_memory() - before < 512 * 2**20


def encrypted(table: pa.Table, plaintext_footer: bool, columns: dict[str, list[str]]) -> bytes:
    """A file that no one without the key reads."""

    class Keys(pe.KmsClient):  # type: ignore[misc]
        def wrap_key(self, key: bytes, master: str) -> bytes:
            return key.hex().encode()

        def unwrap_key(self, key: bytes, master: str) -> bytes:
            return bytes.fromhex(key.decode())

    how = pe.EncryptionConfiguration(footer_key="f", column_keys=columns, plaintext_footer=plaintext_footer)
    factory = pe.CryptoFactory(lambda connection: Keys())
    properties = factory.file_encryption_properties(pe.KmsConnectionConfig(), how)
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(sink, table.schema, encryption_properties=properties) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


GOOD = parquet(hugging_face([b"1", b"2"], n=[1, 2]))


@pytest.mark.parametrize(
    "make",
    [
        lambda: b"",
        lambda: b"PAR1",
        lambda: b"no Parquet at all, but long enough to be one",
        lambda: GOOD[:-1],
        lambda: GOOD[:-200],
        lambda: GOOD[: len(GOOD) // 2],
        lambda: GOOD[:-4] + b"PAR2",
        lambda: GOOD[:-8] + b"\xff\xff\xff\x7fPAR1",
        lambda: GOOD[:-8] + b"\0\0\0\0PAR1",
        lambda: encrypted(pa.table({"image": [b"1"], "n": [1]}), False, {"c": ["n"]}),
        lambda: encrypted(pa.table({"image": [b"1"], "n": [1]}), True, {"c": ["n"]}),
        lambda: encrypted(pa.table({"image": [b"1"], "n": [1]}), True, {"c": ["image"]}),
        lambda: parquet(pa.table({"other": [1]})),
        lambda: parquet(pa.table({"image": ["text"]})),
    ],
)
def test_a_file_that_cannot_be_read_is_one_row_with_its_name(
    tmp_path: Path, make: Callable[[], bytes]
) -> None:
    (row,) = listing(tmp_path, make()).table.to_pylist()
    assert row["uri"] == f"{tmp_path}/a.parquet" and row["container_row"] is None
    assert row["problem"].startswith(f"{tmp_path}/a.parquet") and "\n" not in row["problem"]


@given(st.integers(0, len(GOOD) - 1), st.binary(min_size=1, max_size=8))
def test_damage_anywhere_gives_rows_or_problems(
    tmp_path_factory: pytest.TempPathFactory, at: int, damage: bytes
) -> None:
    folder = tmp_path_factory.mktemp("x")
    data = GOOD[:at] + damage + GOOD[at + len(damage) :]
    found = listing(folder, data)
    container, cells = describe(f"{folder}/a.parquet"), ParquetCells(read_member)
    for row in found.table.to_pylist():
        if row["problem"] is not None:
            assert "a.parquet" in row["problem"]
            continue
        try:
            cells.read(row["uri"], Cell(container, row["container_row"], "image"), lambda size: None)
        except Unreadable as error:
            assert "a.parquet" in error.message
