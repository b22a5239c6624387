"""Objects anywhere: a local folder, s3://, gs:// or az:// behind one small interface.

Everything a run keeps goes through here, and everything that must happen once goes through
``create``: put-if-absent is the only lock that every store has.

A bucket that does not answer is asked again until it does, for minutes: an outage of the store is not
the end of a run.
"""

from __future__ import annotations

import logging
import mimetypes
import os
import random
import re
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, GenericError, InvalidPathError
from obstore.store import LocalStore, MemoryStore, ObjectStore, from_url

REMOTE_SCHEMES = ("s3", "gs", "az")

PATIENCE = "STORE_PATIENCE_SECONDS"
"""Environment variable: for how long a bucket that does not answer is asked again."""
_PATIENCE_SECONDS = 300.0
"""Outages of a store end in minutes; the workers that wait hold their images meanwhile."""
_LONGEST_PAUSE_SECONDS = 15.0
_CONNECTION: dict[str, Any] = {
    # of silence: the driver's own limit of 30 s for a whole object breaks off large ones on slow lines
    "client_options": {"timeout": timedelta(hours=1), "read_timeout": timedelta(seconds=60)},
    # it would ask again without saying so; who creates must know, and ``ask`` asks again anyway
    "retry_config": {"max_retries": 0},
}
_KEY_SERVER = "//169.254.169.254/"
"""Where the driver looks for keys when there are none; its silence is no outage of the store."""
_PASSING = re.compile(r"HTTP error|status code: (408|429|5\d\d)|Server returned error response")
"""In the driver's words: no answer, half an answer, too many requests, or a failure of the server's."""

_log = logging.getLogger(__name__)
T = TypeVar("T")


class StoreError(OSError):
    """A store that cannot be used as asked; the message is one line."""


class NotFound(StoreError):  # noqa: N818
    """No such object, or no such folder."""


class Unaddressable(StoreError):  # noqa: N818
    """A name that the driver cannot say: with a control character, an empty part or a ".."."""


class Outage(StoreError):  # noqa: N818
    """The store did not answer, or failed; asked later, it may do as it is asked. Whether it did this
    time is not known."""


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
        raise Unaddressable(f"{url} holds a name that cannot be addressed; rename it: {name}") from error
    except (BaseError, OSError, ValueError) as error:
        reason, _, details = str(error).partition("\n")
        if reason.startswith("Could not parse path"):
            raise Unaddressable(f"{url}/{path} cannot be addressed; rename it") from error
        if not isinstance(error, GenericError) or not _PASSING.search(reason) or _KEY_SERVER in reason:
            raise StoreError(f"{url}/{path}: {reason}") from error
        cause = re.findall(r'(?:message|error): "([^"]+)"', details)  # such as "Connection refused"
        raise Outage(f"{url}/{path}: {': '.join([reason, *cause[-1:]])}") from error


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

    def __init__(self, url: str, objects: ObjectStore, *, patience: float = 0.0) -> None:
        """``objects`` asks for nothing twice by itself; the store is waited for for ``patience`` seconds when
        it is out."""
        self.url = url
        """A local folder's absolute path, or the URL, without a trailing slash."""
        self.objects = objects
        """obstore's own, for those who want a part of an object, or more of a listing."""
        self._patience = patience

    def read(self, path: str, check: Callable[[int], None] | None = None) -> bytes:
        """A whole object. ``check`` is told its size before its bytes are fetched, and raises to refuse it.

        Raises:
            NotFound: there is none.
        """

        def get() -> bytes:
            found = obstore.get(self.objects, path)
            if check:
                check(found.meta["size"])
            return bytes(found.bytes())

        return self.ask(path, get)

    def write(self, path: str, data: bytes) -> None:
        """Puts an object, over any that was there; readers see the old or the new, never a part."""
        self.ask(path, lambda: obstore.put(self.objects, path, data, attributes=self._attributes(path)))

    def create(self, path: str, data: bytes) -> bool:
        """Puts an object unless there is one already; says whether it did. Of any number of
        writers at once, exactly one is told True.

        With one exception. A writer whose answer was lost asks again, and finds an object: its own, or
        another's that was quicker. It takes bytes that equal its own for its own. So of writers of
        equal bytes, each that lost an answer may be told True.
        """
        in_doubt = False

        def put() -> bool:
            nonlocal in_doubt
            try:
                obstore.put(self.objects, path, data, mode="create", attributes=self._attributes(path))
            except AlreadyExistsError:
                return in_doubt and bytes(obstore.get(self.objects, path).bytes()) == data
            except BaseError:
                in_doubt = True
                raise
            return True

        return self.ask(path, put)

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
        return self.ask(path, lambda: obstore.head(self.objects, path)["size"])

    def exists(self, path: str) -> bool:
        try:
            self.size(path)
        except NotFound:
            return False
        return True

    def list(self, prefix: str = "") -> Iterator[StoredObject]:
        """The objects under a prefix of whole path parts, in no order, as they are listed."""
        pages: Iterator[Any] | None = None
        last = None  # a bucket's listing is in order, so one that broke off is taken up behind this

        def next_page() -> Any:
            nonlocal pages
            pages = pages or obstore.list(self.objects, prefix=prefix or None, offset=last)
            try:
                return next(pages, None)
            except BaseError:
                pages = None
                raise

        while (page := self.ask(prefix, next_page)) is not None:
            for meta in page:
                yield StoredObject(meta["path"], meta["size"])
                last = meta["path"]

    def delete(self, path: str) -> None:
        """Removes an object; one that is not there is removed already."""
        with suppress(NotFound):
            self.ask(path, lambda: obstore.delete(self.objects, path))

    def ask(self, path: str, request: Callable[[], T]) -> T:
        """The answer to a request; while the store is out it is made again, after pauses that grow and
        are drawn by lot, so that a hundred workers do not come back at once.

        Raises:
            Outage: the store was out for longer than the patience lasts.
        """
        out_since = None
        longest = 0.1
        while True:
            try:
                with _named_errors(self.url, path):
                    return request()
            except Outage as outage:
                now = time.monotonic()
                out_since = out_since or now
                pause = random.uniform(longest / 2, longest)
                if now + pause > out_since + self._patience:
                    raise
                if longest < _LONGEST_PAUSE_SECONDS <= 2 * longest:  # once, when it is no hiccup any more
                    _log.warning("the store is waited for, up to %.0f s: %s", self._patience, outage)
                longest = min(2 * longest, _LONGEST_PAUSE_SECONDS)
            time.sleep(pause)


def open_store(uri: str, *, create: bool = True, patience: float | None = None) -> Store:
    """The store at a local path or URL. ``create`` makes a local folder that is not there. A bucket that
    does not answer is waited for for ``patience`` seconds; when not given, for as many as the environment
    variable STORE_PATIENCE_SECONDS says, or 300.

    ``memory://`` is a new, empty store in this process.

    Raises:
        NotFound: the local folder is not there and may not be made.
        StoreError: the URI is of no known kind, or the folder cannot be made.
    """
    if uri == "memory://":
        return Store(uri, MemoryStore())
    url = absolute(uri)
    scheme, _, rest = url.partition("://") if "://" in url else ("", "", "")
    if re.search("[:@]", rest.partition("/")[0]):
        raise StoreError(
            f"{scheme}://...: keys and ports do not belong in a URL; use AWS_PROFILE or AWS_ACCESS_KEY_ID, "
            "and AWS_ENDPOINT_URL"
        )
    if scheme in REMOTE_SCHEMES:
        with _named_errors(url, ""):
            if patience is None:
                patience = patience_seconds()
            return Store(url, from_url(url, **_options(scheme)), patience=patience)
    if scheme:  # without the rest: a web address may be signed
        raise StoreError(f"{scheme}:// cannot be used; use a local folder, s3://, gs:// or az://")
    folder = Path(url)
    if folder.exists() and not folder.is_dir():
        raise StoreError(f"{folder} is a file; a folder is needed")
    if not folder.exists() and not create:
        raise NotFound(f"{folder} does not exist")
    with _named_errors(str(folder), ""):
        return Store(str(folder), LocalStore(prefix=folder, mkdir=True))


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


def patience_seconds() -> float:
    return float(os.environ.get(PATIENCE, _PATIENCE_SECONDS))


def absolute(uri: str) -> str:
    """A URI as it means the same from anywhere: a local path made absolute, a URL without a
    trailing slash."""
    if uri.startswith("file://"):
        uri = unquote(urlsplit(uri).path)
    return uri.rstrip("/") if "://" in uri else os.path.normpath(Path(uri).absolute())


def _options(scheme: str) -> dict[str, Any]:
    """Where S3 is by AWS's usual variables, and keys of a profile or instance role as boto3 finds them;
    other clouds and a missing boto3 are left to the store's own search."""
    options = dict(_CONNECTION)
    if scheme != "s3":
        return options
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    if endpoint:
        options["endpoint"] = endpoint
        # whoever names a plain http endpoint (SeaweedFS or MinIO at home) means it
        http = {"allow_http": endpoint.startswith("http://")}
        options["client_options"] = {**_CONNECTION["client_options"], **http}
    try:
        from obstore.auth.boto3 import Boto3CredentialProvider

        options["credential_provider"] = Boto3CredentialProvider()
    except (ImportError, ValueError):
        pass
    return options
