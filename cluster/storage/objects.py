"""The objects of one store: read, write, create once, list and delete."""

from __future__ import annotations

import mimetypes
import os
import re
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

import obstore
from obstore.exceptions import AlreadyExistsError
from obstore.store import ObjectStore

from cluster.storage.aws import S3Access
from cluster.storage.bounds import bytes_arrived, expect_bytes
from cluster.storage.requests import Requests
from cluster.storage.store_contact import Contact
from cluster.storage.store_errors import Changed, NotFound, Outage, Refused, StoreError, not_a_store

REMOTE_SCHEMES = ("s3", "gs", "az")

_ALREADY_THERE = re.compile(r"status code: 412|BlobAlreadyExists")
"""How services report that an object exists already. Other conflicts (409) mean that two requests met, and
that nothing was written."""

T = TypeVar("T")


@dataclass(frozen=True)
class StoredObject:
    """One entry of a listing."""

    path: str
    """Relative to the store's root, with "/" between parts."""
    size: int
    """Bytes."""
    written: datetime
    """When it was last written, by the store's clock; in whole seconds for S3."""
    version: str | None
    """The entity tag, which changes with every write; None if the store has none."""


class Store:
    """The objects under one URL. Paths are relative to it.

    Every method may raise a StoreError: Outage if the store was out for longer than the patience, Refused if
    it answered and refused, Unaddressable for a path that obstore cannot express.
    """

    def __init__(
        self, url: str, objects: ObjectStore, *, patience: float = 0.0, s3: S3Access | None = None
    ) -> None:
        """
        Args:
            objects: obstore's store, configured not to retry by itself.
            patience: seconds for which requests are retried while the store is out.
            s3: endpoint and credentials, for a store of S3.
        """
        self.url = url
        """A local folder's absolute path, or the URL, without a trailing slash."""
        self.objects = objects
        """obstore's store, for a part of an object or other requests that this class does not have."""
        self.s3 = s3
        self._is_remote = url.partition("://")[0] in REMOTE_SCHEMES
        self._contact = Contact(url, objects, s3) if self._is_remote else None
        self._requests = Requests(url, self._contact, patience)

    def read(self, path: str, check: Callable[[int], None] | None = None) -> bytes:
        """The bytes of an object.

        Args:
            check: is called with the size before the bytes are fetched, and raises to refuse it.

        Raises:
            NotFound: there is no such object.
        """

        def get() -> bytes:
            found = obstore.get(self.objects, path)
            self._check_tag(path, found.meta)
            if self._contact:
                self._contact.check_content_type(path, str(found.attributes.get("Content-Type", "")))
            if check:
                check(found.meta["size"])
            expect_bytes(found.meta["size"])
            return b"".join(_pieces(found)) if self._is_remote else bytes(found.bytes())

        return self.request(path, get)

    def read_range(self, path: str, start: int, length: int, size: int, version: str | None = None) -> bytes:
        """Some bytes of an object that is expected to be of a size and version.

        A store that ignores ranges and answers with the complete object is refused.

        Args:
            start: offset of the first byte.
            length: how many, at least 1.
            size: bytes of the complete object.
            version: its entity tag; None if it is unknown.

        Raises:
            NotFound: there is no such object.
            Changed: its size or version differs.
        """

        def get() -> bytes:
            found = obstore.get(self.objects, path, options={"range": (start, start + length)})
            self._check_tag(path, found.meta)
            if self._contact:
                self._contact.check_content_type(path, str(found.attributes.get("Content-Type", "")))
            self._expect(path, found.meta, size, version)
            expect_bytes(length)
            data = b"".join(_pieces(found)) if self._is_remote else bytes(found.bytes())
            if len(data) != length:  # retried as any answer that breaks off
                raise Outage(f"{self.url}/{path}: {len(data)} of {length} bytes arrived")
            return data

        try:
            return self.request(path, get)
        except (NotFound, Outage, Changed):
            raise
        except StoreError:
            # Services answer "range not satisfiable", with different codes, for an object that became
            # shorter.
            self._expect(path, self.metadata(path), size, version)
            raise

    def _expect(self, path: str, meta: Any, size: int, version: str | None) -> None:
        """Check that an object is the expected one.

        Raises:
            Changed: it is not.
        """
        if meta["size"] != size:
            raise Changed(f"{self.url}/{path}: {meta['size']} bytes instead of {size}")
        if version is not None and meta["e_tag"] != version:
            raise Changed(f"{self.url}/{path}: a different entity tag")

    def write(self, path: str, data: bytes) -> None:
        """Put an object, replacing any that exists; readers see the old or the new one, never a mixture."""
        attributes = self._attributes(path)
        self.request(
            path, lambda: obstore.put(self.objects, path, data, attributes=attributes), size=len(data)
        )

    def create(self, path: str, data: bytes) -> bool:
        """Put an object unless one exists already (put-if-absent).

        Everything that must happen only once in a run rests on this: of any number of concurrent writers,
        exactly one gets True.

        There is one exception. A writer whose answer was lost retries, and finds an object: its own, or one
        of a faster writer. It takes an object with bytes equal to its own for its own. So of writers of
        equal bytes, each one that lost an answer may get True. Where this matters, the bytes must be
        unique to the writer (see Place._content in cluster.storage.turns).

        Returns:
            Whether this call created the object.
        """
        # Attempts whose outcome is unknown: the request may have been carried out although its answer was
        # lost, and one that hangs may still be carried out later.
        doubts = 0

        def put() -> bool:
            nonlocal doubts
            in_doubt, doubts = doubts > 0, doubts + 1
            try:
                obstore.put(self.objects, path, data, mode="create", attributes=self._attributes(path))
            except AlreadyExistsError as error:
                if self._is_remote and not _ALREADY_THERE.search(str(error)):
                    doubts -= 1  # it met a concurrent request: it is certain that nothing was written
                    raise
                # Only an attempt after a doubtful one may have found its own object. A first attempt must
                # not compare bytes: two writers of equal bytes would both get True.
                return in_doubt and bytes(obstore.get(self.objects, path).bytes()) == data
            return True

        return self.request(path, put, size=len(data))

    def _attributes(self, path: str) -> dict[str, str]:
        """The content type, so that a browser opens a report in a bucket instead of downloading it. A local
        folder stores no attributes."""
        kind = mimetypes.guess_type(path)[0] if "://" in self.url else None
        return {"Content-Type": kind} if kind else {}

    def check_create(self) -> None:
        """Check that the store honours put-if-absent: some S3 gateways accept If-None-Match and ignore it.

        Raises:
            StoreError: a second ``create`` succeeded, or what the first wrote cannot be read back.
        """
        if self.url.startswith("hf://"):
            raise StoreError(f"{self.url} can only be read; use a folder or a bucket for --out")
        path = f"probe-{uuid.uuid4().hex}"
        try:
            if not (self.create(path, b"1") and not self.create(path, b"2")):
                raise StoreError(
                    f"{self.url} overwrites objects that must be written once (it ignores If-None-Match); "
                    "use another store for --out"
                )
            if not self.exists(path) or self.read(path) != b"1":
                raise StoreError(
                    f"{self.url} does not return what was written to it (a proxy or login page may answer "
                    "in its place); check AWS_ENDPOINT_URL, or use another store for --out"
                )
        finally:
            with suppress(StoreError):  # credentials that may write but not delete leave the probe behind
                self.delete(path)

    def size(self, path: str) -> int:
        """Bytes of an object.

        Raises:
            NotFound: there is no such object.
        """
        size: int = self.metadata(path)["size"]
        return size

    def metadata(self, path: str) -> Any:
        """obstore's metadata of an object.

        Raises:
            NotFound: there is no such object.
        """
        try:
            return self.request(path, lambda: self._check_tag(path, obstore.head(self.objects, path)))
        except Refused as error:
            # The answer to a HEAD has no body, so its error has no code; the answer to a GET has one.
            if error.code.isdecimal():
                self.request(path, lambda: obstore.get(self.objects, path))
            raise

    def _check_tag(self, path: str, meta: Any) -> Any:
        """Every object of a bucket has an entity tag; a web page served in its place may have none."""
        if self._is_remote and not meta["e_tag"]:
            raise not_a_store(f"{self.url}/{path}", "an object without ETag")
        return meta

    def exists(self, path: str) -> bool:
        """Whether there is an object at a path."""
        try:
            self.size(path)
        except NotFound:
            return False
        return True

    def list(self, prefix: str = "") -> Iterator[StoredObject]:
        """List the objects under a prefix of complete path parts, in no particular order, page by page."""
        # The listing in progress, if any. A page is fetched in a helper thread that may hang; the iterator
        # is taken out meanwhile, so that a retry starts a new listing and no two threads share one.
        listings: list[Iterator[Any]] = []
        listed = False
        last = None  # a bucket lists in order, so an interrupted listing resumes behind this path

        def next_page() -> tuple[Iterator[Any], Any]:
            pages = listings.pop() if listings else None
            pages = pages or obstore.list(self.objects, prefix=prefix or None, offset=last)
            return pages, next(pages, None)

        while True:
            pages, page = self.request(prefix, next_page)
            if page is None:
                break
            listings.append(pages)
            listed = True
            for meta in page:
                yield StoredObject(meta["path"], meta["size"], meta["last_modified"], meta["e_tag"])
                last = meta["path"]
        if self._contact and not listed:
            self.request(prefix, self._contact.check_listing)

    def delete(self, path: str) -> None:
        """Delete an object; do nothing if it does not exist."""
        with suppress(NotFound):
            self.request(path, lambda: obstore.delete(self.objects, path))

    def remove_empty(self, folder: str) -> None:
        """Remove a local folder if it is empty. A bucket has no folders."""
        if "://" not in self.url:
            with suppress(OSError):  # not empty, or not there
                Path(self.url, folder).rmdir()

    def folders(self, prefix: str) -> Sequence[str]:
        """Paths of the local folders below a prefix. A bucket has no folders.

        A folder in the place of an object hides it: obstore neither lists nor finds nor creates an object of
        that path.
        """
        if "://" in self.url:
            return []
        root = Path(self.url)

        def walk() -> list[str]:
            found = os.walk(root / prefix)
            return [Path(at, name).relative_to(root).as_posix() for at, names, _ in found for name in names]

        return self.request(prefix, walk)

    def is_folder(self, path: str) -> bool:
        """Whether a folder is in the place of an object; an empty one is removed first."""
        self.remove_empty(path)
        return "://" not in self.url and Path(self.url, path).is_dir()

    def now(self, folder: str) -> datetime:
        """The time by the store's own clock, read from an object that is written below a folder and deleted.

        Raises:
            StoreError: nothing may be written there.
        """
        path = f"{folder}/clock-{uuid.uuid4().hex}"
        self.write(path, b"")
        try:
            written: datetime = self.metadata(path)["last_modified"]
            return written
        finally:
            with suppress(StoreError):  # credentials that may not delete leave it behind
                self.delete(path)
            self.remove_empty(folder)

    def hurry(self) -> None:
        """From now on retry for seconds only: for the cleanup that is left after an outage."""
        self._requests.hurry()

    def request(self, path: str, call: Callable[[], T], size: int = 0) -> T:
        """The answer to a request of obstore's, with the bound and the retries that all requests have; see
        :meth:`cluster.storage.requests.Requests.send`."""
        return self._requests.send(path, call, size)


def _pieces(found: Any) -> Iterator[bytes]:
    """The bytes of an object as they arrive."""
    for piece in found.stream(min_chunk_size=1):
        bytes_arrived(len(piece))
        yield piece
