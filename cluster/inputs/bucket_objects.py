"""Reads and lists images in buckets.

Keys may be anything; an error is attributed to the object or to the store.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache

import obstore

from cluster.inputs.local_files import READ_SECONDS
from cluster.inputs.unreadable import Unreadable
from cluster.storage.aws import s3_errors
from cluster.storage.bounds import call_within, expect_bytes, read_in_pieces
from cluster.storage.store import (
    ABSENT_KEY,
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


def read_remote(uri: str, check: Callable[[int], None]) -> bytes:
    """Read an object. If it fails while the store answers other requests, the object is at fault.

    Raises:
        Unreadable: the object is at fault.
        Outage: the store is unavailable.
        Refused: the store refuses other objects too.
    """
    store, key = bucket_and_key(uri)
    try:
        return _read_attributed(store, key, check)
    except Outage:
        _wait_for(store.url)
    try:
        return _read_attributed(store, key, check)
    except Outage as error:
        raise Unreadable("unreadable", str(error)) from error


def _read_attributed(store: Store, key: str, check: Callable[[int], None]) -> bytes:
    """Read an object, and attribute a failure to the object or to the store.

    Raises:
        Unreadable: the object is at fault.
        Outage: the store did not answer.
        Refused: the store refuses other objects too.
    """
    try:
        data = _read_object(store, key, check)
    except Outage:
        raise
    except NotFound as error:
        raise Unreadable("missing", str(error)) from error
    except Refused as error:
        if error.refuses_all or _refuses_others(store, key, error):
            raise
        raise Unreadable("unreadable", str(error)) from error
    except StoreError as error:
        raise Unreadable("unreadable", str(error)) from error
    _readable[store.url] = key
    return data


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
    scheme, _, rest = uri.partition("://")
    bucket, _, key = rest.partition("/")
    if not bucket or not key:
        raise Unreadable("unreadable", f"{uri} is not the uri of an object")
    return _root(f"{scheme}://{bucket}"), key


def _read_object(store: Store, key: str, check: Callable[[int], None]) -> bytes:
    try:
        if key.startswith("/") or key.endswith("/"):  # obstore would drop the slash and read another object
            raise Unaddressable(f"{store.url}/{key} cannot be addressed; rename it")
        return store.read(key, check)
    except Unaddressable:
        if store.s3 is None:
            raise
        return _read_odd_key(store, key, check)


def _read_odd_key(store: Store, key: str, check: Callable[[int], None]) -> bytes:
    """Read an object of S3 through boto3."""
    return call_within(f"{store.url}/{key}", READ_SECONDS, lambda: _get_odd_key(store, key, check))


def _get_odd_key(store: Store, key: str, check: Callable[[int], None]) -> bytes:
    assert store.s3
    bucket = store.url.removeprefix("s3://")
    with s3_errors(f"{store.url}/{key}", "GET"):
        found = store.s3.client.get_object(Bucket=bucket, Key=key, **store.s3.payer)
        if "ETag" not in found:
            raise not_a_store(f"{store.url}/{key}", "an object without ETag")
        check(found["ContentLength"])
        expect_bytes(found["ContentLength"])
        return read_in_pieces(found["Body"])


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


def walk_remote(root: str) -> Iterator[tuple[str, int]]:
    """List (uri, bytes) of every object under a prefix; see :func:`cluster.inputs.sources.walk`."""
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
