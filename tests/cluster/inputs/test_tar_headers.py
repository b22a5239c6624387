"""The parser of tar headers, against ``tarfile`` as reference, and with damaged and hostile files."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cluster.inputs.tar_headers import FILE, BadTar, Entry, entries
from tests.support.tars import END, header, padded, shard


def reader(data: bytes) -> Callable[[int, int], bytes]:
    return lambda offset, length: data[offset : offset + length]


def listed(data: bytes) -> list[Entry]:
    return list(entries(reader(data), len(data)))


def until_broken(data: bytes) -> tuple[list[Entry], str | None]:
    """The entries before a problem, and the problem."""
    found: list[Entry] = []
    try:
        found.extend(entries(reader(data), len(data)))
    except BadTar as error:
        return found, str(error)
    return found, None


def by_tarfile(data: bytes) -> list[tuple[str, bool, int, int]]:
    """Name, whether it has contents, offset of these and their size."""
    with tarfile.open(fileobj=io.BytesIO(data), encoding="utf-8", errors="surrogateescape") as tar:
        return [(m.name, m.isfile(), m.offset_data, m.size) for m in tar]


NAMES = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=300)
PLAIN = NAMES.map(lambda name: name.strip("/")).filter(bool)
MEMBERS = st.lists(st.tuples(PLAIN, st.sampled_from([0, 1, 511, 512, 513, 3000])), max_size=6)


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
@given(members=MEMBERS)
@example(members=[("a/" * 60 + "b.png", 5), ("é" * 90, 0)])
def test_it_finds_what_tarfile_finds(form: int, members: list[tuple[str, int]]) -> None:
    data = shard([(name, b"x" * size) for name, size in members], form)
    found = listed(data)
    assert [(e.name, e.kind == FILE, e.offset, e.size) for e in found] == by_tarfile(data)
    assert [(e.name, e.size) for e in found] == members


@given(st.lists(st.tuples(st.text("ab/é", min_size=1, max_size=120), st.integers(0, 600)), max_size=4))
def test_it_finds_what_tarfile_finds_in_ustar(members: list[tuple[str, int]]) -> None:
    fitting = [(name.strip("/") or "a", size) for name, size in members]
    try:
        data = shard([(name, b"x" * size) for name, size in fitting], tarfile.USTAR_FORMAT)
    except ValueError:  # the name cannot be split at a slash
        return
    assert [(e.name, e.kind == FILE, e.offset, e.size) for e in listed(data)] == by_tarfile(data)


KINDS = {
    tarfile.DIRTYPE: "folder",
    tarfile.SYMTYPE: "link",
    tarfile.LNKTYPE: "link",
    tarfile.CHRTYPE: "device",
    tarfile.BLKTYPE: "device",
    tarfile.FIFOTYPE: "pipe",
    tarfile.CONTTYPE: FILE,
    b"V": "of an unknown type",
}


@pytest.mark.parametrize("kind", KINDS)
def test_members_of_other_types_are_recognised(kind: bytes) -> None:
    with_data = kind in (tarfile.CONTTYPE, b"V")
    data = header(b"x", 3 if with_data else 0, kind) + (padded(b"abc") if with_data else b"")
    data += header(b"next.png", 2) + padded(b"ok") + END
    first, second = listed(data)
    assert (first.kind, second.name, data[second.offset : second.offset + 2]) == (
        KINDS[kind],
        "next.png",
        b"ok",
    )


def test_sizes_in_base_256() -> None:
    size = b"\x80" + (5).to_bytes(11, "big")
    data = header(b"a.png", size) + padded(b"12345") + END
    assert [(e.name, e.offset, e.size) for e in listed(data)] == [("a.png", 512, 5)]
    assert by_tarfile(data) == [("a.png", True, 512, 5)]


def test_fields_of_a_pax_header() -> None:
    fields = b"".join(b"%d %s\n" % (len(f) + 4, f) for f in (b"path=long.png", b"size=00005"))
    data = header(b"x", len(fields), b"x") + padded(fields) + header(b"short", 0) + padded(b"12345") + END
    assert [(e.name, e.size) for e in listed(data)] == [("long.png", 5)]
    assert [(name, size) for name, _, _, size in by_tarfile(data)] == [("long.png", 5)]


def test_a_sparse_file_is_passed_over() -> None:
    """In GNU's form, with further blocks of its map, and in that of pax."""
    first = bytearray(header(b"hole", 512, b"S"))
    first[482] = 1
    first[148:156] = b" " * 8
    first[148:156] = b"%06o\0 " % sum(first)
    further = bytes(504) + b"\1" + bytes(7)
    field = b"22 GNU.sparse.major=1\n"
    data = bytes(first) + further + bytes(512) + padded(b"x" * 512)
    data += header(b"x", len(field), b"x") + padded(field) + header(b"hole2", 3) + padded(b"abc")
    data += header(b"a.png", 1) + padded(b"a") + END
    found = listed(data)
    assert [(e.name, e.kind) for e in found] == [("hole", "sparse"), ("hole2", "sparse"), ("a.png", FILE)]
    assert data[found[2].offset : found[2].offset + 1] == b"a"


SAMPLE = shard({"a/1.png": b"x" * 700, "a/1.json": b"{}", "é" * 80 + ".png": b"yy", "b": b""})


def test_a_tar_cut_anywhere_gives_the_members_before_and_a_problem() -> None:
    complete = listed(SAMPLE)
    end = max(e.offset + e.size for e in complete)
    for length in range(0, len(SAMPLE), 64):
        found, problem = until_broken(SAMPLE[:length])
        assert found == complete[: len(found)]
        whole = [e for e in complete if e.offset + e.size <= length]
        assert len(found) >= len([e for e in whole if e.size]) and len(found) <= len(complete)
        assert problem is not None or length >= end


@given(st.integers(0, len(SAMPLE) - 1), st.integers(0, 255))
def test_any_damaged_byte_is_survived(place: int, value: int) -> None:
    damaged = SAMPLE[:place] + bytes([value]) + SAMPLE[place + 1 :]
    found, problem = until_broken(damaged)
    assert problem is not None or len(found) == 4


@given(st.binary(max_size=2000))
def test_any_bytes_are_listed_or_refused(data: bytes) -> None:
    until_broken(data)


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "it is empty"),
        (b"x" * 600, "not a tar file"),
        (b"short", "not a tar file"),
        (b"\x1f\x8b\x08" + bytes(600), "compressed with gzip; decompress it"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1", "LFS"),
        (header(b"a.png", 10 * 2**30) + b"x", "within a member"),
        (header(b"a.png"), "without the blocks"),
        (header(b"a.png") + b"x", "within the header"),
        (header(b"a.png") + header(b"b.png", checksum=b"000000\0 "), "its header at byte 512 is damaged"),
        (header(b"a.png", b"-0000000001\0"), "not a tar file"),
        (header(b"a.png", b"\xff" * 12), "not a tar file"),
        (header(b"a.png", b"\x80" + b"\xff" * 11), "not a tar file"),
        (header(b"n", 2**21, b"L") + END, "bytes of fields"),
        (header(b"n", 2**16, b"L") + padded(b"n" * 2**16) + header(b"n") + END, "a name of 65536 characters"),
        (header(b"x", 9, b"x") + padded(b"9 path=x\n"[:-1] + b"x") + header(b"n"), "fields of a pax header"),
        (header(b"x", 9, b"x") + padded(b"0 path=x\n") + header(b"n"), "fields of a pax header"),
        (header(b"x", 10, b"x") + padded(b"10 size=a\n") + header(b"n"), "is not a number"),
        (header(b"x", 10**9, b"x") + END, "bytes of fields"),
        (header(b"g", 10**9, b"g") + END, "within the header"),
    ],
)
def test_problems(data: bytes, problem: str) -> None:
    found = until_broken(data)[1]
    assert found is not None and problem in found and "\n" not in found


def test_a_tar_ends_where_its_end_is_marked() -> None:
    """Also by one block of zeros; what follows does not count, as for tar."""
    member = header(b"a.png", 1) + padded(b"a")
    for rest in (END, bytes(512), END + member, END + b"garbage"):
        assert [e.name for e in listed(member + rest)] == ["a.png"]
    assert listed(END) == []


def test_names_that_are_not_text_are_kept() -> None:
    data = header(b"\xff\x1b[2J.png") + END
    assert [e.name.encode("utf-8", "surrogateescape") for e in listed(data)] == [b"\xff\x1b[2J.png"]
