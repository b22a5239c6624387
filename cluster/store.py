"""Objects anywhere: a local folder, s3://, gs:// or az:// behind one small interface.

Everything a run keeps goes through here, and everything that must happen once goes through
``create``: put-if-absent is the only lock that every store has.
"""

from __future__ import annotations

import hashlib
import mimetypes
import os
import uuid
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, InvalidPathError
from obstore.store import LocalStore, MemoryStore, ObjectStore, from_url

REMOTE_SCHEMES = ("s3", "gs", "az")


class StoreError(OSError):
    """A store that cannot be used as asked; the message is one line."""


class NotFound(StoreError):  # noqa: N818
    """No such object, or no such folder."""


@dataclass(frozen=True)
class StoredObject:
    """One entry of a listing."""

    path: str
    """Relative to the store's root, with "/" between parts."""
    size: int
    """Bytes."""


@contextmanager
def _named_errors(url: str, path: str) -> Iterator[None]:
    """Turns the driver's many exceptions into ours, with the object named."""
    try:
        yield
    except FileNotFoundError as error:
        raise NotFound(f"{url}/{path} does not exist") from error
    except InvalidPathError as error:  # such a name spoils the listing of its whole folder
        name = str(error).encode("unicode_escape").decode()
        raise StoreError(f"{url} holds a file name with a control character; rename it: {name}") from error
    except (BaseError, OSError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise StoreError(f"{url}/{path}: {reason}") from error


@contextmanager
def whole(store: Store, path: str) -> Iterator[None]:
    """Names an object of a run folder that is there but cannot be read as what it is."""
    try:
        yield
    except StoreError:
        raise
    except (
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
        OSError,
    ) as error:  # pyarrow's are ValueErrors
        raise StoreError(
            f"{store.url}/{path} is damaged ({type(error).__name__}); bring back a whole copy, or audit into "
            "another --out"
        ) from error


class Store:
    """The objects under one URL. Paths are relative to it."""

    def __init__(self, url: str, objects: ObjectStore) -> None:
        self.url = url
        """A local folder's absolute path, or the URL, without a trailing slash."""
        self.objects = objects
        """obstore's own, for those who stream."""

    def named_errors(self, path: str) -> AbstractContextManager[None]:
        """Turns what the driver raises over a path into NotFound or StoreError."""
        return _named_errors(self.url, path)

    def read(self, path: str) -> bytes:
        """A whole object.

        Raises:
            NotFound: there is none.
        """
        with _named_errors(self.url, path):
            return bytes(obstore.get(self.objects, path).bytes())

    def sha256(self, path: str) -> str:
        """Digest of an object's bytes, which are streamed: it may be larger than memory."""
        digest = hashlib.sha256()
        with _named_errors(self.url, path):
            for chunk in obstore.get(self.objects, path).stream():
                digest.update(bytes(chunk))
        return digest.hexdigest()

    def write(self, path: str, data: bytes) -> None:
        """Puts an object, over any that was there; readers see the old or the new, never a part."""
        with _named_errors(self.url, path):
            obstore.put(self.objects, path, data, attributes=self._attributes(path))

    def create(self, path: str, data: bytes) -> bool:
        """Puts an object unless there is one already; says whether it did. Of any number of
        writers at once, exactly one is told True."""
        with _named_errors(self.url, path):
            try:
                obstore.put(self.objects, path, data, mode="create", attributes=self._attributes(path))
            except AlreadyExistsError:
                return False
        return True

    def _attributes(self, path: str) -> dict[str, str]:
        """What a bucket tells a browser of an object, so that a report opens and is not downloaded. A
        folder keeps no such thing."""
        kind = mimetypes.guess_type(path)[0] if "://" in self.url else None
        return {"Content-Type": kind} if kind else {}

    def check_create(self) -> None:
        """Makes sure that ``create`` is what it says: some S3 gateways accept If-None-Match and ignore it.

        Raises:
            StoreError: the second of two creators was told that it won.
        """
        path = f"probe-{uuid.uuid4().hex}"
        try:
            if not (self.create(path, b"1") and not self.create(path, b"2")):
                raise StoreError(
                    f"{self.url} overwrites objects that must be written once (it ignores If-None-Match); "
                    "use another store for --out"
                )
        finally:
            with suppress(StoreError):  # keys that may only write leave a byte behind
                self.delete(path)

    def size(self, path: str) -> int:
        """Bytes of an object.

        Raises:
            NotFound: there is none.
        """
        with _named_errors(self.url, path):
            return obstore.head(self.objects, path)["size"]

    def exists(self, path: str) -> bool:
        try:
            self.size(path)
        except NotFound:
            return False
        return True

    def list(self, prefix: str = "") -> Iterator[StoredObject]:
        """The objects under a prefix of whole path parts, in no order, as they are listed."""
        with _named_errors(self.url, prefix):
            for page in obstore.list(self.objects, prefix=prefix or None):
                for meta in page:
                    yield StoredObject(meta["path"], meta["size"])

    def delete(self, path: str) -> None:
        """Removes an object; one that is not there is removed already."""
        try:
            with _named_errors(self.url, path):
                obstore.delete(self.objects, path)
        except NotFound:
            pass


def open_store(uri: str, *, create: bool = True) -> Store:
    """The store at a local path or URL. ``create`` makes a local folder that is not there.

    ``memory://`` is a new, empty store in this process.

    Raises:
        NotFound: the local folder is not there and may not be made.
        StoreError: the URI is of no known kind, or the folder cannot be made.
    """
    if uri == "memory://":
        return Store(uri, MemoryStore())
    url = absolute(uri)
    scheme = url.partition("://")[0] if "://" in url else ""
    if scheme in REMOTE_SCHEMES:
        with _named_errors(url, ""):
            return Store(url, from_url(url, **_options(scheme)))
    if scheme:
        raise StoreError(f"{uri}: use a local folder, s3://, gs:// or az://")
    folder = Path(url)
    if folder.exists() and not folder.is_dir():
        raise StoreError(f"{folder} is a file; a folder is needed")
    if not folder.exists() and not create:
        raise NotFound(f"{folder} does not exist")
    with _named_errors(str(folder), ""):
        return Store(str(folder), LocalStore(prefix=folder, mkdir=True))


def absolute(uri: str) -> str:
    """A URI as it means the same from anywhere: a local path made absolute, a URL without a
    trailing slash."""
    if uri.startswith("file://"):
        uri = unquote(urlsplit(uri).path)
    return uri.rstrip("/") if "://" in uri else os.path.normpath(Path(uri).absolute())


def _options(scheme: str) -> dict[str, Any]:
    """Where S3 is by AWS's usual variables, and keys of a profile or instance role as boto3 finds them;
    other clouds and a missing boto3 are left to the store's own search."""
    if scheme != "s3":
        return {}
    options: dict[str, Any] = {}
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    if endpoint:
        options["endpoint"] = endpoint
        # whoever names a plain http endpoint (SeaweedFS or MinIO at home) means it
        options["client_options"] = {"allow_http": endpoint.startswith("http://")}
    try:
        from obstore.auth.boto3 import Boto3CredentialProvider

        options["credential_provider"] = Boto3CredentialProvider()
    except (ImportError, ValueError):
        pass
    return options
