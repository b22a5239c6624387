"""Where the images come from: any number of folders and buckets, each image by its uri.

Names of images are not ours to choose. object_store, on which :mod:`cluster.storage.store` stands, cannot
address a name with a control character, an empty part or a ".."; what lies in a local folder is therefore
read through the operating system, and such keys of S3 through boto3.
"""

from __future__ import annotations

import errno
import itertools
import os
import re
import socket
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote_from_bytes, unquote_to_bytes, urlsplit

import obstore

from cluster.inputs.hidden import is_hidden
from cluster.storage.aws import s3_errors
from cluster.storage.bounds import Late, arrived, expect, within
from cluster.storage.store import (
    NOBODYS,
    NotFound,
    Outage,
    Refused,
    Store,
    StoreError,
    Unaddressable,
    open_store,
    patience_seconds,
)
from cluster.storage.store_errors import no_store
from cluster.storage.store_fixes import ARCHIVED
from originality.contract.faults import MachineFault, is_machine_fault
from originality.contract.redaction import Masked, masked

_OBJECT_PATIENCE_SECONDS = 60.0
"""For how long an object is asked for before it is found out whether its store is out, or only it."""


_OF_A_FILE = frozenset({errno.EIO, errno.EBADMSG, getattr(errno, "EUCLEAN", errno.EIO)})
"""Errors of the system that a damaged file alone gives too, beside others that can be read."""
_GONE = frozenset({errno.ENOENT, errno.ENOTDIR, getattr(errno, "ESTALE", errno.ENOENT)})
"""Errors of the system over what was removed or renamed since its name was read."""
_MOST_BESIDE = 50
"""Files beside one that are tried."""
_READ_SECONDS = 300.0
"""A local file, or an object by boto3, comes in this time and that for its bytes, or it hangs. A server of
files that starts anew is waited for."""
_PIECE_BYTES = 2**20
_LISTED_AT_ONCE = 10_000
"""Local files of a listing that come in one bounded call."""

T = TypeVar("T")

_readable: dict[str, str] = {}
"""By bucket, the key of an object that could be read: it shows, where another one is refused, that the store
does not refuse them all."""


WITHOUT_URI = r"^([^/:]+, )?row \d+ without a uri$"
"""Stands for the uri of a list's row that has none, so that the row is an input and has its result."""


def without_uri(row: int, part: str = "") -> str:
    """What stands for the uri of a row, counted from 1; ``part``: of a list in parts, the one meant."""
    return f"{part.rpartition('/')[2].replace(':', '_')}, row {row} without a uri".removeprefix(", ")


class Unreadable(Masked):
    """One input whose bytes cannot be had, through no fault of the store as a whole."""

    def __init__(self, reason_code: str, message: str) -> None:
        super().__init__(reason_code, message)
        self.reason_code = reason_code
        """Stable: missing, unreadable, or what ``check`` says."""
        self.message = masked(message)

    def __str__(self) -> str:
        return self.message


def read_image(uri: str, check: Callable[[int], None]) -> bytes:
    """The bytes behind a uri: a local path, file://, s3://, gs:// or az://.

    ``check`` is told the size before any byte is fetched, and raises to refuse it.

    Raises:
        Unreadable: this one cannot be read.
        Outage: the store is out of reach, which says nothing of the image.
        MachineFault: this machine's disk or mount fails, which says nothing of it either.
    """
    if "://" in uri and not uri.startswith("file://"):
        return _read_remote(uri, check)
    if re.match(WITHOUT_URI, uri):
        raise Unreadable("missing", f"{uri}: the list names no image there")
    try:
        return within(uri, _READ_SECONDS, lambda: _read_local(uri, check))
    except Late as error:
        if _others_answer(uri):
            raise Unreadable("unreadable", str(error)) from error
        raise MachineFault(f"{error} on {socket.gethostname()}; does its mount hang?") from error


def _read_local(uri: str, check: Callable[[int], None]) -> bytes:
    path = local_path(uri)
    try:
        about = path.stat()
        if not stat.S_ISREG(about.st_mode):  # a pipe would be waited for, a device read without end
            raise Unreadable("unreadable", f"{uri} is no regular file")
        check(about.st_size)
        expect(about.st_size)
        with path.open("rb") as file:
            data = _whole(file)
        check(len(data))
    except FileNotFoundError as error:
        raise Unreadable("missing", f"{uri} does not exist") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        damaged = getattr(error, "errno", None) in _OF_A_FILE and _reads_others(path)
        if is_machine_fault(error) and not damaged:
            raise MachineFault(f"{uri}: {reason} on {socket.gethostname()}") from error
        raise Unreadable("unreadable", f"{uri}: {reason}") from error
    return data


def _whole(file: Any) -> bytes:
    """What is left of a file, or of a body of boto3."""
    pieces = []
    while piece := file.read(_PIECE_BYTES):
        arrived(len(piece))
        pieces.append(piece)
    return b"".join(pieces)


def _others_answer(uri: str) -> bool:
    """Whether another file beside one that hangs can be read."""
    with suppress(Late):
        return within(uri, _READ_SECONDS, lambda: _reads_others(local_path(uri)))
    return False


def _reads_others(path: Path) -> bool:
    """Whether another file beside one can be read: then the disk or the mount works."""
    with suppress(OSError), os.scandir(path.parent) as entries:
        for entry in itertools.islice(entries, _MOST_BESIDE):
            with suppress(OSError):
                if entry.name != path.name and stat.S_ISREG(entry.stat().st_mode):
                    with open(entry.path, "rb") as file:  # noqa: PTH123
                        if file.read(1):
                            return True
    return False


def _read_remote(uri: str, check: Callable[[int], None]) -> bytes:
    """Where an object cannot be had though its store answers, it is the object.

    Raises:
        Refused: the store refuses others as well.
    """
    store, key = _object(uri)
    try:
        return _judged(store, key, check)
    except Outage:
        _wait_for(store.url)
    try:
        return _judged(store, key, check)
    except Outage as error:
        raise Unreadable("unreadable", str(error)) from error


def _judged(store: Store, key: str, check: Callable[[int], None]) -> bytes:
    """Tells apart by whose fault an object cannot be read.

    Raises:
        Unreadable: the object's.
        Outage: the store did not answer.
        Refused: the store refuses others as well.
    """
    try:
        data = _read_object(store, key, check)
    except Outage:
        raise
    except NotFound as error:
        raise Unreadable("missing", str(error)) from error
    except Refused as error:
        if error.of_all or _refuses_others(store, key, error):
            raise
        raise Unreadable("unreadable", str(error)) from error
    except StoreError as error:
        raise Unreadable("unreadable", str(error)) from error
    _readable[store.url] = key
    return data


def _refuses_others(store: Store, key: str, refusal: Refused) -> bool:
    """Whether the store refuses more than this object: one that could be read before, and one beside it that
    is not there. For the latter a store answers "forbidden" too, if the keys may not list."""
    if refusal.code in ARCHIVED:
        return False
    folder = itertools.takewhile(lambda part: part not in ("", ".", ".."), key.split("/")[:-1])
    beside = "/".join([*folder, NOBODYS])
    for other in filter(None, (_readable.get(store.url), beside)):
        try:
            store.about(other)
        except (NotFound, Unaddressable):
            return False
        except Refused:
            continue
        return False
    return True


def try_to_read(uri: str) -> str | None:
    """Opens an object without fetching it; its key, or None where that says nothing of its bucket.

    Raises:
        NotFound: there is none.
        Refused: the store refuses.
    """
    try:
        store, key = _object(uri)
        store.ask(key, lambda: obstore.get(store.objects, key))
    except Unreadable:
        return None
    except Refused as error:
        if error.code in ARCHIVED:
            return None
        raise
    return key


def remember_readable(found: Mapping[str, str]) -> None:
    """Takes over which objects another process could read, by bucket."""
    _readable.update(found)


def _object(uri: str) -> tuple[Store, str]:
    """The bucket of a uri, and its key.

    Raises:
        Unreadable: the uri names no object.
        StoreError: the bucket cannot be used.
    """
    scheme, _, rest = uri.partition("://")
    bucket, _, key = rest.partition("/")
    if not bucket or not key:
        raise Unreadable("unreadable", f"{uri} names no object")
    return _root(f"{scheme}://{bucket}"), key


def _read_object(store: Store, key: str, check: Callable[[int], None]) -> bytes:
    try:
        if key.startswith("/") or key.endswith("/"):  # which the driver would leave out
            raise Unaddressable(f"{store.url}/{key} cannot be addressed; rename it")
        return store.read(key, check)
    except Unaddressable:
        if store.s3 is None:
            raise
        return _read_odd_key(store, key, check)


def _read_odd_key(store: Store, key: str, check: Callable[[int], None]) -> bytes:
    return within(f"{store.url}/{key}", _READ_SECONDS, lambda: _ask_odd_key(store, key, check))


def _ask_odd_key(store: Store, key: str, check: Callable[[int], None]) -> bytes:
    assert store.s3
    bucket = store.url.removeprefix("s3://")
    with s3_errors(f"{store.url}/{key}", "GET"):
        found = store.s3.client.get_object(Bucket=bucket, Key=key, **store.s3.payer)
        if "ETag" not in found:
            raise no_store(f"{store.url}/{key}", "an object without ETag")
        check(found["ContentLength"])
        expect(found["ContentLength"])
        return _whole(found["Body"])


def _wait_for(root: str) -> None:
    """Until a store answers, whatever it says.

    Raises:
        Outage: the store is out of reach.
        Refused: the store would refuse every request.
    """
    try:
        open_store(root).exists(NOBODYS)
    except Outage:
        raise
    except Refused as error:
        if error.of_all:
            raise
    except StoreError:
        pass


@lru_cache(maxsize=64)
def _root(url: str) -> Store:
    return open_store(url, patience=min(_OBJECT_PATIENCE_SECONDS, patience_seconds()))


def local_path(uri: str) -> Path:
    """The file behind a path or a file:// uri, whose name may be any bytes."""
    if uri.startswith("file://"):
        return Path(os.fsdecode(unquote_to_bytes(urlsplit(uri).path)))
    return Path(uri)


def local_uri(path: str) -> str:
    """A local path as text that Arrow and JSON can hold: itself, or file:// where it is no UTF-8."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return "file://" + quote_from_bytes(os.fsencode(path))
    return path


def walk(root: str, vanished: Callable[[str], None] = lambda folder: None) -> Iterator[tuple[str, int]]:
    """(uri, bytes) of every object under a folder or prefix, in no order. ``vanished``: told of each folder
    that was removed or renamed while it was listed, and of which not all was told.

    Raises:
        NotFound: the folder does not exist.
        StoreError: it cannot be listed, or is another at the end.
        Outage: its store, or its mount, does not answer.
    """
    if "://" in root:
        yield from _walk_remote(root)
        return
    found = _walk_local(root, vanished)
    while some := bounded(root, lambda: list(itertools.islice(found, _LISTED_AT_ONCE))):
        yield from some


def bounded(path: str, call: Callable[[], T]) -> T:
    """What a call says of a local path, unless its mount hangs.

    Raises:
        Outage: it hangs.
    """
    try:
        return within(path, _READ_SECONDS, call)
    except Late as error:
        raise Outage(f"{error} on {socket.gethostname()}; does its mount hang?") from error


def _walk_local(root: str, vanished: Callable[[str], None]) -> Iterator[tuple[str, int]]:
    began = _which(root)
    if began is None:
        raise NotFound(f"{root} does not exist")
    seen: set[tuple[int, int]] = set()

    def pass_over(error: OSError) -> None:
        folder = str(error.filename)
        if is_hidden(folder.removeprefix(root)):  # as lost+found is to most people
            return
        if error.errno not in _GONE:
            raise StoreError(f"{folder}: {error.strerror}; make it readable or leave it out") from error
        vanished(folder)

    for folder, below, names in os.walk(root, onerror=pass_over, followlinks=True):
        try:
            here = os.stat(folder)  # noqa: PTH116
        except OSError as error:
            pass_over(error)
            below.clear()
            continue
        if (here.st_dev, here.st_ino) in seen:  # a link that leads back would lead round for ever
            below.clear()
            continue
        seen.add((here.st_dev, here.st_ino))
        for name in names:
            path = os.path.join(folder, name)  # noqa: PTH118 - a million times
            try:
                size = os.stat(path).st_size  # noqa: PTH116
            except OSError:
                size = 0  # a link to nothing, say; whoever reads it finds out
            yield local_uri(path), size
    if _which(root) != began:  # moved, or unmounted: what was missed then did not vanish folder by folder
        raise StoreError(f"{root} vanished while it was listed; bring it back and start again")


def _which(folder: str) -> tuple[int, int] | None:
    """Tells a folder from others that come in its place; None where there is none."""
    try:
        about = os.stat(folder)  # noqa: PTH116
    except OSError as error:
        if error.errno in _GONE:
            return None
        raise StoreError(f"{folder}: {error.strerror}; make it readable or leave it out") from error
    except ValueError:  # no system has such a name
        return None
    return (about.st_dev, about.st_ino) if stat.S_ISDIR(about.st_mode) else None


def _walk_remote(root: str) -> Iterator[tuple[str, int]]:
    try:
        store = open_store(root)
        odd = store.s3 is not None and root.count("/") == 2 and any(_list_odd(store.url, "/", limit=1))
        if not odd:
            for found in store.list():
                yield f"{root}/{found.path}", found.size
            return
    except Unaddressable:
        if not root.startswith("s3://"):
            raise
    # One odd key ends the listing, so all is listed anew; what was told already is told twice.
    prefix = root.removeprefix("s3://").partition("/")[2]
    yield from _list_odd("/".join(root.split("/")[:3]), f"{prefix}/" if prefix else "")


def _list_odd(bucket: str, prefix: str, limit: int | None = None) -> Iterator[tuple[str, int]]:
    """What a bucket of S3 lists, whatever the keys."""
    store = _root(bucket)
    assert store.s3
    pages = store.s3.client.get_paginator("list_objects_v2")
    name = bucket.removeprefix("s3://")
    with s3_errors(f"{bucket}/{prefix}", "LIST"):
        listing = iter(
            pages.paginate(Bucket=name, Prefix=prefix, PaginationConfig={"MaxItems": limit}, **store.s3.payer)
        )
        while (page := within(bucket, _READ_SECONDS, lambda: next(listing, None))) is not None:
            for item in page.get("Contents", ()):
                yield f"{bucket}/{item['Key']}", item["Size"]


def exists(uri: str) -> bool:
    """Whether there is a file or folder of this name, or an object or prefix."""
    if "://" not in uri:
        return bounded(uri, Path(uri).exists)
    if not re.fullmatch(r"[\w.-]+", uri.split("/")[2]):
        return False  # no bucket has such a name
    return next(_walk_remote(uri), None) is not None or size_of(uri) is not None


def size_of(uri: str) -> int | None:
    """Bytes of one object, or None where there is none."""
    if "://" not in uri or uri.startswith("file://"):
        try:
            about = bounded(uri, local_path(uri).stat)
        except (OSError, ValueError):
            return None
        return about.st_size if stat.S_ISREG(about.st_mode) else None
    parent, _, name = uri.rpartition("/")
    try:
        return open_store(parent).size(name)
    except NotFound:
        return None
    except Unaddressable:
        if not uri.startswith("s3://"):
            raise
        store, key = _object(uri)
        found = dict(_list_odd(store.url, key, limit=1))  # in order, so the key itself comes first
        return found.get(uri)
