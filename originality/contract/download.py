"""Downloads a file from a web host.

It resumes after a break, retries with pauses, verifies size and checksum, and gives the file its name only
once it is complete.
"""

from __future__ import annotations

import errno
import hashlib
import http.client
import os
import re
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from originality.contract.config import SettingsError, seconds_from_environment
from originality.contract.faults import MachineFault, first_line
from originality.contract.file_lock import locked
from originality.contract.node_cache import remember
from originality.contract.transfer_progress import Progress

PATIENCE = "FETCH_PATIENCE_SECONDS"
"""Environment variable: seconds for which a host that does not answer is retried."""
_PATIENCE_SECONDS = 30.0
_LONGEST_PAUSE_SECONDS = 15.0
SCRATCH = ".fetch"
"""Folder of incomplete downloads, inside the folder that is being filled."""
_TIMEOUT_S = 30
"""Longest silence of a host."""
_CHUNK = 1 << 20
_PASSING = (408, 425, 429, 500, 502, 503, 504)
"""HTTP statuses after which the same request may succeed."""
NOT_FOUND_STATUSES = (404, 410)
"""HTTP statuses of a file that does not exist, whoever requests it."""


class FetchError(MachineFault):
    """This machine could not fetch or store weights: its network, its disk, or the host failed. A different
    machine may succeed, and no setting is wrong. The message is one line with the fix."""

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status
        """HTTP status, if a host answered."""


@contextmanager
def disk_errors_explained(folder: Path) -> Iterator[None]:
    """Turn a system error while files are written into a FetchError: one line with the fix."""
    try:
        yield
    except OSError as error:
        raise FetchError(
            f"cannot store weights in {folder} ({error.strerror or error}); free space there, or set "
            "ORIGINALITY_CACHE to a writable folder with enough space"
        ) from error


def check_disk_space(folder: Path, needed: int, what: str) -> None:
    """Check the free space of the disk of an existing folder.

    Raises:
        FetchError: it has fewer bytes than needed.
    """
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise FetchError(
            f"{what} needs {needed / 1e9:.1f} GB, and {folder} has {free / 1e9:.1f} GB free; free space, or "
            "set ORIGINALITY_CACHE to a folder on a larger disk"
        ) from OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@contextmanager
def scratch_in(folder: Path, what: str) -> Iterator[Path]:
    """Create the folder of incomplete downloads inside a folder, and lock it against other processes.

    It is removed at the end. After an error it is kept, so that the download can be resumed, unless the disk
    is full.

    Args:
        what: name of what is fetched, for processes that wait.
    """
    scratch = folder / SCRATCH
    with locked(scratch / "lock", what):
        try:
            yield scratch
        except (FetchError, OSError) as error:
            if is_disk_full(error):  # other programs need the space
                _remove(scratch)
            raise
        _remove(scratch)


def _remove(scratch: Path) -> None:
    """Remove the folder of incomplete downloads, its lock last: from then on another process may use it."""
    for file in scratch.iterdir():
        if file.name != "lock":
            file.unlink()
    (scratch / "lock").unlink()
    with suppress(OSError):  # another process uses it already
        scratch.rmdir()


def is_disk_full(error: BaseException | None) -> bool:
    """Whether an error, or one that it was raised from, says that a disk is full."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            return True
        error = error.__cause__
    return False


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Removes credentials on redirects to a different host, such as the content network that stores the
    weights. It must not receive the token, and may refuse a request that has one."""

    def redirect_request(self, request: urllib.request.Request, *rest: Any) -> urllib.request.Request | None:
        following = super().redirect_request(request, *rest)
        if following is not None and following.host != request.host:
            following.headers.pop("Authorization", None)
        return following


@dataclass(frozen=True)
class Download:
    """The download of one file."""

    url: str
    to: Path
    scratch: Path
    """Existing folder of the incomplete file, on the same disk as ``to`` so that it can be renamed."""
    size: int | None = None
    """Bytes, if known."""
    sha256: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    sleep: Callable[[float], object] = time.sleep

    @property
    def name(self) -> str:
        """Name of the file: the last part of its URL."""
        return self.url.rpartition("/")[2]

    @property
    def part(self) -> Path:
        """Path of the incomplete file. Two URLs with the same file name have different ones."""
        unique = hashlib.sha256(self.url.encode()).hexdigest()[:8]
        return self.scratch / f"{unique}-{re.sub('[^A-Za-z0-9_.-]', '_', self.name)}"

    def fetch(self, progress: Progress) -> None:
        """Download the file.

        A file with the wrong size or checksum is downloaded once more from the start: a resumed part may be
        of an older version.

        Raises:
            FetchError: it failed; the message names the host and the cause.
            SettingsError: FETCH_PATIENCE_SECONDS is not a number of seconds.
            ValueError: the address is invalid.
        """
        for again in (True, False):
            self._receive_all(progress)
            with disk_errors_explained(self.scratch):
                digest = self._checked()
                if digest is not None:
                    self.to.parent.mkdir(parents=True, exist_ok=True)
                    self.part.replace(self.to)
                    self._tag.unlink(missing_ok=True)
                    remember(self.to, digest)
                    return
                self.part.unlink()
            if again:
                progress.report(f"{self.name}: not the published file; fetching it again")
        raise FetchError(f"{self.url}: not the published file (checksum or size mismatch)")

    @property
    def _tag(self) -> Path:
        """File with the host's ETag of the incomplete file. A resume sends it, so that parts of two versions
        of a file are never joined."""
        return self.part.with_name(f"{self.part.name}.tag")

    def _checked(self) -> str | None:
        """sha256 of the received file; None if its size or checksum is wrong.

        Raises:
            FetchError: it is a web page.
        """
        with self.part.open("rb") as handle:
            if handle.read(1) == b"<":  # no weights or vocabulary file begins like this
                self.part.unlink()
                raise self._a_page(urlsplit(self.url).netloc)
            handle.seek(0)
            digest = hashlib.file_digest(handle, "sha256").hexdigest()
        wrong_size = self.size is not None and self.part.stat().st_size != self.size
        return None if wrong_size or self.sha256 not in (None, digest) else digest

    def _receive_all(self, progress: Progress) -> None:
        """Receive until the file is complete. Retries end after a time without progress: every byte gained
        starts that time anew."""
        patience = seconds_from_environment(PATIENCE, _PATIENCE_SECONDS, SettingsError)
        waited, pause, most = 0.0, 1.0, self._have()
        while True:
            try:
                return self._receive(progress)
            except (OSError, http.client.HTTPException) as error:
                status = error.code if isinstance(error, urllib.error.HTTPError) else None
                reason = f"{self.url}: {first_line(error)}"
                if self._have() > most:
                    waited, pause, most = 0.0, 1.0, self._have()
                if (status and status not in _PASSING) or waited + pause > patience:
                    raise FetchError(reason, status) from error
            progress.report(f"{reason}; retrying in {pause:.0f} s")
            self.sleep(pause)
            waited, pause = waited + pause, min(2 * pause, _LONGEST_PAUSE_SECONDS)

    def _have(self) -> int:
        return self.part.stat().st_size if self.part.exists() else 0

    def _receive(self, progress: Progress) -> None:
        """Request the bytes that are still missing."""
        headers = dict(self.headers)
        have, tagged = self._have(), self._tag.exists()
        if have and have == self.size:
            return
        if have and (tagged or self.sha256):
            headers |= {"Range": f"bytes={have}-"}
            headers |= {"If-Range": self._tag.read_text()} if tagged else {}
        opener = urllib.request.build_opener(_Redirects)
        try:
            answer = opener.open(urllib.request.Request(self.url, headers=headers), timeout=_TIMEOUT_S)
        except urllib.error.HTTPError as error:
            if error.code == 416 and error.headers["Content-Range"] == f"bytes */{have}":
                return  # it was complete already
            if error.code == 416:  # the part is longer than the file, so of a different version
                self.part.unlink(missing_ok=True)
                self._tag.unlink(missing_ok=True)
                raise OSError("the incomplete file is too long; fetching it from the start") from error
            raise
        with answer:
            self._refuse_pages(answer)
            with disk_errors_explained(self.scratch):
                file = self.part.open("ab" if answer.status == 206 else "wb")
            with file:
                self._note_tag(answer)
                self._pour(answer, file, progress)

    def _refuse_pages(self, answer: Any) -> None:
        kind = answer.headers.get("Content-Type") or ""
        if kind.startswith(("text/html", "application/xhtml")):
            raise self._a_page(urlsplit(answer.url).netloc)

    def _a_page(self, host: str) -> FetchError:
        return FetchError(
            f"{self.url}: {host} answered with a web page instead of the file; a proxy or a login page may "
            "be in between"
        )

    def _note_tag(self, answer: Any) -> None:
        with disk_errors_explained(self.scratch):
            self._tag.unlink(missing_ok=True)
            tag = answer.headers["ETag"]
            if tag and not tag.startswith("W/"):
                self._tag.write_text(tag)

    def _pour(self, answer: Any, file: IO[bytes], progress: Progress) -> None:
        have, promised = file.tell(), answer.headers["Content-Length"]
        total = self.size if promised is None else have + int(promised)
        if progress.total is None:
            progress.total = None if total is None else total - have
        if total is not None:
            check_disk_space(self.scratch, total - have, self.name)
        while chunk := answer.read(_CHUNK):
            with disk_errors_explained(self.scratch):
                file.write(chunk)
                file.flush()
            have += len(chunk)
            progress.add(len(chunk))
        if total is not None and have < total:
            raise ConnectionError(f"the connection ended after {have} of {total} bytes")
