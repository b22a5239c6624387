"""Lists containers (tar, Parquet and Arrow files) in parallel and in order, and joins what is in them.

A plan that was killed resumes with the containers that are not listed yet.
"""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

import numpy as np
import pyarrow as pa

from cluster.inputs import locations
from cluster.inputs.locations import Container
from cluster.inputs.manifest import Manifest
from cluster.inputs.sources import Unreadable, describe
from cluster.inputs.typed_rows import joined
from cluster.storage.parallel import map_in_order

SCHEMA = pa.schema(
    [("uri", pa.string()), ("bytes", pa.int64()), ("offset", pa.int64()), ("problem", pa.string())]
)
"""Columns of a listing; it may have others, of what is known of each input. A row with a problem is of an
input, or of the container itself, that cannot be read."""
MOST_COLUMNS = 256
_CELLS = locations.CELL_SCHEMA.names
_THREADS = 8
"""Containers that are listed at once."""
_BATCH = 50_000

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ContainerListing:
    """The inputs of a container."""

    table: pa.Table
    """Columns of SCHEMA, ``container_row`` if they are cells, and those of what is known of each input."""
    skipped: Counter[str] = field(default_factory=Counter)
    """The number of members, columns and values that were skipped, by kind."""

    def to_table(self) -> pa.Table:
        """As one table, to be kept."""
        return self.table.replace_schema_metadata({"skipped": json.dumps(self.skipped)})

    @classmethod
    def from_table(cls, table: pa.Table) -> ContainerListing:
        """What :meth:`to_table` returned.

        Raises:
            ValueError: it is something else.
        """
        metadata = table.schema.metadata or {}
        if b"skipped" not in metadata:
            raise ValueError("not the listing of a container")
        return cls(table.replace_schema_metadata(None), Counter(json.loads(metadata[b"skipped"])))

    @classmethod
    def of_problem(cls, uri: str, problem: str | None) -> ContainerListing:
        """The listing of a container of which nothing can be read; without a problem if it is missing."""
        return cls(pa.Table.from_pylist([{"uri": uri, "problem": problem}], SCHEMA))


class Kept(Protocol):
    """Keeps listings until all containers are listed: :class:`cluster.inputs.kept_listings.KeptListings`."""

    def load(self, container: Container, how: str = "") -> ContainerListing | None:
        """The listing of a container; None if there is none."""

    def save(self, container: Container, listing: ContainerListing, how: str = "") -> None:
        """Keep the listing of a container."""


@dataclass(frozen=True)
class Listed:
    """A container that was listed."""

    uri: str
    container: Container | None
    """None if it is missing."""
    listing: ContainerListing


def list_containers(
    uris: Sequence[str],
    list_one: Callable[[Container], ContainerListing],
    kept: Kept | None = None,
    how: str = "",
) -> list[Listed]:
    """The listings of containers, each once, in their order.

    Args:
        uris: of the containers.
        list_one: lists one.
        kept: keeps each listing until all containers are listed.
        how: the settings that decide what a listing contains.

    Raises:
        Outage, Refused, MachineFault: a store or disk fails.
    """
    names = list(dict.fromkeys(uris))
    if len(names) > 1:
        _log.info("listing %d container files", len(names))
    keep = kept if len(names) > 1 else None
    return list(map_in_order(partial(_listed, list_one=list_one, kept=keep, how=how), names, _THREADS))


def _listed(
    uri: str, list_one: Callable[[Container], ContainerListing], kept: Kept | None, how: str
) -> Listed:
    try:
        container = describe(uri)
    except Unreadable as error:
        # One that is missing gets a row like a missing file: a different machine may have it.
        missing = error.reason_code == "missing"
        listing = ContainerListing.of_problem(uri, None if missing else error.message)
        return Listed(uri, None if missing else Container(uri, 0, None), listing)
    if kept and (earlier := kept.load(container, how)):
        return Listed(uri, container, earlier)
    listing = list_one(container)
    if kept:
        kept.save(container, listing, how)
    return Listed(uri, container, listing)


def manifest_of(
    source: str, found: Sequence[Listed], skipped: Mapping[str, int] = {}, column: str | None = None
) -> Manifest:
    """The manifest of containers that were listed.

    Args:
        source: the folder or prefix of all containers.
        skipped: the number of files that were skipped beside them, by kind.
        column: the name of the column of images, of cells.
    """
    kinds = sum((one.listing.skipped for one in found), Counter(skipped))
    ordered = dict(sorted((+kinds).items(), key=lambda kind: (-kind[1], kind[0])))
    return Manifest(source, _joined(found, column), kinds.total(), ordered)


def _joined(found: Sequence[Listed], column: str | None) -> pa.Table:
    """The manifest's table of all containers."""
    fixed = SCHEMA if column is None else SCHEMA.append(locations.CELL_SCHEMA.field("container_row"))
    table = joined([one.listing.table for one in found], fixed, MOST_COLUMNS)
    counts = [one.listing.table.num_rows for one in found]
    place = pa.array(np.repeat(np.arange(len(found), dtype=np.int32), counts))
    containers = [one.container for one in found]
    sizes = pa.array([c.size if c else None for c in containers], pa.int64())
    columns = {
        "uri": table["uri"],
        "bytes": table["bytes"],
        "container": _named(place, [c.uri if c else None for c in containers]),
        "container_bytes": sizes.take(place),
        "container_version": _named(place, [c.version if c else None for c in containers]),
        "offset": table["offset"],
        "problem": table["problem"],
    }
    if column is not None:
        columns["container_row"] = table["container_row"]
        columns["container_column"] = _named(place, [column] * len(found))
    columns |= {name: table[name] for name in table.column_names if name not in fixed.names}
    whole = pa.table(columns)
    # Few chunks: rows are looked up by their numbers. A text column of one chunk holds at most 2 GiB.
    return pa.concat_tables(
        whole.slice(start, _BATCH).combine_chunks() for start in range(0, max(1, whole.num_rows), _BATCH)
    )


def _named(place: pa.Array, names: Sequence[str | None]) -> pa.Array:
    """A name for each row, by the number of its container; each name is held once."""
    places = {name: place for place, name in enumerate(dict.fromkeys(filter(None, names)))}
    index = pa.array([places[name] if name else None for name in names], pa.int32())
    return pa.DictionaryArray.from_arrays(index.take(place), pa.array(places, pa.string()))
