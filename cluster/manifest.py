"""What is to be done: the collection listed once and frozen.

Listing reads no image. Which image an input is (the sha256 of its bytes) is learnt where the bytes are
read, by the workers; see :mod:`cluster.identities`.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path, PurePosixPath

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from cluster.images import EXTENSIONS
from cluster.sources import local_uri, size_of, walk
from cluster.store import NotFound, absolute, open_store

SCHEMA = pa.schema([("uri", pa.string()), ("bytes", pa.int64())])

MANIFEST_FILE = "manifest.parquet"
RUN_FILE = "run.json"
"""Marks a run folder: the pictures in one are an audit's own, and no input of another."""

LISTS = (".csv", ".parquet")
"""What a list of images may be: a file with a column of uris."""
URI_COLUMNS = ("uri", "url", "path", "file", "image")
_BATCH = 50_000
_MAY_HOLD_A_KEY = r"(?i)^(https?://|[a-z0-9]+://[^/]*@)"
"""Web addresses may be presigned; keys before an @ are plain to see."""
_IMAGE = r"(?i)(^|/)[^/.][^/]*(" + "|".join(re.escape(e) for e in EXTENSIONS) + ")$"
"""By name alone; what the bytes are is found out when they are decoded. Names that begin with a dot are
the system's own ("._photo.jpg" of a Mac), never a person's picture."""


class InputError(ValueError):
    """A collection with nothing to judge; the message is one line and says the fix."""


@dataclass(frozen=True)
class Manifest:
    """The inputs of a run, by number. Those of a folder are sorted by uri; a list keeps its order."""

    source: str
    """What the uris of a folder or prefix begin with; empty for a list."""
    table: pa.Table
    """SCHEMA; bytes are null where a list does not say."""
    skipped: int = 0
    """Files that were passed over: their extension is no image's, or they lie in a run folder."""

    def __len__(self) -> int:
        return self.table.num_rows

    def uri(self, number: int) -> str:
        return str(self.table["uri"][number])

    def size(self, number: int) -> int | None:
        """Bytes, where the listing told."""
        return self.table["bytes"][number].as_py()

    def path(self, number: int) -> str:
        """The input's uri, without what all have in common."""
        return self.uri(number).removeprefix(f"{self.source}/" if self.source else "")

    def to_parquet(self) -> bytes:
        meta = {"source": self.source, "skipped": str(self.skipped)}
        buffer = io.BytesIO()
        pq.write_table(self.table.replace_schema_metadata(meta), buffer, compression="zstd")
        return buffer.getvalue()

    @classmethod
    def from_parquet(cls, data: bytes) -> Manifest:
        table = pq.read_table(io.BytesIO(data))
        meta: dict[bytes, bytes] = table.schema.metadata
        return cls(meta[b"source"].decode(), table.select(SCHEMA.names), int(meta[b"skipped"]))


@dataclass(frozen=True)
class Selection:
    """Which inputs of a manifest are worked on this time."""

    limit: int | None = None
    """Only the first so many."""
    sample: int | None = None
    """Only so many, drawn at random."""
    seed: int = 0
    shard: tuple[int, int] = (1, 1)
    """(i, n): every n-th input from the i-th on, i = 1..n, so that n people may share the work."""

    def numbers(self, manifest: Manifest) -> np.ndarray:
        """int64, ascending."""
        number, of = self.shard
        chosen = np.arange(number - 1, len(manifest), of)
        if self.sample is not None and self.sample < len(chosen):
            chosen = np.sort(np.random.default_rng(self.seed).choice(chosen, self.sample, replace=False))
        return chosen[: self.limit]


def scan(input_uri: str) -> Manifest:
    """Lists the images of a folder or prefix, of a glob ("s3://bucket/a/**/*.jpg"), of a CSV or Parquet list
    with a column of uris, or one image file.

    Raises:
        InputError: nothing is there, or nothing that is an image by its extension.
    """
    if not input_uri:
        raise InputError("the input is empty; give a folder of images ('.' for this one)")
    uri = absolute(input_uri)
    if uri != local_uri(uri):
        raise InputError(f"{uri!a} is no UTF-8; rename the folder, or give another way to it")
    if _is_folder(uri):
        return _scan_folder(input_uri, uri)
    if re.search(r"[*?\[]", uri) and ("://" in uri or not Path(uri).exists()):
        return _scan_glob(input_uri, uri)
    if uri.lower().endswith(LISTS):
        return _scan_list(input_uri, uri)
    if "://" in uri and not re.search(_IMAGE, uri):
        return _scan_folder(input_uri, uri)
    return _one_file(input_uri, uri)


def _is_folder(uri: str) -> bool:
    return "://" not in uri and Path(uri).is_dir()


def _scan_folder(asked: str, root: str) -> Manifest:
    table = _listed(asked, root)
    if not table.num_rows:
        raise InputError(f"no files in {asked}; give a folder or prefix that holds images")
    files = {f"{root}/{RUN_FILE}", f"{root}/{MANIFEST_FILE}"}
    if pc.is_in(table["uri"], pa.array(files)).to_pylist().count(True) == len(files):
        raise InputError(f"{asked} is the run folder of an audit; give the folder that holds the images")
    images = _images(table)
    if not images.num_rows:
        count = f"{table.num_rows} file{'s' if table.num_rows > 1 else ''}"
        raise InputError(f"{asked} holds {count} but no image; accepted are {' '.join(EXTENSIONS)}")
    return Manifest(root, images, table.num_rows - images.num_rows)


def _listed(asked: str, root: str) -> pa.Table:
    """All that is under a folder or prefix, each once, sorted by uri."""
    try:
        table = _table(walk(root))
    except NotFound as error:
        raise InputError(f"{asked} does not exist; give a folder of images") from error
    table = table.sort_by("uri")
    uris = table["uri"].combine_chunks()
    if len(uris) < 2:
        return table
    again = pa.concat_arrays([pa.array([False]), pc.equal(uris[1:], uris[:-1])])
    return table.filter(pc.invert(again))


def _table(found: Iterator[tuple[str, int]]) -> pa.Table:
    """In batches, so that a million names never exist as a million Python objects."""
    batches = []
    while batch := list(islice(found, _BATCH)):
        uris, sizes = zip(*batch, strict=True)
        batches.append(pa.record_batch([pa.array(uris, pa.string()), pa.array(sizes, pa.int64())], SCHEMA))
    return pa.Table.from_batches(batches, SCHEMA)


def _images(table: pa.Table) -> pa.Table:
    """Without what is no image by its name, and without the pictures in run folders."""
    kept = pc.match_substring_regex(table["uri"], _IMAGE)
    manifests = pc.filter(table["uri"], pc.ends_with(table["uri"], f"/{MANIFEST_FILE}")).to_pylist()
    folders = pa.array([uri.removesuffix(MANIFEST_FILE) for uri in manifests], pa.string())
    runs = pc.binary_join_element_wise(folders, pa.scalar(RUN_FILE), "")
    for folder in folders.filter(pc.is_in(runs, table["uri"].combine_chunks())).to_pylist():
        kept = pc.and_(kept, pc.invert(pc.starts_with(table["uri"], folder)))
    return table.filter(kept)


def _scan_glob(asked: str, pattern: str) -> Manifest:
    parts = pattern.split("/")
    fixed = next(i for i, part in enumerate(parts) if re.search(r"[*?\[]", part))
    root = "/".join(parts[:fixed]) or "/"
    if root.endswith(":/"):
        raise InputError(f"{asked}: name the bucket; only what follows it may have wildcards")
    table = _listed(asked, root)
    try:
        matching = table.filter(pc.match_substring_regex(table["uri"], glob_regex(pattern)))
    except pa.ArrowInvalid as error:
        raise InputError(f"{asked} is no pattern: {str(error).splitlines()[0]}") from error
    images = _images(matching)
    if not images.num_rows:
        raise InputError(f"{asked} matches no image; put it in quotes, and use ** for any number of folders")
    return Manifest(root.rstrip("/"), images, matching.num_rows - images.num_rows)


def glob_regex(pattern: str) -> str:
    """A shell pattern as a regular expression: ``*`` and ``?`` stay within a folder, ``**/`` is any number
    of folders, ``[a-z]`` one of these letters."""
    tokens = re.split(r"(\*\*/|\*\*|\*|\?|\[!?[^\]/]+\])", pattern)
    meaning = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}

    def translated(token: str) -> str:
        if token in meaning:
            return meaning[token]
        if re.fullmatch(r"\[!?[^\]/]+\]", token):
            body = token[1:-1].replace("\\", r"\\")
            return f"[^{body[1:]}]" if body.startswith("!") else f"[{body}]"
        return re.escape(token)

    return "^" + "".join(map(translated, tokens)) + "$"


def _scan_list(asked: str, uri: str) -> Manifest:
    parent, _, name = uri.rpartition("/")
    try:
        data = open_store(parent or "/", create=False).read(name)
    except NotFound as error:
        raise InputError(f"{asked} does not exist; give a folder, or a CSV or Parquet list") from error
    try:
        table = _read_list(name, data)
        column = _uri_column(asked, table)
        given = table[column].cast(pa.string()).to_pylist()
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{asked} cannot be read as a list: {str(error).splitlines()[0]}") from error
    if not given:
        raise InputError(f"{asked} lists no images")
    empty = next((i for i, value in enumerate(given, 1) if not value), None)
    if empty is not None:
        raise InputError(f"{asked}: row {empty} has no {column}")
    uris = pa.array([_from_list(value, parent) for value in given], pa.string())
    row = pc.index(pc.match_substring_regex(uris, _MAY_HOLD_A_KEY), True).as_py() + 1
    if row:
        raise InputError(
            f"{asked}: row {row} is a web address, or holds keys, which would stand in the run's files; name "
            "images as s3://bucket/key, and give keys by AWS_PROFILE or AWS_ACCESS_KEY_ID"
        )
    return Manifest("", pa.table([uris, pa.nulls(len(uris), pa.int64())], SCHEMA))


def _read_list(name: str, data: bytes) -> pa.Table:
    if not name.lower().endswith(".csv"):
        return pq.read_table(io.BytesIO(data))
    as_text = pyarrow.csv.ConvertOptions(column_types=dict.fromkeys(URI_COLUMNS, pa.string()))
    return pyarrow.csv.read_csv(io.BytesIO(data), convert_options=as_text)


def _uri_column(asked: str, table: pa.Table) -> str:
    named = [c for c in URI_COLUMNS if table.column_names.count(c) == 1]
    if named:
        return named[0]
    have = ", ".join(table.column_names)
    raise InputError(
        f"{asked} needs a first line with a column named {' or '.join(URI_COLUMNS)}, once; it has {have}"
    )


def _from_list(value: str, parent: str) -> str:
    """A uri of a list: what is relative is relative to the list's folder."""
    if "://" in value or value.startswith("/"):
        return value
    return f"{parent}/{PurePosixPath(value)}"


def _one_file(asked: str, uri: str) -> Manifest:
    size = size_of(uri)
    if size is None:
        fix = "an image or a folder" if re.search(_IMAGE, uri) else "a folder of images"
        raise InputError(f"{asked} does not exist; give {fix}")
    if not re.search(_IMAGE, uri):
        raise InputError(f"{asked} is no image by its name; accepted are {' '.join(EXTENSIONS)}")
    table = pa.table([[uri], [size]], SCHEMA)
    return Manifest(uri.rpartition("/")[0], table)
