"""Images read out of Parquet files: how often a row group is read, and what happens to what cannot be."""

from __future__ import annotations

import mmap
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cluster.inputs.images import Rejection, check_size
from cluster.inputs.locations import Cell, Container, Member
from cluster.inputs.parquet_cells import ParquetCells
from cluster.inputs.sources import Unreadable, describe, read_image, read_member
from cluster.storage.store import Outage
from tests.support.image_tables import hugging_face, parquet

ROWS, GROUP = 400, 100
IMAGES = [os.urandom(3000 + n) for n in range(ROWS)]


class Requests:
    """Reads parts of containers, and notes their lengths."""

    def __init__(self) -> None:
        self.lengths: list[int] = []
        self.fails = 0

    def __call__(self, member: Member) -> bytes:
        self.lengths.append(member.size)
        if self.fails:
            self.fails -= 1
            raise Outage("the store is out")
        return read_member(member)


@pytest.fixture(scope="module")
def container(tmp_path_factory: pytest.TempPathFactory) -> Container:
    file = tmp_path_factory.mktemp("in") / "a.parquet"
    file.write_bytes(parquet(hugging_face(IMAGES), row_group_size=GROUP))
    return describe(str(file))


def read(cells: ParquetCells, container: Container, row: int, column: str = "image") -> bytes:
    return cells.read(f"a.parquet#{row}", Cell(container, row, column), lambda size: None)


def test_rows_in_order_read_each_row_group_once(container: Container) -> None:
    requests = Requests()
    cells = ParquetCells(requests)
    assert [read(cells, container, row) for row in range(ROWS)] == IMAGES
    groups = ROWS // GROUP
    assert len(requests.lengths) <= 1 + groups + 1  # the footer in one or two
    assert sum(requests.lengths) < 1.2 * container.size + 2 * 65536


def test_every_eighth_row_by_four_threads_reads_each_group_once(container: Container) -> None:
    """As a worker does that gets every eighth input: its four readers are always a few rows apart."""
    requests = Requests()
    cells = ParquetCells(requests)
    rows = range(5, ROWS, 8)
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda row: read(cells, container, row), rows)) == [IMAGES[row] for row in rows]
    assert len(requests.lengths) <= 2 * 4 + ROWS // GROUP  # at first, each thread may read the footer


def test_rows_in_any_order(container: Container) -> None:
    cells = ParquetCells(Requests())
    for row in (399, 0, 150, 149, 399, 250, 0, 1):
        assert read(cells, container, row) == IMAGES[row]


def test_an_outage_is_passed_on_and_the_row_is_read_after_it(container: Container) -> None:
    requests = Requests()
    cells = ParquetCells(requests)
    for before in range(3):
        requests.fails = 1
        with pytest.raises(Outage, match="the store is out"):
            read(cells, container, 100 * before)
        assert read(cells, container, 100 * before) == IMAGES[100 * before]
        requests.fails = 0


def test_a_file_that_changed_is_unreadable(tmp_path: Path) -> None:
    file = tmp_path / "a.parquet"
    file.write_bytes(
        parquet(
            hugging_face([b"1", b"2"]),
        )
    )
    before = describe(str(file))
    file.write_bytes(parquet(hugging_face([b"3", b"4"])))
    os.utime(file, ns=(0, 0))
    with pytest.raises(Unreadable, match="has changed since it was listed") as caught:
        read(ParquetCells(read_member), before, 0)
    assert caught.value.reason_code == "unreadable"


def test_a_row_without_an_image_is_missing_on_every_machine(tmp_path: Path) -> None:
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    rows = [None, {"bytes": None, "path": "/etc/passwd"}, {"bytes": b"", "path": None}, {"bytes": b"x"}]
    (tmp_path / "a.parquet").write_bytes(parquet(pa.table({"image": pa.array(rows, kind)})))
    container = describe(str(tmp_path / "a.parquet"))
    cells = ParquetCells(read_member)
    for row in range(2):
        with pytest.raises(Unreadable, match=f"a.parquet#{row}: this row holds no image") as caught:
            read(cells, container, row)
        assert (caught.value.reason_code, caught.value.is_final) == ("missing", True)
    assert [read(cells, container, row) for row in (2, 3)] == [b"", b"x"]


def test_damage_is_of_the_rows_behind_it(tmp_path: Path) -> None:
    images = [bytes([n]) * 2000 for n in range(200)]
    table = pa.table({"image": images})
    data = bytearray(
        parquet(table, compression="none", use_dictionary=False, write_page_checksum=True, row_group_size=100)
    )
    at = data.index(images[50])
    data[at - 40 : at] = os.urandom(40)
    (tmp_path / "a.parquet").write_bytes(data)
    container, requests = describe(str(tmp_path / "a.parquet")), Requests()
    cells = ParquetCells(requests)
    bad = []
    for row in range(200):
        try:
            assert read(cells, container, row) == images[row]
        except Unreadable as error:
            assert "a.parquet: row group 0: " in error.message
            bad.append(row)
    assert set(bad) <= set(range(100)) and len(requests.lengths) < 20


def test_a_row_that_does_not_exist(container: Container) -> None:
    for row in (-1, ROWS):
        with pytest.raises(Unreadable, match=f"has {ROWS} rows, and no row {row}"):
            read(ParquetCells(read_member), container, row)
    with pytest.raises(Unreadable, match="has no column 'jpg'"):
        read(ParquetCells(read_member), container, 0, "jpg")


def test_a_large_image_is_refused_before_it_is_read(tmp_path: Path) -> None:
    table = pa.table({"image": [os.urandom(3 * 2**20), b"x" * 100]})
    (tmp_path / "a.parquet").write_bytes(parquet(table, row_group_size=1, compression="none"))
    container, requests = describe(str(tmp_path / "a.parquet")), Requests()

    def check(size: int) -> None:
        if size > 1000:
            raise Rejection("too-large", f"{size} bytes")

    cells = ParquetCells(requests)
    with pytest.raises(Rejection):
        cells.read("a", Cell(container, 0, "image"), check)
    assert sum(requests.lengths) < 2**18  # the footer alone
    assert cells.read("a", Cell(container, 1, "image"), check) == b"x" * 100


def test_a_large_image_in_very_many_rows_is_held_a_few_times(tmp_path: Path) -> None:
    """Sixteen megabytes in a dictionary, of which each of 10,000 rows is one: 160 GB, in a small file."""
    images = pa.DictionaryArray.from_arrays(pa.array([0] * 10_000, pa.int32()), [bytes(2**24)])
    (tmp_path / "a.parquet").write_bytes(
        parquet(pa.table({"image": images}), compression="zstd", store_schema=False)
    )
    container, cells = describe(str(tmp_path / "a.parquet")), ParquetCells(read_member)
    assert container.size < 2**20
    before = pa.default_memory_pool().max_memory()
    for row in range(0, 40, 4):
        assert len(read(cells, container, row)) == 2**24
    assert pa.default_memory_pool().max_memory() - before < 512 * 2**20


@pytest.mark.long
def test_a_cell_of_a_gigabyte_is_too_large(tmp_path: Path) -> None:
    """Compressed, it is a file of some hundred kilobytes."""
    size = 2**30  # to write two gigabytes takes seven of memory
    zeros = pa.py_buffer(mmap.mmap(-1, size))  # takes no memory until it is written
    offsets = pa.array([0, size], pa.int32()).buffers()[1]
    image = pa.Array.from_buffers(pa.binary(), 1, [None, offsets, zeros])
    how = {"compression": "zstd", "use_dictionary": False, "write_statistics": False}
    pq.write_table(pa.table({"image": image}), tmp_path / "a.parquet", **how)
    location = Cell(describe(str(tmp_path / "a.parquet")), 0, "image")
    with pytest.raises(Rejection) as caught:
        read_image("a", check_size, location)
    assert caught.value.reason_code == "too-large"
