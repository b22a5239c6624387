"""The members of a tar file, from its headers alone: ustar, GNU and pax.

Python's ``tarfile`` is not used, because it keeps an object for every member, stops without a word at a
damaged header, and has hung on hostile ones (CVE-2019-20907, CVE-2025-8194). Here every step moves forward in
the file, and every length is bounded. ``tarfile`` is the reference of the tests.

Not supported: a global pax header that names or sizes all members; it is ignored, as are other global fields.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from originality.contract.wrong_content import wrong_content

BLOCK = 512
"""Bytes of a header; contents are filled up to a multiple of them."""
FILE = "file"
"""Kind of a member with contents."""
_MOST_EXTENSION_BYTES, _LONGEST_NAME = 2**20, 2**15
"""Bytes of an extension header's contents, and of a name in there."""
_MOST_SIZE = 2**63 - 1
_KINDS = {
    b"0": FILE, b"\0": FILE, b"7": FILE,
    b"1": "link", b"2": "link", b"3": "device", b"4": "device", b"5": "folder", b"6": "pipe", b"S": "sparse",
}  # fmt: skip
_WITHOUT_CONTENTS = ("link", "device", "folder", "pipe")
_LONG_NAME, _LONG_LINK, _GLOBAL, _PAX = b"L", b"K", b"g", (b"x", b"X")
_COMPRESSED = ((b"\x1f\x8b", "gzip"), (b"\x28\xb5\x2f\xfd", "zstd"), (b"\xfd7zXZ\0", "xz"), (b"BZh", "bzip2"))


class BadTar(ValueError):  # noqa: N818 - names what is wrong
    """The rest of a tar file cannot be read; the message is a part of a line, without the file's name."""


@dataclass(frozen=True)
class Entry:
    """A member of a tar file."""

    name: str
    """Bytes that are not UTF-8 are surrogates (PEP 383)."""
    kind: str
    """FILE, "link", "device", "folder", "pipe", "sparse", or "of an unknown type"."""
    offset: int
    """Of its contents."""
    size: int
    """Bytes of its contents. They may extend beyond the end of the file; then it is the last member."""


@dataclass
class _Extensions:
    """What the headers before a member's own say about it. If several say the same, the first counts."""

    name: str | None = None
    size: int | None = None
    is_sparse: bool = False


def entries(read: Callable[[int, int], bytes], total: int) -> Iterator[Entry]:
    """The members of a tar file, in order.

    Args:
        read: returns the bytes at an offset and of a length; fewer only at the end of the file.
        total: bytes of the file.

    Raises:
        BadTar: the rest cannot be read; what was yielded before is right.
    """
    at = 0
    known = _Extensions()
    while True:
        header = read(at, BLOCK)
        if header.count(0) == BLOCK:  # the end; what follows does not count, as for tar
            return
        size = _checked_size(header, at)
        at += BLOCK
        kind = header[156:157]
        if kind in (_LONG_NAME, _LONG_LINK, _GLOBAL, *_PAX):
            if kind != _GLOBAL:
                _extend(known, kind, _extension(read, at, size))
            at += _filled(size)
            if at > total:
                raise BadTar(f"it ends at byte {total}, within the header of a member")
            continue
        entry = _entry(header, at, size, known)
        if kind == b"S" and header[482]:
            at = _behind_map(read, at)
        if entry.kind not in _WITHOUT_CONTENTS:
            at += _filled(entry.size)
        yield entry
        known = _Extensions()
        if at - _filled(entry.size) + entry.size > total and entry.kind not in _WITHOUT_CONTENTS:
            raise BadTar(f"it ends at byte {total}, within a member")


def _behind_map(read: Callable[[int, int], bytes], at: int) -> int:
    """The offset behind the further blocks of a sparse file's map of holes."""
    while True:
        block = read(at, BLOCK)
        at += BLOCK
        if len(block) < BLOCK or not block[504]:
            return at


def _checked_size(header: bytes, at: int) -> int:
    """The size in a header.

    Raises:
        BadTar: it is no header.
    """
    if len(header) < BLOCK:
        if at == 0:
            raise BadTar(_no_tar(header) if header else "it is empty")
        if not header:
            raise BadTar(f"it ends at byte {at} without the blocks that mark a tar's end: it was cut off")
        raise BadTar(f"it ends at byte {at + len(header)}, within the header of a member")
    try:
        right = _number(header[148:156]) == sum(header) - sum(header[148:156]) + 8 * ord(" ")
        if not right:  # some old programs added up signed bytes
            signed = sum(byte - 256 * (byte > 127) for byte in header[:148] + header[156:])
            right = _number(header[148:156]) == signed + 8 * ord(" ")
        if right:
            return _number(header[124:136])
    except ValueError:
        pass
    raise BadTar(f"its header at byte {at} is damaged: what follows is not listed" if at else _no_tar(header))


def _no_tar(beginning: bytes) -> str:
    """Why a file that begins so is no tar."""
    for magic, name in _COMPRESSED:
        if beginning.startswith(magic):
            return f"it is compressed with {name}; decompress it, as in a compressed tar no image has a place"
    return wrong_content(beginning) or "it is not a tar file"


def _number(digits: bytes) -> int:
    """A number in octal digits or, behind a byte 128, in base 256.

    Raises:
        ValueError: it is neither, or negative.
    """
    if digits[0] == 0x80:
        number = int.from_bytes(digits[1:], "big")
    else:
        text = digits.partition(b"\0")[0].strip()
        if not re.fullmatch(rb"[0-7]*", text):
            raise ValueError("not an octal number")
        number = int(text or b"0", 8)
    if number > _MOST_SIZE:
        raise ValueError("not a size")
    return number


def _entry(header: bytes, at: int, size: int, known: _Extensions) -> Entry:
    name = _text(header[:100])
    prefix = _text(header[345:500])
    kind = _KINDS.get(header[156:157], "of an unknown type")
    if header[156:157] == b"\0" and name.endswith("/"):  # how tar marked folders before there were types
        kind = "folder"
    if prefix and kind != "sparse":  # whose header has other fields there
        name = f"{prefix}/{name}"
    if known.is_sparse and kind == FILE:
        kind = "sparse"
    return Entry(
        name if known.name is None else known.name, kind, at, size if known.size is None else known.size
    )


def _extension(read: Callable[[int, int], bytes], at: int, size: int) -> bytes:
    if size > _MOST_EXTENSION_BYTES:
        raise BadTar(f"the header at byte {at - BLOCK} has {size} bytes of fields")
    return read(at, size)


def _extend(known: _Extensions, kind: bytes, data: bytes) -> None:
    """Take over what an extension header says of the member behind it.

    Raises:
        BadTar: its fields are damaged.
    """
    if kind == _LONG_NAME and known.name is None:
        known.name = _text(data)
    for key, value in _pax_fields(data) if kind in _PAX else ():
        if key == b"path" and known.name is None:
            known.name = value.decode("utf-8", "surrogateescape")
        elif key == b"size" and known.size is None:
            if not re.fullmatch(rb"[0-9]{1,18}", value):
                raise BadTar("a member's size in a pax header is not a number")
            known.size = int(value)
        elif key.startswith(b"GNU.sparse."):
            known.is_sparse = True
    if known.name is not None and len(known.name) > _LONGEST_NAME:
        raise BadTar(f"a member has a name of {len(known.name)} characters")


def _pax_fields(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Key and value of each field: "LENGTH KEY=VALUE\\n", of which the length counts all.

    Raises:
        BadTar: the fields are damaged.
    """
    at = 0
    while at < len(data) and data[at]:
        length = re.compile(rb"([0-9]{1,9}) ").match(data, at)
        end = at + int(length[1]) if length else at
        if length is None or end <= length.end() or data[end - 1 : end] != b"\n":
            raise BadTar("the fields of a pax header are damaged")
        key, _, value = data[length.end() : end - 1].partition(b"=")
        yield key, value
        at = end


def _text(data: bytes) -> str:
    return data.partition(b"\0")[0].decode("utf-8", "surrogateescape")


def _filled(size: int) -> int:
    """Bytes that contents of a size take, with the filling."""
    return -(-size // BLOCK) * BLOCK
