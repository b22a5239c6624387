"""A container as a file for pyarrow: what is read, and whose errors come out."""

from __future__ import annotations

import io

import pyarrow as pa
import pytest

from cluster.inputs.container_file import LONGEST_READ, ContainerFile
from cluster.inputs.locations import Container, Member
from cluster.inputs.sources import Unreadable
from cluster.storage.store import Outage

DATA = bytes(range(100))
CONTAINER = Container("/a", len(DATA), "1")


def fetch(member: Member) -> bytes:
    return DATA[member.offset : member.offset + member.size]


def test_parts_are_read_as_of_a_file() -> None:
    file, same = ContainerFile(CONTAINER, fetch), io.BytesIO(DATA)
    for seek, length in (((10, 0), 5), ((3, 1), 2), ((-4, 2), 100), ((0, 2), 1), ((200, 0), 1), ((0, 0), -1)):
        assert file.seek(*seek) == same.seek(*seek)
        assert file.read(length) == same.read(length) and file.tell() == same.tell()
    assert file.tail == DATA[-8:]
    assert pa.PythonFile(ContainerFile(CONTAINER, fetch), "r").size() == len(DATA)


def test_no_part_is_too_long() -> None:
    def never(member: Member) -> bytes:
        raise AssertionError(member)

    with pytest.raises(Unreadable, match="smaller row groups"):
        ContainerFile(Container("/a", 2 * LONGEST_READ, None), never).read(LONGEST_READ + 1)


def test_errors_of_the_store_come_out_and_others_are_of_the_file() -> None:
    def out(member: Member) -> bytes:
        raise Outage("the store is out")

    file = ContainerFile(CONTAINER, out)
    with pytest.raises(Outage, match="the store is out"), file.errors("/a"):
        pa.ipc.open_file(pa.PythonFile(file, "r"))
    file = ContainerFile(CONTAINER, fetch)
    with pytest.raises(Unreadable, match="/a: ") as caught, file.errors("/a"):
        pa.ipc.open_file(pa.PythonFile(file, "r"))
    assert "\n" not in caught.value.message
    with pytest.raises(Unreadable, match="first"), file.errors("/a"):
        raise ValueError("first\nsecond")
