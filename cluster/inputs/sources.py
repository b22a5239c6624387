"""The sources of images: local folders and buckets, each image addressed by its uri.

We do not choose the names of images. object_store, on which :mod:`cluster.storage.store` rests, cannot
address a name with a control character, an empty part or a "..". So local files are read through the
operating system (:mod:`cluster.inputs.local_files`), and such keys of S3 through boto3
(:mod:`cluster.inputs.bucket_objects`).
"""

from __future__ import annotations

import re
import stat
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from cluster.inputs.bucket_objects import (
    bucket_and_key,
    describe_remote,
    list_odd,
    read_remote,
    read_remote_range,
    remember_readable,
    try_to_read,
    walk_remote,
)
from cluster.inputs.local_files import (
    bounded,
    describe_local,
    local_path,
    local_uri,
    read_local,
    read_local_range,
    walk_local,
)
from cluster.inputs.locations import Broken, Cell, Container, Location, Member, changed
from cluster.inputs.parquet_cells import ParquetCells
from cluster.inputs.unreadable import WITHOUT_URI, Unreadable
from cluster.storage import hub_datasets
from cluster.storage.store import NotFound, Unaddressable, open_store, patience_seconds

__all__ = [
    "WITHOUT_URI",
    "Unreadable",
    "bounded",
    "describe",
    "exists",
    "local_path",
    "local_uri",
    "read_image",
    "read_member",
    "remember_readable",
    "size_of",
    "try_to_read",
    "walk",
]


def read_image(uri: str, check: Callable[[int], None], location: Location | None = None) -> bytes:
    """Read the bytes of an image.

    Args:
        uri: a local path, file://, s3://, gs:// or az://.
        check: is called with the size before any byte is fetched, and raises to refuse it.
        location: where the image is; None if it is a separate file, at ``uri``.

    Raises:
        Unreadable: this image cannot be read.
        Outage: the store is unavailable, which is not the image's fault.
        Refused: the store refuses other objects too, so the credentials are at fault.
        MachineFault: this machine's disk or mount fails, which is not the image's fault either.
    """
    if isinstance(location, Broken):
        raise Unreadable("unreadable", location.problem)
    if isinstance(location, Cell):
        return _cells.read(uri, location, check)
    if location is not None:
        check(location.size)
        return read_member(location)
    if _is_remote(uri):
        return read_remote(uri, check)
    if re.match(WITHOUT_URI, uri):
        raise Unreadable("missing", f"{uri}: this row of the list names no image")
    return read_local(uri, check)


def read_member(member: Member) -> bytes:
    """Read a part of a container.

    Raises:
        Unreadable: it cannot be read, or the container has changed since it was listed.
        Outage, Refused, MachineFault: as of :func:`read_image`.
    """
    uri = member.container.uri
    if member.size:
        return read_remote_range(member) if _is_remote(uri) else read_local_range(member)
    if describe(uri) != member.container:  # no request can be made for a range without bytes
        raise Unreadable("unreadable", changed(uri, "its size, or when it was written"))
    return b""


_cells = ParquetCells(read_member)
"""Keeps parts of the files that this process reads from."""


def describe(uri: str) -> Container:
    """Size and version of a file or object.

    Raises:
        Unreadable, Outage, Refused, MachineFault: as of :func:`read_image`.
    """
    return describe_remote(uri) if _is_remote(uri) else describe_local(uri)


def _is_remote(uri: str) -> bool:
    return "://" in uri and not uri.startswith("file://")


def walk(root: str, vanished: Callable[[str], None] = lambda folder: None) -> Iterator[tuple[str, int]]:
    """List (uri, bytes) of every object under a folder or prefix, in no particular order.

    An object may be listed twice.

    Args:
        vanished: is called with each folder that was removed or renamed while it was listed, so that its
            listing is incomplete.

    Raises:
        NotFound: the folder does not exist.
        StoreError: it cannot be listed, or was replaced while it was.
        Outage: its store or mount does not answer.
    """
    if "://" in root:
        yield from walk_remote(root)
        return
    yield from walk_local(root, vanished)


def exists(uri: str) -> bool:
    """Whether a file, folder, object or prefix of this name exists."""
    if "://" not in uri:
        return bounded(uri, Path(uri).exists)
    if uri.startswith(hub_datasets.PREFIX):
        return _exists_on_hub(uri)
    if not re.fullmatch(r"[\w.-]+", uri.split("/")[2]):
        return False  # not a valid name of a bucket
    return next(walk_remote(uri), None) is not None or size_of(uri) is not None


def _exists_on_hub(uri: str) -> bool:
    with suppress(NotFound):
        return next(walk_remote(uri), None) is not None
    return size_of(uri) is not None


def size_of(uri: str) -> int | None:
    """Bytes of one object; None if it does not exist or is not a regular file."""
    if "://" not in uri or uri.startswith("file://"):
        try:
            about = bounded(uri, local_path(uri).stat)
        except (OSError, ValueError):
            return None
        return about.st_size if stat.S_ISREG(about.st_mode) else None
    parent, _, name = uri.rpartition("/")
    try:
        if uri.startswith(hub_datasets.PREFIX):
            return hub_datasets.size_of(uri, patience_seconds())
        return open_store(parent).size(name)
    except NotFound:
        return None
    except Unaddressable:
        if not uri.startswith("s3://"):
            raise
        store, key = bucket_and_key(uri)
        # S3 lists in order, so the key itself comes before the longer keys that begin with it.
        found = dict(list_odd(store.url, key, limit=1))
        return found.get(uri)
