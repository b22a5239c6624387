"""One file from a web host: resumed where it broke off, retried with pauses, compared with what it should be,
and under its name only when it is complete."""

from __future__ import annotations

import errno
import hashlib
import http.client
import os
import re
import shutil
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self
from urllib.parse import urlsplit

from originality.contract.config import SettingsError, seconds_from_environment
from originality.contract.faults import MachineFault
from originality.contract.file_lock import locked
from originality.contract.node_cache import remember

PATIENCE = "FETCH_PATIENCE_SECONDS"
"""Environment variable: for how long a host that does not answer is asked again."""
_PATIENCE_SECONDS = 30.0
_LONGEST_PAUSE_SECONDS = 15.0
SCRATCH = ".fetch"
_TIMEOUT_S = 30
"""Of silence."""
_CHUNK = 1 << 20
_EVERY_SECONDS = 5.0
"""Between two lines of progress."""
_PASSING = (408, 425, 429, 500, 502, 503, 504)
"""Statuses after which the same request may succeed."""
NOT_FOUND_STATUSES = (404, 410)
"""Statuses that say the same to everyone."""


class FetchError(MachineFault):
    """Weights that this machine could not fetch or keep, and another one may: its network, its disk, or a
    host that fails. One line with the fix; no setting is wrong."""

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status
        """Of HTTP, where a host answered."""


def to_stderr(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


@dataclass
class Progress:
    """Lines of text while bytes arrive: of what, how many of how many, how fast. A context manager."""

    what: str
    total: int | None = None
    """Bytes."""
    tell: Callable[[str], object] = to_stderr
    clock: Callable[[], float] = time.monotonic
    doing: str = "fetching"
    _done: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __enter__(self) -> Self:
        self._began = self._last = self.clock()
        size = "" if self.total is None else f" ({self.total / 1e6:.0f} MB)"
        self.tell(f"{self.doing} {self.what}{size}")
        return self

    def add(self, count: int) -> None:
        """Counts bytes that arrived; from any thread."""
        with self._lock:
            self._done += count
            now = self.clock()
            if now - self._last >= _EVERY_SECONDS:
                self._last = now
                self.tell(f"{self.what}: {self._amount()}, {self._rate(now):.1f} MB/s{self._left(now)}")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            now = self.clock()
            self.tell(
                f"{self.what}: {self._done / 1e6:.0f} MB in {now - self._began:.0f} s "
                f"({self._rate(now):.1f} MB/s)"
            )

    def _amount(self) -> str:
        of = "" if self.total is None else f" of {self.total / 1e6:.0f}"
        return f"{self._done / 1e6:.0f}{of} MB"

    def _rate(self, now: float) -> float:
        return self._done / 1e6 / max(now - self._began, 1e-3)

    def _left(self, now: float) -> str:
        if self.total is None or not 0 < self._done < self.total:
            return ""
        return f", {(self.total - self._done) / 1e6 / self._rate(now):.0f} s left"


@contextmanager
def disk_errors_explained(folder: Path) -> Iterator[None]:
    """What the system says when files cannot be written, as one line with the fix."""
    try:
        yield
    except OSError as error:
        raise FetchError(
            f"weights cannot be kept in {folder} ({error.strerror or error}); make room there, or set "
            "ORIGINALITY_CACHE to a folder that can be written and has room for them"
        ) from error


def check_disk_space(folder: Path, needed: int, what: str) -> None:
    """Raises:
    FetchError: the disk of a folder, which exists, has less than the bytes that are needed.
    """
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise FetchError(
            f"{what} takes {needed / 1e9:.1f} GB, and {folder} has {free / 1e9:.1f} GB left; make room, or "
            "set ORIGINALITY_CACHE to a folder on a larger disk"
        ) from OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@contextmanager
def scratch_in(folder: Path, what: str) -> Iterator[Path]:
    """A folder for what is half done, in one that is being filled, while no other process fills it. It is
    removed at the end; after an error it stays, to resume from, unless the disk is full.

    Args:
        what: is fetched, for who waits.
    """
    scratch = folder / SCRATCH
    with locked(scratch / "lock", what):
        try:
            yield scratch
        except (FetchError, OSError) as error:
            if is_disk_full(error):  # others need the room
                _remove(scratch)
            raise
        _remove(scratch)


def _remove(scratch: Path) -> None:
    """The lock goes last: from then on another process may be at work here."""
    for file in scratch.iterdir():
        if file.name != "lock":
            file.unlink()
    (scratch / "lock").unlink()
    with suppress(OSError):  # it is in use again
        scratch.rmdir()


def is_disk_full(error: BaseException | None) -> bool:
    """Whether an error, or what it was raised from, says that a disk is full."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            return True
        error = error.__cause__
    return False


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Keeps credentials from other hosts: weights lie on a content network that their host redirects to."""

    def redirect_request(self, request: urllib.request.Request, *rest: Any) -> urllib.request.Request | None:
        following = super().redirect_request(request, *rest)
        if following is not None and following.host != request.host:
            following.headers.pop("Authorization", None)
        return following


@dataclass(frozen=True)
class Download:
    """A file of a web host."""

    url: str
    to: Path
    scratch: Path
    """Existing folder, on the same disk, of what is half done."""
    size: int | None = None
    """Bytes, where they are known."""
    sha256: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    sleep: Callable[[float], object] = time.sleep

    @property
    def name(self) -> str:
        return self.url.rpartition("/")[2]

    @property
    def part(self) -> Path:
        unique = hashlib.sha256(self.url.encode()).hexdigest()[:8]
        return self.scratch / f"{unique}-{re.sub('[^A-Za-z0-9_.-]', '_', self.name)}"

    def fetch(self, progress: Progress) -> None:
        """Fetches the file.

        Raises:
            FetchError: host, cause.
            SettingsError: FETCH_PATIENCE_SECONDS is no number of seconds.
            ValueError: the address is none.
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
                progress.tell(f"{self.name}: not the file that is published; fetched again")
        raise FetchError(f"{self.url}: not the file that is published (its checksum or size is different)")

    @property
    def _tag(self) -> Path:
        """Beside a part the host's tag of its file, so that parts of two files never come together."""
        return self.part.with_name(f"{self.part.name}.tag")

    def _checked(self) -> str | None:
        """The part's sha256; None where the part is not what it should be.

        Raises:
            FetchError: it is a web page.
        """
        with self.part.open("rb") as handle:
            if handle.read(1) == b"<":  # no file of weights or words begins so
                self.part.unlink()
                raise self._a_page(urlsplit(self.url).netloc)
            handle.seek(0)
            digest = hashlib.file_digest(handle, "sha256").hexdigest()
        wrong_size = self.size is not None and self.part.stat().st_size != self.size
        return None if wrong_size or self.sha256 not in (None, digest) else digest

    def _receive_all(self, progress: Progress) -> None:
        """Receives until the part is complete. The patience begins anew with every byte that is gained."""
        patience = seconds_from_environment(PATIENCE, _PATIENCE_SECONDS, SettingsError)
        waited, pause, most = 0.0, 1.0, self._have()
        while True:
            try:
                return self._receive(progress)
            except (OSError, http.client.HTTPException) as error:
                status = error.code if isinstance(error, urllib.error.HTTPError) else None
                reason = f"{self.url}: {_reason(error)}"
                if self._have() > most:
                    waited, pause, most = 0.0, 1.0, self._have()
                if (status and status not in _PASSING) or waited + pause > patience:
                    raise FetchError(reason, status) from error
            progress.tell(f"{reason}; tried again in {pause:.0f} s")
            self.sleep(pause)
            waited, pause = waited + pause, min(2 * pause, _LONGEST_PAUSE_SECONDS)

    def _have(self) -> int:
        return self.part.stat().st_size if self.part.exists() else 0

    def _receive(self, progress: Progress) -> None:
        """One request: what is not yet in the part."""
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
            if error.code == 416:  # more than there is: of another version of the file
                self.part.unlink(missing_ok=True)
                self._tag.unlink(missing_ok=True)
                raise OSError("what was kept of it is longer than the file; it is fetched anew") from error
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
            f"{self.url}: {host} answers with a web page and not with the file; a proxy or a login page may "
            "stand between"
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


def _reason(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
