"""One shard of a WebDataset: a tar file, whose members of one key are an image and what is known of it.

The key of a member is its name up to the first dot behind the last slash; members of one key stand one behind
the other. Each member that is an image by its extension is an input, named ``SHARD#MEMBER``; if several
members have one name, the second is named ``SHARD#MEMBER~2``. Members are only names, nothing is extracted:
"../../x.png" is as good a name as any. In a name that is not UTF-8, the bytes that are not are written as
``%FF``.
"""

from __future__ import annotations

import re
from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cluster.inputs.container_listings import MOST_COLUMNS, SCHEMA, ContainerListing
from cluster.inputs.formats import EXTENSIONS as IMAGES
from cluster.inputs.hidden import is_hidden
from cluster.inputs.locations import Container, Member
from cluster.inputs.read_ahead import ReadAhead
from cluster.inputs.siblings import EXTENSIONS, Siblings
from cluster.inputs.sources import Unreadable, read_member
from cluster.inputs.tar_headers import FILE, BadTar, Entry, entries
from cluster.inputs.typed_rows import Scalar, TypedRows

_IMAGE = re.compile(r"(?i)[^/](" + "|".join(map(re.escape, IMAGES)) + ")$")
_EXTENSION = re.compile(r"\.[A-Za-z0-9_]{1,10}$")
_MOST_KINDS = 1000
_BATCH = 50_000
_MOST_IMAGES = 1000
"""Images of one key that are held at once."""
_PLURAL = {
    "link": "links",
    "device": "devices",
    "folder": "folders",
    "pipe": "pipes",
    "sparse": "sparse files",
}


def list_shard(container: Container) -> ContainerListing:
    """List a shard by its headers. A damaged shard has a separate row, behind those of the members that
    were found.

    Raises:
        Outage, Refused, MachineFault: its store or disk fails.
    """
    lister = _Lister(container)
    read = ReadAhead(lister.read, container.size)
    try:
        for entry in entries(read, container.size):
            lister.take(entry, read)
    except BadTar as error:
        lister.close(f"{container.uri}: {error}")
    except Unreadable as error:
        lister.close(error.message)
    else:
        lister.close()
    return ContainerListing(_told_apart(lister.rows.table()), lister.skipped)


class _Lister:
    """Gathers the members of a shard."""

    def __init__(self, container: Container) -> None:
        self.rows = TypedRows(SCHEMA, MOST_COLUMNS)
        self.skipped: Counter[str] = Counter()
        self._container = container
        self._key: str | None = None
        self._siblings = Siblings(self.skipped)
        self._images: list[tuple[str, Entry]] = []
        self._had_images = False
        self._is_cut = False

    def read(self, offset: int, length: int) -> bytes:
        return read_member(Member(self._container, offset, length))

    def take(self, entry: Entry, read: ReadAhead) -> None:
        if entry.kind != FILE:
            self._skip(_PLURAL.get(entry.kind, entry.kind))
            return
        if is_hidden(entry.name):
            self._skip("hidden")
            return
        folder, slash, base = entry.name.rpartition("/")
        stem, dot, rest = base.partition(".")
        if (key := f"{folder}{slash}{stem}") != self._key:
            self._close_key()
            self._key = key
        extension = f"{dot}{rest}".lower()
        if _IMAGE.search(entry.name):
            self._images.append((_text(entry.name), entry))
            if len(self._images) >= _MOST_IMAGES:
                self._add_images()
        elif extension in EXTENSIONS and entry.offset + entry.size <= self._container.size:
            self._siblings.take(extension, entry.size, lambda: read(entry.offset, entry.size))
        else:
            found = _EXTENSION.search(base)
            self._skip(found[0].lower() if found else "other")

    def close(self, problem: str | None = None) -> None:
        """Add what is left, and a row for a problem unless the last image has it."""
        self._close_key()
        if problem is not None and not self._is_cut:
            self.rows.add((self._container.uri, None, None, problem))

    def _close_key(self) -> None:
        self._add_images()
        if not self._had_images:
            for kind, count in self._siblings.kinds.items():
                self._skip(kind, count)
        self._siblings = Siblings(self.skipped)
        self._had_images = False

    def _add_images(self) -> None:
        for name, entry in self._images:
            self._had_images = True
            uri = f"{self._container.uri}#{name}"
            end = entry.offset + entry.size
            if end > self._container.size:
                self._is_cut = True
                problem = f"{uri}: the shard ends at byte {self._container.size}, within this image"
                row: tuple[Scalar | None, ...] = (uri, None, None, problem)
            else:
                row = (uri, entry.size, entry.offset, None)
            if dropped := self.rows.add(row, self._siblings.values):
                self._skip(f"value beyond {MOST_COLUMNS} columns", dropped)
        self._images.clear()

    def _skip(self, kind: str, count: int = 1) -> None:
        self.skipped[kind if kind in self.skipped or len(self.skipped) < _MOST_KINDS else "other"] += count


def _text(name: str) -> str:
    return re.sub("[\udc80-\udcff]", lambda byte: f"%{ord(byte[0]) - 0xDC00:02X}", name)


def _told_apart(table: pa.Table) -> pa.Table:
    """The rows with distinct uris: "~2" and so on behind those that an earlier row has. No uri ends so by
    itself, as images end in an extension."""
    uris = table["uri"].cast(pa.large_string()).combine_chunks()  # more than 2 GiB of names in one array
    counts = pc.value_counts(uris)
    repeated = counts.field("values").filter(pc.greater(counts.field("counts"), 1))
    if not len(repeated):
        return table
    places = pc.indices_nonzero(pc.is_in(uris, repeated)).to_pylist()
    seen: Counter[str] = Counter()
    renamed = []
    for place in places:
        uri = uris[place].as_py()
        seen[uri] += 1
        renamed.append(uri if seen[uri] == 1 else f"{uri}~{seen[uri]}")
    mask = np.zeros(len(uris), bool)
    mask[places] = True
    uris = pc.replace_with_mask(uris, pa.array(mask), pa.array(renamed, uris.type))
    parts = [uris[start : start + _BATCH].cast(pa.string()) for start in range(0, len(uris), _BATCH)]
    return table.set_column(0, SCHEMA.field("uri"), pa.chunked_array(parts))
