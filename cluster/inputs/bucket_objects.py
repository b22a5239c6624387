"""Reads and lists images in buckets.

Keys may be anything; an error is attributed to the object or to the store.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import Any, TypeVar

import obstore

from cluster.inputs.local_files import READ_SECONDS
from cluster.inputs.locations import Container, Member, changed
from cluster.inputs.unreadable import Unreadable
from cluster.storage import hub_datasets
from cluster.storage.aws import s3_errors
from cluster.storage.bounds import call_within, expect_bytes, read_in_pieces
from cluster.storage.hub_datasets import HubPath
from cluster.storage.store import (
    ABSENT_KEY,
    Changed,
    NotFound,
    Outage,
    Refused,
    Store,
    StoreError,
    Unaddressable,
    open_store,
    patience_seconds,
)
from cluster.storage.store_errors import not_a_store
from cluster.storage.store_fixes import ARCHIVED

OBJECT_PATIENCE_SECONDS = 60.0
"""Seconds for which a request for one object is retried, before it is checked whether the store is out or
only this object fails."""

_readable: dict[str, str] = {}
"""By bucket, the key of an object that could be read. If another object is refused, this one shows whether
the store refuses all of them."""


T = TypeVar("T")


def read_remote(uri: str, check: Callable[[int], None]) -> bytes:
    """Read an object. ``check`` is called with its size before any byte is fetched, and raises to refuse it.

    Raises:
        Unreadable, Outage, Refused: as of :func:`_attributed`.
    """
    return _attributed(uri, lambda store, key: _read_object(store, key, check))


def read_remote_range(member: Member) -> bytes:
    """Read a part of an object.

    Raises:
        Unreadable: also if the object is not the one that was listed.
        Outage, Refused: as of :func:`_attributed`.
    """
    return _attributed(member.container.uri, lambda store, key: _read_range(store, key, member))


def describe_remote(uri: str) -> Container:
    """Size and version of an object.

    Raises:
        Unreadable, Outage, Refused: as of :func:`_attributed`.
    """
    if uri.startswith(hub_datasets.PREFIX):
        return _attributed(uri, lambda store, key: Container(uri, _size_on_hub(uri), None))
    return _attributed(uri, lambda store, key: Container(uri, *_describe(store, key)))


def _size_on_hub(uri: str) -> int:
    return hub_datasets.size_of(uri, min(OBJECT_PATIENCE_SECONDS, patience_seconds()))


def _attributed(uri: str, request: Callable[[Store, str], T]) -> T:
    """Request an object. If that fails while the store answers other requests, the object is at fault.

    Args:
        request: makes the request, with the bucket and the key.

    Raises:
        Unreadable: the object is at fault.
        Outage: the store is unavailable.
        Refused: the store refuses other objects too.
    """
    store, key = bucket_and_key(uri)
    try:
        return _attributed_once(store, key, request)
    except Outage:
        _wait_for(store.url)
    try:
        return _attributed_once(store, key, request)
    except Outage as error:
        raise Unreadable("unreadable", str(error)) from error


def _attributed_once(store: Store, key: str, request: Callable[[Store, str], T]) -> T:
    """Request an object, and attribute a failure to the object or to the store.

    Raises:
        Unreadable: the object is at fault.
        Outage: the store did not answer.
        Refused: the store refuses other objects too.
    """
    try:
        found = request(store, key)
    except Outage:
        raise
    except NotFound as error:
        raise Unreadable("missing", str(error)) from error
    except Changed as error:
        raise Unreadable("unreadable", _changed(store, key, error)) from error
    except Refused as error:
        if error.refuses_all or _refuses_others(store, key, error):
            raise
        raise Unreadable("unreadable", str(error)) from error
    except StoreError as error:
        raise Unreadable("unreadable", str(error)) from error
    _readable[store.url] = key
    return found


def _changed(store: Store, key: str, error: Changed) -> str:
    where = f"{store.url}/{key}"
    return changed(where, str(error).removeprefix(f"{where}: "))


def _refuses_others(store: Store, key: str, refusal: Refused) -> bool:
    """Whether the store refuses more than this object.

    Two others are tried: one that could be read before, and an absent one in the same folder. The latter
    alone would not do: to credentials that may not list, a store answers "forbidden" for absent objects too.
    """
    if refusal.code in ARCHIVED:
        return False
    folder = itertools.takewhile(lambda part: part not in ("", ".", ".."), key.split("/")[:-1])
    beside = "/".join([*folder, ABSENT_KEY])
    for other in filter(None, (_readable.get(store.url), beside)):
        try:
            store.metadata(other)
        except (NotFound, Unaddressable):
            return False
        except Refused:
            continue
        return False
    return True


def try_to_read(uri: str) -> str | None:
    """Open an object without fetching it. Its key if it can be read; None if that shows nothing about its
    bucket.

    Raises:
        NotFound: the object does not exist.
        Refused: the store refuses it.
    """
    try:
        store, key = bucket_and_key(uri)
        store.request(key, lambda: obstore.get(store.objects, key))
    except Unreadable:
        return None
    except Refused as error:
        if error.code in ARCHIVED:
            return None
        raise
    return key


def remember_readable(found: Mapping[str, str]) -> None:
    """Note objects that another process could read: a key for each bucket."""
    _readable.update(found)


def bucket_and_key(uri: str) -> tuple[Store, str]:
    """The bucket and the key of a uri.

    Raises:
        Unreadable: the uri names no object.
        StoreError: the bucket cannot be used.
    """
    if uri.startswith(hub_datasets.PREFIX):
        place = HubPath.parse(uri)
        if not place.path:
            raise Unreadable("unreadable", f"{uri} is not the uri of a file")
        return _dataset(place.root, hub_datasets.endpoint()), place.path
    scheme, _, rest = uri.partition("://")
    bucket, _, key = rest.partition("/")
    if not bucket or not key:
        raise Unreadable("unreadable", f"{uri} is not the uri of an object")
    return _root(f"{scheme}://{bucket}"), key


def _read_object(store: Store, key: str, check: Callable[[int], None]) -> bytes:
    return _by_either(store, key, lambda: store.read(key, check), lambda: _get_odd_key(store, key, check))


def _read_range(store: Store, key: str, member: Member) -> bytes:
    size, version = member.container.size, member.container.version
    return _by_either(
        store,
        key,
        lambda: store.read_range(key, member.offset, member.size, size, version),
        lambda: _get_odd_range(store, key, member),
    )


def _describe(store: Store, key: str) -> tuple[int, str | None]:
    """Bytes and entity tag of an object."""

    def head() -> tuple[int, str | None]:
        meta = store.metadata(key)
        return meta["size"], meta["e_tag"]

    return _by_either(store, key, head, lambda: _describe_odd_key(store, key))


def _describe_odd_key(store: Store, key: str) -> tuple[int, str | None]:
    with s3_errors(f"{store.url}/{key}", "HEAD"):
        found = _odd_request(store, key, "head_object")
        return found["ContentLength"], found["ETag"]


def _by_either(store: Store, key: str, usual: Callable[[], T], odd: Callable[[], T]) -> T:
    """Make a request through obstore or, for a key of S3 that it cannot express, through boto3."""
    try:
        if key.startswith("/") or key.endswith("/"):  # obstore would drop the slash and read another object
            raise Unaddressable(f"{store.url}/{key} cannot be addressed; rename it")
        return usual()
    except Unaddressable:
        if store.s3 is None:
            raise
        return call_within(f"{store.url}/{key}", READ_SECONDS, odd)


def _get_odd_key(store: Store, key: str, check: Callable[[int], None]) -> bytes:
    with s3_errors(f"{store.url}/{key}", "GET"):
        found = _odd_request(store, key, "get_object")
        check(found["ContentLength"])
        expect_bytes(found["ContentLength"])
        return read_in_pieces(found["Body"])


def _get_odd_range(store: Store, key: str, member: Member) -> bytes:
    where, container = f"{store.url}/{key}", member.container
    try:
        with s3_errors(where, "GET"):
            found = _odd_request(store, key, "get_object", Range=_range_header(member))
    except Refused:
        # Services answer "range not satisfiable" for an object that became shorter.
        if _describe_odd_key(store, key) != (container.size, container.version):
            raise Changed(f"{where}: a different size or entity tag") from None
        raise
    with s3_errors(where, "GET"):
        if found.get("ContentRange", "").rpartition("/")[2] != str(container.size):
            raise Changed(f"{where}: its size is not {container.size} bytes")
        if container.version not in (None, found["ETag"]):
            raise Changed(f"{where}: a different entity tag")
        expect_bytes(member.size)
        data = read_in_pieces(found["Body"])
    if len(data) != member.size:
        raise Outage(f"{where}: {len(data)} of {member.size} bytes arrived")
    return data


def _range_header(member: Member) -> str:
    return f"bytes={member.offset}-{member.offset + member.size - 1}"


def _odd_request(store: Store, key: str, operation: str, **more: str) -> Any:
    """The answer of boto3 to a request for an object."""
    assert store.s3
    bucket = store.url.removeprefix("s3://")
    found = getattr(store.s3.client, operation)(Bucket=bucket, Key=key, **store.s3.payer, **more)
    if "ETag" not in found:
        raise not_a_store(f"{store.url}/{key}", "an object without ETag")
    return found


def _wait_for(root: str) -> None:
    """Wait until a store answers, whatever the answer.

    Raises:
        Outage: the store is unavailable.
        Refused: the store would refuse every request.
    """
    try:
        open_store(root).exists(ABSENT_KEY)
    except Outage:
        raise
    except Refused as error:
        if error.refuses_all:
            raise
    except StoreError:
        pass


@lru_cache(maxsize=64)
def _root(url: str) -> Store:
    return open_store(url, patience=min(OBJECT_PATIENCE_SECONDS, patience_seconds()))


@lru_cache(maxsize=64)
def _dataset(url: str, hub: str) -> Store:
    """A data set of the hub at an address."""
    return open_store(url, patience=min(OBJECT_PATIENCE_SECONDS, patience_seconds()))


def walk_remote(root: str) -> Iterator[tuple[str, int]]:
    """List (uri, bytes) of every object under a prefix; see :func:`cluster.inputs.sources.walk`."""
    if root.startswith(hub_datasets.PREFIX):
        base = HubPath.parse(root).root
        for path, size in hub_datasets.list_files(root, patience_seconds()):
            yield f"{base}/{path}", size
        return
    try:
        store = open_store(root)
        odd = store.s3 is not None and root.count("/") == 2 and any(list_odd(store.url, "/", limit=1))
        if not odd:
            for found in store.list():
                yield f"{root}/{found.path}", found.size
            return
    except Unaddressable:
        if not root.startswith("s3://"):
            raise
    # One key that obstore cannot express ends its listing, so boto3 lists everything again from the start.
    # What was yielded already comes a second time; the caller removes duplicates.
    prefix = root.removeprefix("s3://").partition("/")[2]
    yield from list_odd("/".join(root.split("/")[:3]), f"{prefix}/" if prefix else "")


def list_odd(bucket: str, prefix: str, limit: int | None = None) -> Iterator[tuple[str, int]]:
    """List (uri, bytes) under a prefix of an S3 bucket through boto3, whatever the keys."""
    store = _root(bucket)
    assert store.s3
    pages = store.s3.client.get_paginator("list_objects_v2")
    name = bucket.removeprefix("s3://")
    with s3_errors(f"{bucket}/{prefix}", "LIST"):
        listing = iter(
            pages.paginate(Bucket=name, Prefix=prefix, PaginationConfig={"MaxItems": limit}, **store.s3.payer)
        )
        while (page := call_within(bucket, READ_SECONDS, lambda: next(listing, None))) is not None:
            for item in page.get("Contents", ()):
                yield f"{bucket}/{item['Key']}", item["Size"]
