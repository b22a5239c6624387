"""What is to be done: the collection listed once, hashed and frozen."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import PurePosixPath

import pyarrow as pa
import pyarrow.parquet as pq

from cluster.images import EXTENSIONS
from cluster.store import NotFound, Store, open_store

SCHEMA = pa.schema([("uri", pa.string()), ("image_id", pa.string()), ("bytes", pa.int64())])

MANIFEST_FILE = "manifest.parquet"
RUN_FILE = "run.json"
"""Marks a run folder: the pictures in one are an audit's own, and no input of another."""


class InputError(ValueError):
    """A collection with nothing to judge; the message is one line and says the fix."""


@dataclass(frozen=True)
class Entry:
    """One input."""

    uri: str
    image_id: str
    """sha256 of the bytes, in hex: duplicates share it."""
    bytes: int


@dataclass(frozen=True)
class Manifest:
    """The inputs of a run, sorted by uri."""

    source: str
    """The folder or prefix that all uris begin with."""
    entries: tuple[Entry, ...]
    skipped: int = 0
    """Files that were passed over: their extension is no image's, or they lie in a run folder."""

    def images(self) -> list[Entry]:
        """Each distinct image once, by its first input."""
        first: dict[str, Entry] = {}
        for entry in self.entries:
            first.setdefault(entry.image_id, entry)
        return list(first.values())

    def path(self, entry: Entry) -> str:
        """The entry's path within ``source``."""
        return entry.uri.removeprefix(self.source + "/")

    def to_parquet(self) -> bytes:
        meta = {"source": self.source, "skipped": str(self.skipped)}
        columns = {name: [getattr(e, name) for e in self.entries] for name in SCHEMA.names}
        table = pa.table(columns, schema=SCHEMA.with_metadata(meta))
        buffer = io.BytesIO()
        pq.write_table(table, buffer, compression="zstd")
        return buffer.getvalue()

    @classmethod
    def from_parquet(cls, data: bytes) -> Manifest:
        table = pq.read_table(io.BytesIO(data))
        meta: dict[bytes, bytes] = table.schema.metadata
        entries = tuple(Entry(**row) for row in table.to_pylist())
        return cls(meta[b"source"].decode(), entries, int(meta[b"skipped"]))


def scan(input_uri: str) -> Manifest:
    """Lists and hashes the images of a folder, of a prefix, or one image file.

    Raises:
        InputError: nothing is there, or nothing that is an image by its extension.
    """
    store, objects = _find(input_uri)
    if not objects:
        raise InputError(f"no files in {input_uri}; give a folder or prefix that holds images")
    if RUN_FILE in objects and MANIFEST_FILE in objects:
        raise InputError(f"{input_uri} is the run folder of an audit; give the folder that holds the images")
    runs = tuple(path.removesuffix(RUN_FILE) for path in objects if path.endswith("/" + RUN_FILE))
    images = sorted(path for path in objects if _is_image(path) and not path.startswith(runs))
    if not images:
        accepted = " ".join(EXTENSIONS)
        count = f"{len(objects)} file{'s' if len(objects) > 1 else ''}"
        raise InputError(f"{input_uri} holds {count} but no image; accepted are {accepted}")
    entries = tuple(Entry(f"{store.url}/{path}", store.sha256(path), objects[path]) for path in images)
    return Manifest(store.url, entries, skipped=len(objects) - len(images))


def _find(input_uri: str) -> tuple[Store, dict[str, int]]:
    """The store, and path to size of all that is under the input."""
    if not input_uri:
        raise InputError("the input is empty; give a folder of images ('.' for this one)")
    uri = input_uri.rstrip("/") or "/"
    if not _is_image(uri) or _is_folder(uri):
        try:
            store = open_store(uri, create=False)
        except NotFound as error:
            raise InputError(f"{input_uri} does not exist; give a folder of images") from error
        return store, {found.path: found.size for found in store.list()}
    parent, _, name = uri.rpartition("/")
    try:
        store = open_store(parent or ("/" if uri.startswith("/") else "."), create=False)
        return store, {name: store.size(name)}
    except NotFound as error:
        raise InputError(f"{input_uri} does not exist; give an image or a folder") from error


def _is_folder(uri: str) -> bool:
    """Whether a name like an image's is a local folder all the same."""
    try:
        open_store(uri, create=False)
    except OSError:
        return False
    return "://" not in uri


def _is_image(path: str) -> bool:
    """By name alone; what the bytes are is found out when they are decoded. Names that begin with
    a dot are the system's own ("._photo.jpg" of a Mac), never a person's picture."""
    name = PurePosixPath(path)
    return name.suffix.lower() in EXTENSIONS and not name.name.startswith(".")
