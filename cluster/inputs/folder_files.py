"""The files of a folder or prefix: all of them, sorted, and which are images."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice
from urllib.parse import quote_from_bytes

import pyarrow as pa
import pyarrow.compute as pc

from cluster.inputs.formats import EXTENSIONS
from cluster.inputs.hidden import hidden
from cluster.inputs.manifest import SCHEMA, InputError, Manifest
from cluster.inputs.sources import walk
from cluster.run.layout import MANIFEST_FILE, RUN_FILE
from cluster.storage.store import NotFound

_BATCH = 50_000
IMAGE = r"(?i)[^/](" + "|".join(re.escape(e) for e in EXTENSIONS) + ")$"
"""Recognises images by their extension alone; their contents are checked when they are decoded."""
_EXTENSION = r"(?P<extension>\.[A-Za-z0-9_]{1,10})$"
"""Extensions that are counted by name. Longer or stranger ones are not repeated: names may contain
anything."""


def listed_files(shown_as: str, root: str) -> tuple[pa.Table, int]:
    """All files under a folder or prefix, each once, sorted by uri; and the number of vanished folders."""
    vanished: list[str] = []
    try:
        table = _table(walk(root, vanished.append))
    except NotFound as error:
        raise InputError(f"{shown_as} does not exist; give a folder of images") from error
    # A string array holds at most 2 GiB, and Table.sort_by would make a single one of all uris. So they are
    # sorted as large strings, and taken in batches.
    uris = table["uri"].cast(pa.large_string()).combine_chunks()
    order = pc.sort_indices(uris)
    if len(order) > 1:
        ordered = uris.take(order)
        new = pc.not_equal(ordered[1:], ordered[:-1])
        order = order.filter(pa.concat_arrays([pa.array([True]), new]))
        del ordered
    parts = [order[start : start + _BATCH] for start in range(0, len(order), _BATCH)]
    sizes = table["bytes"].combine_chunks()
    columns = ([uris.take(part).cast(pa.string()), sizes.take(part)] for part in parts)
    ordered = pa.Table.from_batches([pa.record_batch(column, SCHEMA) for column in columns], SCHEMA)
    return ordered, len(vanished)


def _table(found: Iterator[tuple[str, int]]) -> pa.Table:
    """A listing as a table, in batches: a million names never exist as Python objects at the same time."""
    batches = []
    while batch := list(islice(found, _BATCH)):
        uris, sizes = zip(*batch, strict=True)
        batches.append(pa.record_batch([pa.array(uris, pa.string()), pa.array(sizes, pa.int64())], SCHEMA))
    return pa.Table.from_batches(batches, SCHEMA)


def images_of(
    table: pa.Table, root: str, named: Sequence[str] = (), vanished: int = 0, pattern: str = IMAGE
) -> Manifest:
    """The images of a listing, without hidden files and the pictures in run folders.

    Args:
        named: regular expressions of hidden parts of paths that the user gave by name.
        vanished: how many folders are listed incompletely.
        pattern: what an image's uri matches.
    """
    uris = table["uri"]
    left_out = hidden(below(uris, root), named)
    kinds = Counter({"hidden": pc.sum(left_out).as_py() or 0, "vanished": vanished})
    manifests = pc.filter(uris, pc.ends_with(uris, f"/{MANIFEST_FILE}")).to_pylist()
    folders = pa.array([uri.removesuffix(MANIFEST_FILE) for uri in manifests], pa.string())
    runs = pc.binary_join_element_wise(folders, pa.scalar(RUN_FILE), "")
    there = pc.filter(uris, pc.is_in(uris, runs)).combine_chunks()
    for folder in folders.filter(pc.is_in(runs, there)).to_pylist():
        inside = pc.and_not(pc.starts_with(uris, folder), left_out)
        kinds["in runs of audits"] += pc.sum(inside).as_py()
        left_out = pc.or_(left_out, inside)
    image = pc.match_substring_regex(uris, pattern)
    kinds.update(_extensions(uris.filter(pc.invert(pc.or_(image, left_out)))))
    images = table.filter(pc.and_not(image, left_out))
    return Manifest(
        root,
        images,
        table.num_rows - images.num_rows + vanished,
        dict(sorted((+kinds).items(), key=lambda kind: (-kind[1], kind[0]))),
    )


def _extensions(uris: pa.ChunkedArray) -> Counter[str]:
    """The number of files by extension, in lower case."""
    extension = pc.struct_field(pc.extract_regex(uris, _EXTENSION), "extension")
    counts = pc.utf8_lower(extension).value_counts().to_pylist()
    return Counter({found["values"] or "other": found["counts"] for found in counts})


def below(uris: pa.ChunkedArray, root: str) -> pa.ChunkedArray:
    """Paths below a folder, with a leading "/"."""
    quoted = "file://" + quote_from_bytes(os.fsencode(root))  # for names that are not UTF-8
    begin = "|".join(re.escape(start.rstrip("/")) for start in (root, quoted))
    return pc.replace_substring_regex(uris, f"^(?:{begin})/", "/", max_replacements=1)
