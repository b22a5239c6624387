"""Data sets of Hugging Face's hub at a commit: ``hf://datasets/OWNER/NAME@COMMIT/PATH``.

Lists of files come from huggingface_hub, which knows the user's token; files are read by ranges over HTTP. A
commit never changes, so a file has no version beside its size.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, TypeVar
from urllib.parse import quote, unquote, urlsplit

from cluster.storage.requests import Requests
from cluster.storage.store_errors import NotFound, Outage, Refused, StoreError
from originality.contract.redaction import as_cause

SCHEME = "hf"
PREFIX = "hf://"
_URL = re.compile(
    r"hf://datasets/([\w.-]+/[\w.-]+?)(?:@(refs/(?:convert|pr)/[\w.-]+|[^/@]+))?(?:/(.*))?",
    re.ASCII | re.DOTALL,
)
_COMMIT = re.compile(r"[0-9a-f]{40}")
_FORM = "write hf://datasets/OWNER/NAME, then @REVISION and /PATH if needed"
_TOKEN = "set HF_TOKEN to a token that may read it, and accept its terms on its page if it has any"
_PAGE = 1000
"""Files of a listing that are fetched in one bounded call."""

T = TypeVar("T")


@dataclass(frozen=True)
class HubPath:
    """A data set, or a folder or file of it."""

    repository: str
    """OWNER/NAME."""
    revision: str
    """A branch, tag, reference or commit."""
    path: str
    """Below the root; empty for the root."""

    @classmethod
    def parse(cls, url: str) -> HubPath:
        """Parse a URL. In a revision, %2F stands for a slash.

        Raises:
            StoreError: it does not name a data set.
        """
        found = _URL.fullmatch(url)
        if found is None:
            raise StoreError(f"{url} is not the address of a data set on the hub; {_FORM}")
        return cls(found[1], unquote(found[2] or "main"), (found[3] or "").strip("/"))

    @property
    def root(self) -> str:
        """URL of the data set."""
        return f"{PREFIX}datasets/{self.repository}@{quote(self.revision, safe='')}"

    def __str__(self) -> str:
        return f"{self.root}/{self.path}" if self.path else self.root

    @property
    def address(self) -> str:
        """Web address of its files."""
        where = f"{self.repository}/resolve/{quote(self.revision, safe='')}"
        return f"{endpoint()}/datasets/{where}/{quote(self.path)}".rstrip("/")


def endpoint() -> str:
    """Web address of the hub: HF_ENDPOINT, or the public one."""
    from huggingface_hub import constants  # slow to import, and rarely needed

    return constants.ENDPOINT


def headers() -> dict[str, str]:
    """Headers of requests for files, with the user's token if there is one."""
    from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

    return {**build_hf_headers(), "Accept-Encoding": "identity"}


def pinned(url: str, patience: float) -> str:
    """The URL with the commit that its revision is now.

    Args:
        url: of a data set, or a folder or file of it.
        patience: seconds for which the request is retried while the hub is out.

    Raises:
        NotFound: there is no such data set or revision.
        StoreError: the hub refuses it, or the URL is invalid.
        Outage: the hub is out.
    """
    place = HubPath.parse(url)
    if _COMMIT.fullmatch(place.revision):
        return str(place)
    found = _ask(
        place,
        patience,
        lambda api: api.repo_info(place.repository, revision=place.revision, repo_type="dataset").sha,
    )
    return str(replace(place, revision=found))


def list_files(url: str, patience: float) -> Iterator[tuple[str, int]]:
    """List (path, bytes) of every file below a URL; paths are from the data set's root.

    Raises:
        NotFound, StoreError, Outage: as of :func:`pinned`.
    """
    place = HubPath.parse(url)
    how = {"revision": place.revision, "repo_type": "dataset", "recursive": True}
    done = 0
    # Taken out while a page is fetched, as in Store.list: a retry starts a new listing behind what is known.
    listings: list[Iterator[Any]] = []

    def next_page(api: Any) -> list[tuple[str, int] | None]:
        if not listings:
            entries = api.list_repo_tree(place.repository, place.path or None, **how)
            listings.append(islice(entries, done, None))
        entries = listings.pop()
        page = [(e.path, e.size) if hasattr(e, "size") else None for e in islice(entries, _PAGE)]
        listings.append(entries)
        return page

    while page := _ask(place, patience, next_page):
        done += len(page)
        yield from filter(None, page)


def size_of(url: str, patience: float) -> int:
    """Bytes of a file.

    Raises:
        NotFound: there is no such file.
        StoreError, Outage: as of :func:`pinned`.
    """
    place = HubPath.parse(url)
    how = {"revision": place.revision, "repo_type": "dataset"}
    found = _ask(place, patience, lambda api: api.get_paths_info(place.repository, [place.path], **how))
    sizes = [entry.size for entry in found if entry.path == place.path and hasattr(entry, "size")]
    if not sizes:
        raise NotFound(f"{url} does not exist")
    size: int = sizes[0]
    return size


def _ask(place: HubPath, patience: float, call: Callable[[Any], T]) -> T:
    """The answer of huggingface_hub to a request, which is retried while the hub is out."""
    from huggingface_hub import HfApi

    def attempt() -> T:
        with without_hub_warnings(), _errors(place):
            return call(HfApi())

    return Requests(str(place), None, patience).send("", attempt)


@contextmanager
def _errors(place: HubPath) -> Iterator[None]:
    """Turn exceptions of huggingface_hub into ours."""
    try:
        yield
    except StoreError:
        raise
    except Exception as error:  # of any kind: it depends on the library's network stack
        raise _error_of(error, place) from as_cause(error)


def _error_of(error: Exception, place: HubPath) -> StoreError:
    """Our error for an exception of huggingface_hub."""
    from huggingface_hub import errors

    name = f"hf://datasets/{place.repository}"
    if isinstance(error, errors.GatedRepoError):
        return _refused(f"{name} is shown only to accounts that accepted its terms; {_TOKEN}")
    if isinstance(error, errors.RevisionNotFoundError):
        return NotFound(f"{name} has no revision {place.revision!r}; name a branch, tag or commit")
    if isinstance(error, errors.EntryNotFoundError):
        return NotFound(f"{name} has no {place.path or 'files'} at {place.revision}")
    if isinstance(error, errors.RepositoryNotFoundError):
        return NotFound(f"the hub has no data set {place.repository}, or it is private: {_TOKEN}")
    if isinstance(error, errors.HFValidationError):
        return StoreError(f"{name} is not a name of the hub; {_FORM}")
    if isinstance(error, errors.OfflineModeIsEnabled):
        return StoreError(f"{name} is on the hub, and HF_HUB_OFFLINE is set; unset it")
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status in (401, 403):
        return _refused(f"{name}: the hub refuses it ({status}); {_TOKEN}")
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    host = urlsplit(endpoint()).netloc.rpartition("@")[2]
    return Outage(f"{name}: the hub {host} is unavailable ({reason}); check HF_ENDPOINT and the network")


def _refused(message: str) -> Refused:
    refused = Refused(message)
    refused.refuses_all = True
    return refused


@contextmanager
def without_hub_warnings() -> Iterator[None]:
    """Silence the hub library, which logs each of its retries; the outcome is reported here."""
    logger = logging.getLogger("huggingface_hub")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
