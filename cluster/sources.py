"""Where the images come from: any number of folders and buckets, each image by its uri.

Names of images are not ours to choose. object_store, on which :mod:`cluster.store` stands, cannot address
a name with a control character, an empty part or a ".."; what lies in a local folder is therefore read
through the operating system, and such keys of S3 through boto3.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import quote_from_bytes, unquote_to_bytes, urlsplit

from cluster.store import (
    NotFound,
    Outage,
    Store,
    StoreError,
    Unaddressable,
    open_store,
    patience_seconds,
)

_OBJECT_PATIENCE_SECONDS = 60.0
"""For how long an object is asked for before it is found out whether its store is out, or only it."""
_NOBODYS = "originality-asks-whether-this-store-answers"
"""A key at which there is nothing."""


class Unreadable(Exception):  # noqa: N818 - it says what the input is
    """One input whose bytes cannot be had, through no fault of the store as a whole."""

    def __init__(self, reason_code: str, message: str) -> None:
        super().__init__(reason_code, message)
        self.reason_code = reason_code
        """Stable: missing, unreadable, or what ``check`` says."""
        self.message = message


def read_image(uri: str, check: Callable[[int], None]) -> bytes:
    """The bytes behind a uri: a local path, file://, s3://, gs:// or az://.

    ``check`` is told the size before any byte is fetched, and raises to refuse it.

    Raises:
        Unreadable: this one cannot be read.
        Outage: the store is out of reach, which says nothing of the image.
    """
    if "://" in uri and not uri.startswith("file://"):
        return _read_remote(uri, check)
    path = local_path(uri)
    try:
        about = path.stat()
        if not stat.S_ISREG(about.st_mode):  # a pipe would be waited for, a device read without end
            raise Unreadable("unreadable", f"{uri} is no regular file")
        check(about.st_size)
        data = path.read_bytes()
        check(len(data))
    except FileNotFoundError as error:
        raise Unreadable("missing", f"{uri} does not exist") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise Unreadable("unreadable", f"{uri}: {reason}") from error
    return data


def _read_remote(uri: str, check: Callable[[int], None]) -> bytes:
    """Where an object cannot be had though its store answers, it is the object."""
    scheme, _, rest = uri.partition("://")
    bucket, _, key = rest.partition("/")
    if not bucket or not key:
        raise Unreadable("unreadable", f"{uri} names no object")
    try:
        store = _root(f"{scheme}://{bucket}")
    except StoreError as error:
        raise Unreadable("unreadable", str(error)) from error
    try:
        return _read_object(store, key, check)
    except Outage:
        _wait_for(store.url)
    try:
        return _read_object(store, key, check)
    except Outage as error:
        raise Unreadable("unreadable", str(error)) from error


def _read_object(store: Store, key: str, check: Callable[[int], None]) -> bytes:
    try:
        return store.read(key, check)
    except NotFound as error:
        raise Unreadable("missing", f"{store.url}/{key} does not exist") from error
    except Unaddressable as error:
        if store.url.startswith("s3://"):
            return _read_odd_key(store.url.removeprefix("s3://"), key, check)
        raise Unreadable("unreadable", str(error)) from error
    except Outage:
        raise
    except StoreError as error:
        raise Unreadable("unreadable", str(error)) from error


def _read_odd_key(bucket: str, key: str, check: Callable[[int], None]) -> bytes:
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        found = _s3_client().get_object(Bucket=bucket, Key=key)
        check(found["ContentLength"])
        return found["Body"].read()
    except ClientError as error:
        code = error.response["ResponseMetadata"]["HTTPStatusCode"]
        if code >= 500:
            raise Outage(f"s3://{bucket}/{key}: {error}") from error
        reason = "missing" if code == 404 else "unreadable"
        raise Unreadable(reason, f"s3://{bucket}/{key}: {error}") from error
    except BotoCoreError as error:  # no answer, or half an answer
        raise Outage(f"s3://{bucket}/{key}: {error}") from error


def _wait_for(root: str) -> None:
    """Until a store answers, whatever it says.

    Raises:
        Outage: the store is out of reach.
    """
    try:
        open_store(root).exists(_NOBODYS)
    except Outage:
        raise
    except StoreError:
        pass


@lru_cache(maxsize=64)
def _root(url: str) -> Store:
    return open_store(url, patience=min(_OBJECT_PATIENCE_SECONDS, patience_seconds()))


@lru_cache(maxsize=1)
def _s3_client() -> Any:
    import boto3
    from botocore.config import Config

    return boto3.client("s3", config=Config(retries={"mode": "standard", "max_attempts": 8}))


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


def walk(root: str) -> Iterator[tuple[str, int]]:
    """(uri, bytes) of every object under a folder or prefix, in no order.

    Raises:
        NotFound: the folder does not exist.
        StoreError: it cannot be listed.
    """
    if "://" in root:
        yield from _walk_remote(root)
        return
    if not Path(root).is_dir():
        raise NotFound(f"{root} does not exist")
    seen: set[tuple[int, int]] = set()
    for folder, below, names in os.walk(root, onerror=_refuse_folder, followlinks=True):
        here = os.stat(folder)  # noqa: PTH116
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


def _refuse_folder(error: OSError) -> None:
    raise StoreError(f"{error.filename}: {error.strerror}; make it readable or leave it out") from error


def _walk_remote(root: str) -> Iterator[tuple[str, int]]:
    store = open_store(root)
    try:
        for found in store.list():
            yield f"{root}/{found.path}", found.size
    except Unaddressable:
        if not root.startswith("s3://"):
            raise
    else:
        return
    # One odd key ends the listing, so all is listed anew; what was told already is told twice.
    bucket, _, prefix = root.removeprefix("s3://").partition("/")
    pages = _s3_client().get_paginator("list_objects_v2")
    for page in pages.paginate(Bucket=bucket, Prefix=f"{prefix}/" if prefix else ""):
        for item in page.get("Contents", ()):
            yield f"s3://{bucket}/{item['Key']}", item["Size"]


def size_of(uri: str) -> int | None:
    """Bytes of one object, or None where there is none."""
    if "://" not in uri or uri.startswith("file://"):
        path = local_path(uri)
        return path.stat().st_size if path.is_file() else None
    parent, _, name = uri.rpartition("/")
    try:
        return open_store(parent).size(name)
    except NotFound:
        return None
