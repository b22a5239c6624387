"""Objects anywhere: a local folder, s3://, gs:// or az:// behind one small interface.

Everything a run keeps goes through here, and everything that must happen once goes through
``create``: put-if-absent is the only lock that every store has.

A bucket that does not answer is asked again until it does, for minutes: an outage of the store is not
the end of a run. One that answers and does not come to an end is broken off.
"""

from __future__ import annotations

import logging
import mimetypes
import os
import random
import re
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

import obstore
from obstore.exceptions import AlreadyExistsError
from obstore.store import AzureStore, GCSStore, LocalStore, MemoryStore, ObjectStore, S3Store

from cluster.storage.aws import S3Access, checked_endpoint, s3_access
from cluster.storage.bounds import arrived, expect, within
from cluster.storage.store_contact import NOBODYS, Contact
from cluster.storage.store_errors import (
    Damaged,
    NotFound,
    Outage,
    Refused,
    StoreError,
    Unaddressable,
    Unreachable,
    named_errors,
    no_store,
)
from originality.contract.checksum import Mismatch
from originality.contract.config import seconds_from_environment

__all__ = [
    "NOBODYS",
    "PATIENCE",
    "REMOTE_SCHEMES",
    "Damaged",
    "NotFound",
    "Outage",
    "Refused",
    "Store",
    "StoreError",
    "StoredObject",
    "Unaddressable",
    "absolute",
    "damaged_object",
    "open_store",
    "patience_seconds",
    "whole",
]

REMOTE_SCHEMES = ("s3", "gs", "az")

PATIENCE = "STORE_PATIENCE_SECONDS"
"""Environment variable: for how long a bucket that does not answer is asked again."""
_PATIENCE_SECONDS = 300.0
"""Outages of a store end in minutes; the workers that wait hold their images meanwhile."""
_HURRY_SECONDS = 10.0
"""The same, and for one request, where an outage has ended the work and only tidying is left."""
_LONGEST_PAUSE_SECONDS = 15.0
# of silence: the driver's own limit of 30 s for a whole object breaks off large ones on slow lines
_TIMEOUTS = {"timeout": timedelta(hours=1), "read_timeout": timedelta(seconds=60)}
_REQUEST_SECONDS = 120.0
"""A request that takes longer than this, and than its bytes take, is broken off. The driver itself bounds the
silence between two bytes, but not an answer that drips."""
_MOUNT_SECONDS = 300.0
"""The same for a folder, which may lie on a server that starts anew, and for opening a store, which may ask
others for keys."""
# it would ask again without saying so; who creates must know, and ``ask`` asks again anyway
_NO_RETRIES = {"max_retries": 0}
_AZURE_ENDPOINTS = ("AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT")
_BUCKET = re.compile(r"[A-Za-z0-9$][\w.-]*", re.ASCII)
_ALREADY_THERE = re.compile(r"status code: 412|BlobAlreadyExists")
"""How services say that an object is there; other conflicts (409) say that two requests met."""

_log = logging.getLogger(__name__)
T = TypeVar("T")


@dataclass(frozen=True)
class StoredObject:
    """One entry of a listing."""

    path: str
    """Relative to the store's root, with "/" between parts."""
    size: int
    """Bytes."""
    written: datetime
    """When it was last written, by the store's clock; of S3 in whole seconds."""
    version: str | None
    """Another after each writing (the entity tag); None where the store has none."""


_PARSERS = (ValueError, LookupError, TypeError, AttributeError, OSError, ArithmeticError, RuntimeError)
"""Of what kinds errors over damaged bytes are; pyarrow's among them."""


@contextmanager
def whole(store: Store, path: str) -> Iterator[None]:
    """Names an object of a run folder that is there but cannot be read as what it is.

    Raises:
        Damaged: while it was open, what reads the object could not.
    """
    try:
        yield
    except StoreError:
        raise
    except _PARSERS as error:
        why = str(error) if isinstance(error, Mismatch) else type(error).__name__
        raise damaged_object(store, path, why) from error


def damaged_object(store: Store, path: str, why: str) -> Damaged:
    """The error that names an object of a run folder as damaged. ``why``: how that shows."""
    found = f"{store.url}/{path} is damaged ({why})"
    damaged = Damaged(f"{found}; bring back a whole copy, or audit into another --out")
    damaged.path, damaged.found = path, found
    return damaged


class Store:
    """The objects under one URL. Paths are relative to it."""

    def __init__(
        self, url: str, objects: ObjectStore, *, patience: float = 0.0, s3: S3Access | None = None
    ) -> None:
        """``objects`` retries nothing by itself; the store is waited for for ``patience`` seconds when it is
        out. ``s3``: how it is reached, of a store of S3."""
        self.url = url
        """A local folder's absolute path, or the URL, without a trailing slash."""
        self.objects = objects
        """obstore's own, for those who want a part of an object, or more of a listing."""
        self.s3 = s3
        self._patience = patience
        self._hurries = False
        self._is_remote = url.partition("://")[0] in REMOTE_SCHEMES
        self._contact = Contact(url, objects, s3) if self._is_remote else None

    def read(self, path: str, check: Callable[[int], None] | None = None) -> bytes:
        """A whole object. ``check`` is told its size before its bytes are fetched, and raises to refuse it.

        Raises:
            NotFound: there is none.
        """

        def get() -> bytes:
            found = obstore.get(self.objects, path)
            self._check_tag(path, found.meta)
            if self._contact:
                self._contact.suspect(path, str(found.attributes.get("Content-Type", "")))
            if check:
                check(found.meta["size"])
            expect(found.meta["size"])
            return b"".join(_pieces(found)) if self._is_remote else bytes(found.bytes())

        return self.ask(path, get)

    def write(self, path: str, data: bytes) -> None:
        """Puts an object, over any that was there; readers see the old or the new, never a part."""
        attributes = self._attributes(path)
        self.ask(path, lambda: obstore.put(self.objects, path, data, attributes=attributes), size=len(data))

    def create(self, path: str, data: bytes) -> bool:
        """Puts an object unless there is one already; says whether it did. Of any number of
        writers at once, exactly one is told True.

        With one exception. A writer whose answer was lost asks again, and finds an object: its own, or
        another's that was quicker. It takes bytes that equal its own for its own. So of writers of
        equal bytes, each that lost an answer may be told True.
        """
        doubts = 0  # attempts of which nobody knows what came of them; one that hangs may still end

        def put() -> bool:
            nonlocal doubts
            in_doubt, doubts = doubts > 0, doubts + 1
            try:
                obstore.put(self.objects, path, data, mode="create", attributes=self._attributes(path))
            except AlreadyExistsError as error:
                if self._is_remote and not _ALREADY_THERE.search(str(error)):
                    doubts -= 1
                    raise  # it met another request, and nothing was written
                return in_doubt and bytes(obstore.get(self.objects, path).bytes()) == data
            return True

        return self.ask(path, put, size=len(data))

    def _attributes(self, path: str) -> dict[str, str]:
        """What a bucket tells a browser of an object, so that a report opens and is not downloaded. A
        folder keeps no such thing."""
        kind = mimetypes.guess_type(path)[0] if "://" in self.url else None
        return {"Content-Type": kind} if kind else {}

    def check_create(self) -> None:
        """Makes sure that ``create`` is what it says: some S3 gateways accept If-None-Match and ignore it.

        Raises:
            StoreError: the second of two creators was told that it won, or what the first wrote is not there.
        """
        path = f"probe-{uuid.uuid4().hex}"
        try:
            if not (self.create(path, b"1") and not self.create(path, b"2")):
                raise StoreError(
                    f"{self.url} overwrites objects that must be written once (it ignores If-None-Match); "
                    "use another store for --out"
                )
            if not self.exists(path) or self.read(path) != b"1":
                raise StoreError(
                    f"{self.url} does not give back what was written (a proxy or login page may answer in "
                    "its place); look at AWS_ENDPOINT_URL, or use another store for --out"
                )
        finally:
            with suppress(StoreError):  # keys that may only write leave a byte behind
                self.delete(path)

    def size(self, path: str) -> int:
        """Bytes of an object.

        Raises:
            NotFound: there is none.
        """
        size: int = self.about(path)["size"]
        return size

    def about(self, path: str) -> Any:
        """obstore's metadata of an object.

        Raises:
            NotFound: there is none.
        """
        try:
            return self.ask(path, lambda: self._check_tag(path, obstore.head(self.objects, path)))
        except Refused as error:
            if error.code.isdecimal():  # an answer to HEAD has no body, and one to GET may say why
                self.ask(path, lambda: obstore.get(self.objects, path))
            raise

    def _check_tag(self, path: str, meta: Any) -> Any:
        """Every object of a store has an entity tag; a web page that answers in its place may have none."""
        if self._is_remote and not meta["e_tag"]:
            raise no_store(f"{self.url}/{path}", "an object without ETag")
        return meta

    def exists(self, path: str) -> bool:
        try:
            self.size(path)
        except NotFound:
            return False
        return True

    def list(self, prefix: str = "") -> Iterator[StoredObject]:
        """The objects under a prefix of whole path parts, in no order, as they are listed."""
        listings: list[Iterator[Any]] = []  # the one under way, unless it broke off or hangs
        listed = False
        last = None  # a bucket's listing is in order, so one that broke off is taken up behind this

        def next_page() -> tuple[Iterator[Any], Any]:
            pages = listings.pop() if listings else None
            pages = pages or obstore.list(self.objects, prefix=prefix or None, offset=last)
            return pages, next(pages, None)

        while True:
            pages, page = self.ask(prefix, next_page)
            if page is None:
                break
            listings.append(pages)
            listed = True
            for meta in page:
                yield StoredObject(meta["path"], meta["size"], meta["last_modified"], meta["e_tag"])
                last = meta["path"]
        if self._contact and not listed:
            self.ask(prefix, self._contact.check_listing)

    def delete(self, path: str) -> None:
        """Removes an object; one that is not there is removed already."""
        with suppress(NotFound):
            self.ask(path, lambda: obstore.delete(self.objects, path))

    def remove_empty(self, folder: str) -> None:
        """Removes a folder that holds nothing. A bucket has no folders."""
        if "://" not in self.url:
            with suppress(OSError):  # it holds something, or is not there
                Path(self.url, folder).rmdir()

    def folders(self, prefix: str) -> Sequence[str]:
        """Paths of the folders below a prefix. No object can have such a path, nor be listed or found there,
        and none can be created. A bucket has no folders."""
        if "://" in self.url:
            return []
        root = Path(self.url)

        def walk() -> list[str]:
            found = os.walk(root / prefix)
            return [Path(at, name).relative_to(root).as_posix() for at, names, _ in found for name in names]

        return self.ask(prefix, walk)

    def is_folder(self, path: str) -> bool:
        """Whether a folder is where an object would be; an empty one is removed."""
        self.remove_empty(path)
        return "://" not in self.url and Path(self.url, path).is_dir()

    def now(self, folder: str) -> datetime:
        """The time by the store's own clock: of an object that is written below a folder, and removed.

        Raises:
            StoreError: nothing may be written there.
        """
        path = f"{folder}/clock-{uuid.uuid4().hex}"
        self.write(path, b"")
        try:
            written: datetime = self.about(path)["last_modified"]
            return written
        finally:
            with suppress(StoreError):  # keys that may not delete leave it there
                self.delete(path)
            self.remove_empty(folder)

    def hurry(self) -> None:
        """From here on waits for the store for seconds only: for what is left to tidy after an outage."""
        self._hurries = True
        self._patience = min(self._patience, _HURRY_SECONDS)

    def ask(self, path: str, request: Callable[[], T], size: int = 0) -> T:
        """The answer to a request; while the store is out it is made again, after pauses that grow and
        are drawn by lot, so that a hundred workers do not come back at once.

        Args:
            request: made in another thread; one that is late may still be under way when it is made again.
            size: bytes that it sends, or fetches in one go.

        Raises:
            Outage: the store was out for longer than the patience lasts.
        """
        out_since = None
        longest = 0.1
        while True:
            try:
                return self._request(path, request, size)
            except Unreachable as outage:
                if self._contact and not self._contact.answered:
                    raise StoreError(str(outage)) from outage
                error: StoreError = outage
            except Outage as outage:
                error = outage
            except Refused as refusal:
                if self._contact is None:
                    raise
                raise self._contact.with_region(refusal) from refusal.__cause__
            now = time.monotonic()
            out_since = out_since or now
            pause = random.uniform(longest / 2, longest)
            if now + pause > out_since + self._patience:
                raise error
            if longest < _LONGEST_PAUSE_SECONDS <= 2 * longest:  # once, when it is no hiccup any more
                _log.warning("the store is waited for, up to %.0f s: %s", self._patience, error)
            longest = min(2 * longest, _LONGEST_PAUSE_SECONDS)
            time.sleep(pause)

    def _request(self, path: str, request: Callable[[], T], size: int) -> T:
        """One attempt."""

        def attempt() -> T:
            with named_errors(self.url, path):
                if self._contact is None:
                    return request()
                with self._contact.watched(path):
                    return request()

        seconds = _REQUEST_SECONDS if self._is_remote else _MOUNT_SECONDS
        if self._hurries:
            seconds = min(seconds, _HURRY_SECONDS)
        return within(f"{self.url}/{path}" if path else self.url, seconds, attempt, size)


def _pieces(found: Any) -> Iterator[bytes]:
    """The bytes of an object as they arrive."""
    for piece in found.stream(min_chunk_size=1):
        arrived(len(piece))
        yield piece


def open_store(uri: str, *, create: bool = True, patience: float | None = None) -> Store:
    """The store at a local path or URL. ``create`` makes a local folder that is not there. A bucket that
    does not answer is waited for for ``patience`` seconds; when not given, for as many as the environment
    variable STORE_PATIENCE_SECONDS says, or 300.

    ``memory://`` is a new, empty store in this process.

    Raises:
        NotFound: the local folder is not there and may not be made.
        StoreError: the URI is of no known kind, or the folder cannot be made.
        Outage: neither a mount nor whoever gives the keys answers.
    """
    if uri == "memory://":
        return Store(uri, MemoryStore())
    url = absolute(uri)
    return within(url, _MOUNT_SECONDS, lambda: _open(url, create, patience))


def _open(url: str, create: bool, patience: float | None) -> Store:
    scheme, _, rest = url.partition("://") if "://" in url else ("", "", "")
    if re.search("[:@]", rest.partition("/")[0]):
        raise StoreError(
            f"{scheme}://...: keys and ports do not belong in a URL; use AWS_PROFILE or AWS_ACCESS_KEY_ID, "
            "and AWS_ENDPOINT_URL"
        )
    if scheme in REMOTE_SCHEMES:
        return _open_remote(url, scheme, rest, patience_seconds() if patience is None else patience)
    if scheme:  # without the rest: a web address may be signed
        raise StoreError(f"{scheme}:// cannot be used; use a local folder, s3://, gs:// or az://")
    folder = Path(url)
    if folder.exists() and not folder.is_dir():
        raise StoreError(f"{folder} is a file; a folder is needed")
    if not folder.exists() and not create:
        raise NotFound(f"{folder} does not exist")
    with named_errors(str(folder), ""):
        return Store(str(folder), LocalStore(prefix=folder, mkdir=True))


@contextmanager
def hurried_after_outage(store: Store) -> Iterator[None]:
    """Lets a store hurry when an outage of it ends the context: it was waited for in vain, and each thing
    that is tidied behind the error would wait as long again."""
    try:
        yield
    except BaseException as error:
        if isinstance(error, Outage) or isinstance(error.__cause__, Outage):
            store.hurry()
        raise


@contextmanager
def unmade(uri: str) -> Iterator[None]:
    """Removes the local folders again that were made for a URI while it was open and hold no file."""
    url = absolute(uri)
    paths = [] if "://" in url else [Path(url), *Path(url).parents]
    missing = [path for path in paths if not path.exists()]
    try:
        yield
    finally:
        with suppress(OSError):  # somebody uses it
            for path in missing[:1]:
                for folder, _, _ in sorted(os.walk(path), reverse=True):  # the deepest first
                    Path(folder).rmdir()
            for path in missing[1:]:
                path.rmdir()


def _open_remote(url: str, scheme: str, rest: str, patience: float) -> Store:
    """Not by the driver's own reading of URLs, to which "?", "#" and "%" in a key mean something."""
    bucket, _, prefix = rest.partition("/")
    if not _BUCKET.fullmatch(bucket):
        raise StoreError(f"{url!r} names no bucket; write {scheme}://BUCKET/PREFIX")
    s3 = s3_access() if scheme == "s3" else None
    for name in _AZURE_ENDPOINTS if scheme == "az" else ():
        if os.environ.get(name):
            checked_endpoint(os.environ[name], name)
    # Other than https is spoken only where an endpoint says so.
    options: dict[str, Any] = {
        "prefix": prefix or None,
        "client_options": {**_TIMEOUTS, "allow_http": s3 is None or bool(s3.endpoint)},
        "retry_config": _NO_RETRIES,
    }
    opener: Any = {"s3": S3Store, "gs": GCSStore, "az": AzureStore}[scheme]
    with named_errors(url, ""):
        return Store(url, opener(bucket, **options, **(s3.options() if s3 else {})), patience=patience, s3=s3)


def patience_seconds() -> float:
    """Raises:
    StoreError: STORE_PATIENCE_SECONDS is no number of seconds.
    """
    return seconds_from_environment(PATIENCE, _PATIENCE_SECONDS, StoreError)


def absolute(uri: str) -> str:
    """A URI as it means the same from anywhere: a local path made absolute, a URL without a
    trailing slash."""
    if uri.startswith("file://"):
        uri = unquote(urlsplit(uri).path)
    return uri.rstrip("/") if "://" in uri else os.path.normpath(Path(uri).absolute())
