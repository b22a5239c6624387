"""A WebDataset: tar files whose members are the images, listed by their headers, in parallel and in order.

One request an image reads its bytes later; listing takes about as many, fewer if images are small. Shards are
read by ranges: a store that has none is refused.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cluster.inputs import shards
from cluster.inputs.kept_listings import KeptListings
from cluster.inputs.locations import Container
from cluster.inputs.manifest import InputError, Manifest
from cluster.inputs.shards import ShardListing, list_shard
from cluster.inputs.siblings import MOST_COLUMNS
from cluster.inputs.sources import Unreadable, describe
from cluster.inputs.typed_rows import joined
from cluster.storage.parallel import map_in_order

SHARD = r"(?i)[^/]\.tar$"
"""Recognises shards by their extension."""
_COMPRESSED = re.compile(r"(?i)\.(?:tar\.(?:gz|bz2|xz|zst|lz4|br|z)|tgz|tbz2?|txz|tzst)$")
_THREADS = 8
"""Shards that are listed at once."""
_BATCH = 50_000

_log = logging.getLogger(__name__)


def check_compression(shown_as: str, uri: str) -> None:
    """Refuse a compressed tar: no part of it can be read without all that is before.

    Raises:
        InputError: it is one, by its name.
    """
    if _COMPRESSED.search(uri):
        raise InputError(
            f"{shown_as} is a compressed tar, of which no single image can be read; decompress it to .tar "
            "(gunzip, bunzip2, unxz or zstd -d): images are compressed already"
        )


def read_shards(
    shown_as: str,
    source: str,
    uris: Sequence[str],
    kept: KeptListings | None = None,
    skipped: Mapping[str, int] = {},
) -> Manifest:
    """The images of shards, in the order of the shards and of their members.

    Args:
        shown_as: the input as the user named it, for messages.
        source: the folder or prefix of all shards.
        kept: keeps the listing of each shard until all are listed.
        skipped: the number of files that were skipped beside the shards, by kind.

    Raises:
        InputError: no shard has an image.
        Outage, Refused, MachineFault: a store or disk fails.
    """
    names = list(dict.fromkeys(uris))
    if len(names) > 1:
        _log.info("listing %d tar files", len(names))
    keep = kept if len(names) > 1 else None
    found = list(map_in_order(partial(_listed, kept=keep), names, _THREADS))
    kinds = sum((one.listing.skipped for one in found), Counter(skipped))
    table = _joined(found)
    if not pc.any(pc.is_valid(table["offset"])).as_py():
        raise _without_images(shown_as, table, kinds)
    ordered = dict(sorted((+kinds).items(), key=lambda kind: (-kind[1], kind[0])))
    return Manifest(source, table, kinds.total(), ordered)


@dataclass(frozen=True)
class _Listed:
    """A shard that was listed."""

    uri: str
    container: Container | None
    """None if there is no such shard."""
    listing: ShardListing


def _listed(uri: str, kept: KeptListings | None) -> _Listed:
    try:
        container = describe(uri)
    except Unreadable as error:
        # One that is missing gets a row like a missing file: a different machine may have it.
        missing = error.reason_code == "missing"
        row = {"uri": uri, "problem": None if missing else error.message}
        listing = ShardListing(pa.Table.from_pylist([row], shards.SCHEMA))
        return _Listed(uri, None if missing else Container(uri, 0, None), listing)
    if kept and (earlier := kept.load(container)):
        return _Listed(uri, container, earlier)
    listing = list_shard(container)
    if kept:
        kept.save(container, listing)
    return _Listed(uri, container, listing)


def _joined(found: Sequence[_Listed]) -> pa.Table:
    """The manifest's table of all shards."""
    table = joined([one.listing.table for one in found], shards.SCHEMA, MOST_COLUMNS)
    counts = [one.listing.table.num_rows for one in found]
    shard = pa.array(np.repeat(np.arange(len(found), dtype=np.int32), counts))
    containers = [one.container for one in found]
    sizes = pa.array([c.size if c else None for c in containers], pa.int64())
    columns = {
        "uri": table["uri"],
        "bytes": table["bytes"],
        "container": _named(shard, [c.uri if c else None for c in containers]),
        "container_bytes": sizes.take(shard),
        "container_version": _named(shard, [c.version if c else None for c in containers]),
        "offset": table["offset"],
        "problem": table["problem"],
        **{name: table[name] for name in table.column_names if name not in shards.SCHEMA.names},
    }
    whole = pa.table(columns)
    # Few chunks: rows are looked up by their numbers. A text column of one chunk holds at most 2 GiB.
    return pa.concat_tables(
        whole.slice(start, _BATCH).combine_chunks() for start in range(0, max(1, whole.num_rows), _BATCH)
    )


def _named(shard: pa.Array, names: Sequence[str | None]) -> pa.Array:
    """A name for each row, by the number of its shard; each name is held once."""
    places = {name: place for place, name in enumerate(dict.fromkeys(filter(None, names)))}
    index = pa.array([places[name] if name else None for name in names], pa.int32())
    return pa.DictionaryArray.from_arrays(index.take(shard), pa.array(places, pa.string()))


def _without_images(shown_as: str, table: pa.Table, kinds: Counter[str]) -> InputError:
    problems = table["problem"].drop_null()
    if len(problems):
        return InputError(f"{shown_as} contains no image that can be read: {problems[0]}")
    if table.num_rows:
        return InputError(f"{shown_as} does not exist; give a folder of images or of .tar files")
    skipped = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common(8))
    return InputError(
        f"{shown_as}: no member is an image by its extension" + f"; skipped {skipped}" * bool(skipped)
    )
