"""Opens a store: a local folder, s3://, gs:// or az:// behind one small interface.

Everything that a run keeps goes through a :class:`Store`, and everything that must happen only once goes
through its ``create``: put-if-absent is the only lock that every store has.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from obstore.store import AzureStore, GCSStore, HTTPStore, LocalStore, MemoryStore, S3Store

from cluster.storage import hub_datasets
from cluster.storage.aws import checked_endpoint, s3_access
from cluster.storage.bounds import call_within
from cluster.storage.hub_datasets import HubPath
from cluster.storage.objects import REMOTE_SCHEMES, Store, StoredObject
from cluster.storage.requests import MOUNT_SECONDS
from cluster.storage.store_contact import ABSENT_KEY
from cluster.storage.store_errors import (
    Changed,
    Damaged,
    NotFound,
    Outage,
    Refused,
    StoreError,
    Unaddressable,
    driver_errors,
)
from originality.contract.config import seconds_from_environment

__all__ = [
    "ABSENT_KEY",
    "PATIENCE",
    "REMOTE_SCHEMES",
    "Changed",
    "Damaged",
    "NotFound",
    "Outage",
    "Refused",
    "Store",
    "StoreError",
    "StoredObject",
    "Unaddressable",
    "absolute",
    "open_store",
    "patience_seconds",
]

PATIENCE = "STORE_PATIENCE_SECONDS"
"""Environment variable: seconds for which requests to a bucket are retried during an outage."""
PATIENCE_SECONDS = 300.0
"""An outage usually ends within minutes; workers keep their images while they wait."""
# The read timeout bounds the silence between two bytes. obstore's default, 30 s for a complete object, would
# cut off large objects on slow lines.
_TIMEOUTS = {"timeout": timedelta(hours=1), "read_timeout": timedelta(seconds=60)}
# obstore would retry without reporting it. Store.create must know of every attempt (one that was retried
# finds its own object), and Requests.send retries anyway.
_NO_RETRIES = {"max_retries": 0}
_AZURE_ENDPOINTS = ("AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT")
_BUCKET = re.compile(r"[A-Za-z0-9$][\w.-]*", re.ASCII)


def open_store(uri: str, *, create: bool = True, patience: float | None = None) -> Store:
    """Open the store at a local path or URL. ``memory://`` is a new, empty store in this process.

    Args:
        create: whether to create a local folder that does not exist.
        patience: seconds for which requests to a bucket are retried during an outage; by default the value of
            the environment variable STORE_PATIENCE_SECONDS, or 300.

    Raises:
        NotFound: the local folder does not exist, and ``create`` is False.
        StoreError: the kind of URI is unknown, credentials are missing, or the folder cannot be created.
        Outage: the mount, or the service that issues credentials, does not answer.
    """
    if uri == "memory://":
        return Store(uri, MemoryStore())
    url = absolute(uri)
    return call_within(url, MOUNT_SECONDS, lambda: _open(url, create, patience))


def _open(url: str, create: bool, patience: float | None) -> Store:
    scheme, _, rest = url.partition("://") if "://" in url else ("", "", "")
    if re.search("[:@]", rest.partition("/")[0]):
        raise StoreError(
            f"{scheme}://...: the URL holds credentials or a port; set AWS_PROFILE or AWS_ACCESS_KEY_ID, and "
            "AWS_ENDPOINT_URL instead"
        )
    patience = patience_seconds() if patience is None else patience
    if scheme in REMOTE_SCHEMES:
        return _open_remote(url, scheme, rest, patience)
    if scheme == hub_datasets.SCHEME:
        return _open_dataset(url, patience)
    if scheme:  # the rest of the URL is not repeated: a web address may contain a signature
        raise StoreError(f"{scheme}:// is not supported; use a local folder, s3://, gs:// or az://")
    folder = Path(url)
    if folder.exists() and not folder.is_dir():
        raise StoreError(f"{folder} is a file; a folder is needed")
    if not folder.exists() and not create:
        raise NotFound(f"{folder} does not exist")
    with driver_errors(str(folder), ""):
        return Store(str(folder), LocalStore(prefix=folder, mkdir=True))


@contextmanager
def hurried_after_outage(store: Store) -> Iterator[None]:
    """Shorten the store's patience if an outage ends the context: the full patience was spent already, and
    every step of the cleanup that follows would spend it again."""
    try:
        yield
    except BaseException as error:
        if isinstance(error, Outage) or isinstance(error.__cause__, Outage):
            store.hurry()
        raise


@contextmanager
def removing_empty_folders(uri: str) -> Iterator[None]:
    """On exit, remove the local folders that were created for a URI in the context and contain no file."""
    url = absolute(uri)
    paths = [] if "://" in url else [Path(url), *Path(url).parents]
    missing = [path for path in paths if not path.exists()]
    try:
        yield
    finally:
        with suppress(OSError):  # a file was written into one meanwhile
            for path in missing[:1]:
                for folder, _, _ in sorted(os.walk(path), reverse=True):  # the deepest first
                    Path(folder).rmdir()
            for path in missing[1:]:
                path.rmdir()


def _open_remote(url: str, scheme: str, rest: str, patience: float) -> Store:
    """Open a bucket. The URL is split here: obstore would interpret "?", "#" and "%" in a key."""
    bucket, _, prefix = rest.partition("/")
    if not _BUCKET.fullmatch(bucket):
        raise StoreError(f"no bucket in {url!r}; write {scheme}://BUCKET/PREFIX")
    s3 = s3_access() if scheme == "s3" else None
    for name in _AZURE_ENDPOINTS if scheme == "az" else ():
        if os.environ.get(name):
            checked_endpoint(os.environ[name], name)
    # Plain http only for an endpoint that asks for it.
    options: dict[str, Any] = {
        "prefix": prefix or None,
        "client_options": {**_TIMEOUTS, "allow_http": s3 is None or bool(s3.endpoint)},
        "retry_config": _NO_RETRIES,
    }
    opener: Any = {"s3": S3Store, "gs": GCSStore, "az": AzureStore}[scheme]
    with driver_errors(url, ""):
        return Store(url, opener(bucket, **options, **(s3.options() if s3 else {})), patience=patience, s3=s3)


def _open_dataset(url: str, patience: float) -> Store:
    """Open a data set of the hub, from which files can be read, and nothing else."""
    place = HubPath.parse(url)
    options: dict[str, Any] = {
        "client_options": {
            **_TIMEOUTS,
            "allow_http": place.address.startswith("http://"),
            "default_headers": hub_datasets.headers(),
        },
        "retry_config": _NO_RETRIES,
    }
    with driver_errors(url, ""):
        return Store(url, HTTPStore.from_url(place.address, **options), patience=patience)


def patience_seconds() -> float:
    """The value of STORE_PATIENCE_SECONDS, or 300.

    Raises:
        StoreError: it is not a number of seconds.
    """
    return seconds_from_environment(PATIENCE, PATIENCE_SECONDS, StoreError)


def absolute(uri: str) -> str:
    """A URI that is valid from any working directory: a local path made absolute, a URL without a trailing
    slash."""
    if uri.startswith("file://"):
        uri = unquote(urlsplit(uri).path)
    return uri.rstrip("/") if "://" in uri else os.path.normpath(Path(uri).absolute())
