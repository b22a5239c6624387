"""Where the bytes of an input are, if it is not a separate file: within a container, such as a tar file or a
Parquet file.

Such an input has a uri for people: that of its container, "#", and its name or row in there, as in
``s3://bucket/00000.tar#cats/0001.jpg``. It is unique, and only a name: nothing parses it, so a "#" in the
name of a file means nothing. What is needed to read the input is in columns of the manifest, which a
manifest without containers does not have.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

_NAME = pa.dictionary(pa.int32(), pa.string())
SCHEMA = pa.schema(
    [
        ("container", _NAME),  # its uri; null for a separate file
        ("container_bytes", pa.int64()),
        ("container_version", _NAME),  # as of Container
        ("offset", pa.int64()),  # of the first byte within the container
        ("problem", pa.string()),  # why nothing can be read here; null if nothing is known against it
    ]
)
"""Columns of a manifest of which some inputs are in containers."""
CELL_SCHEMA = pa.schema([("container_row", pa.int64()), ("container_column", _NAME)])
"""Further columns of a manifest of which some inputs are rows of tables, with or without an offset."""


@dataclass(frozen=True)
class Container:
    """A file that holds several inputs, as it was when it was listed."""

    uri: str
    size: int
    """Bytes."""
    version: str | None
    """Changes with every write: the entity tag of an object, the time of the last write of a local file in
    nanoseconds. None if the store has none."""


@dataclass(frozen=True)
class Member:
    """A range of bytes of a container."""

    container: Container
    offset: int
    size: int
    """Bytes."""


@dataclass(frozen=True)
class Cell:
    """An image in a row of a Parquet file. Its size is unknown until it is read."""

    container: Container
    row: int
    """Counted from 0 through all row groups of the file."""
    column: str
    """Name of the column of images."""


@dataclass(frozen=True)
class Broken:
    """An input known to be unreadable since it was listed: the damaged rest of a container."""

    container: str
    """Its uri."""
    problem: str
    """Why, in one line."""


Location = Member | Cell | Broken


def file_of(uri: str, location: Location | None) -> str:
    """The uri of the file in which an input is."""
    match location:
        case Member(container) | Cell(container):
            return container.uri
        case Broken(container):
            return container
    return uri


def location_of(row: Mapping[str, Any], size: int | None) -> Location | None:
    """The location in a row of SCHEMA, and of CELL_SCHEMA if the manifest has it; None for a separate file.
    ``size``: of the input, in bytes."""
    if row["container"] is None:
        return None
    if row["problem"] is not None:
        return Broken(row["container"], row["problem"])
    container = Container(row["container"], row["container_bytes"], row["container_version"])
    if row["offset"] is None:
        return Cell(container, row["container_row"], row["container_column"])
    return Member(container, row["offset"], size or 0)


def changed(uri: str, how: str) -> str:
    """The message for a container that is not the one that was listed. ``how``: what differs."""
    return f"{uri} has changed since it was listed ({how}); restore it, or audit it into a new folder"
