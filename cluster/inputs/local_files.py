"""Images in local folders: read and listed through the operating system, whatever their names."""

from __future__ import annotations

import errno
import itertools
import os
import socket
import stat
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote_from_bytes, unquote_to_bytes, urlsplit

from cluster.inputs.hidden import is_hidden
from cluster.inputs.locations import Container, Member, changed
from cluster.inputs.unreadable import Unreadable
from cluster.storage.bounds import Late, call_within, expect_bytes, read_in_pieces
from cluster.storage.store import NotFound, Outage, StoreError
from originality.contract.faults import MachineFault, is_machine_fault

_OF_A_FILE = frozenset({errno.EIO, errno.EBADMSG, getattr(errno, "EUCLEAN", errno.EIO)})
"""Errors that may come from one damaged file, if other files beside it can be read."""
_GONE = frozenset({errno.ENOENT, errno.ENOTDIR, getattr(errno, "ESTALE", errno.ENOENT)})
"""Errors over a file or folder that was removed or renamed since its name was listed."""
_MOST_BESIDE = 50
"""Files beside an unreadable one that are tried."""
READ_SECONDS = 300.0
"""Bound on reading a local file, or an object by boto3, beside the time for its bytes. Long enough for a file
server to restart."""
LISTED_AT_ONCE = 10_000
"""Files listed in one bounded call."""

T = TypeVar("T")


def read_local(uri: str, check: Callable[[int], None]) -> bytes:
    """Read a file. ``check`` is called with the size before any byte is read, and raises to refuse it.

    Raises:
        Unreadable: this file cannot be read, while others beside it can.
        MachineFault: this machine's disk or mount fails.
    """

    def read(path: Path) -> bytes:
        size = _status(uri, path).st_size
        check(size)
        expect_bytes(size)
        with path.open("rb") as file:
            data = read_in_pieces(file)
        check(len(data))  # it may have grown since
        return data

    return _attributed(uri, read)


def read_local_range(member: Member) -> bytes:
    """Read a part of a file.

    Raises:
        Unreadable, MachineFault: as of :func:`read_local`; the former also if the file is not the one that
            was listed.
    """
    listed, uri = member.container, member.container.uri

    def read(path: Path) -> bytes:
        _status(uri, path)  # before it is opened: opening a pipe would block
        expect_bytes(member.size)
        with path.open("rb") as file:
            now = os.fstat(file.fileno())
            if now.st_size != listed.size:
                raise Unreadable("unreadable", changed(uri, f"{now.st_size} bytes instead of {listed.size}"))
            if listed.version not in (None, str(now.st_mtime_ns)):
                raise Unreadable("unreadable", changed(uri, "a different time of the last write"))
            file.seek(member.offset)
            data = read_in_pieces(file, member.size)
        if len(data) != member.size:
            raise Unreadable("unreadable", changed(uri, f"{len(data)} of {member.size} bytes are there"))
        return data

    return _attributed(uri, read)


def describe_local(uri: str) -> Container:
    """Size and version of a file.

    Raises:
        Unreadable, MachineFault: as of :func:`read_local`.
    """

    def describe(path: Path) -> Container:
        status = _status(uri, path)
        return Container(uri, status.st_size, str(status.st_mtime_ns))

    return _attributed(uri, describe)


def _status(uri: str, path: Path) -> os.stat_result:
    """The status of a regular file.

    Raises:
        Unreadable: it is none; reading a pipe would block, reading a device never end.
        OSError, ValueError: it cannot be found out.
    """
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise Unreadable("unreadable", f"{uri} is not a regular file")
    return status


def _attributed(uri: str, call: Callable[[Path], T]) -> T:
    """Make a call about a file, and attribute a failure to the file or to the machine.

    Raises:
        Unreadable, MachineFault: as of :func:`read_local`.
    """
    try:
        return call_within(uri, READ_SECONDS, lambda: _attributed_here(uri, call))
    except Late as error:
        if _others_answer(uri):
            raise Unreadable("unreadable", str(error)) from error
        raise MachineFault(f"{error} on {socket.gethostname()}; does its mount hang?") from error


def _attributed_here(uri: str, call: Callable[[Path], T]) -> T:
    path = local_path(uri)
    try:
        return call(path)
    except FileNotFoundError as error:
        raise Unreadable("missing", f"{uri} does not exist") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        damaged = getattr(error, "errno", None) in _OF_A_FILE and _reads_others(path)
        if is_machine_fault(error) and not damaged:
            raise MachineFault(f"{uri}: {reason} on {socket.gethostname()}") from error
        raise Unreadable("unreadable", f"{uri}: {reason}") from error


def _others_answer(uri: str) -> bool:
    """Whether another file beside one that hangs can be read; then the mount works."""
    with suppress(Late):
        return call_within(uri, READ_SECONDS, lambda: _reads_others(local_path(uri)))
    return False


def _reads_others(path: Path) -> bool:
    """Whether another file in the same folder can be read: then the disk or mount works."""
    with suppress(OSError), os.scandir(path.parent) as entries:
        for entry in itertools.islice(entries, _MOST_BESIDE):
            with suppress(OSError):
                if entry.name != path.name and stat.S_ISREG(entry.stat().st_mode):
                    with open(entry.path, "rb") as file:  # noqa: PTH123
                        if file.read(1):
                            return True
    return False


def local_path(uri: str) -> Path:
    """The file of a path or a file:// uri, whose name may consist of any bytes."""
    if uri.startswith("file://"):
        return Path(os.fsdecode(unquote_to_bytes(urlsplit(uri).path)))
    return Path(uri)


def local_uri(path: str) -> str:
    """A local path as text that Arrow and JSON can hold: unchanged, or as file:// uri if it is not UTF-8."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return "file://" + quote_from_bytes(os.fsencode(path))
    return path


def walk_local(root: str, vanished: Callable[[str], None]) -> Iterator[tuple[str, int]]:
    """List (uri, bytes) of every file under a folder; see :func:`cluster.inputs.sources.walk`."""
    found = _walk(root, vanished)
    while some := bounded(root, lambda: list(itertools.islice(found, LISTED_AT_ONCE))):
        yield from some


def bounded(path: str, call: Callable[[], T]) -> T:
    """Make a call about a local path; return what it returns.

    Raises:
        Outage: the mount of the path hangs.
    """
    try:
        return call_within(path, READ_SECONDS, call)
    except Late as error:
        raise Outage(f"{error} on {socket.gethostname()}; does its mount hang?") from error


def _walk(root: str, vanished: Callable[[str], None]) -> Iterator[tuple[str, int]]:
    began = _folder_id(root)
    if began is None:
        raise NotFound(f"{root} does not exist")
    seen: set[tuple[int, int]] = set()

    def pass_over(error: OSError) -> None:
        folder = str(error.filename)
        if is_hidden(folder.removeprefix(root)):  # such as lost+found, which only root may read
            return
        if error.errno not in _GONE:
            raise StoreError(f"{folder}: {error.strerror}; make it readable or exclude it") from error
        vanished(folder)

    for folder, below, names in os.walk(root, onerror=pass_over, followlinks=True):
        try:
            here = os.stat(folder)  # noqa: PTH116
        except OSError as error:
            pass_over(error)
            below.clear()
            continue
        if (here.st_dev, here.st_ino) in seen:  # a link to a folder above would loop for ever
            below.clear()
            continue
        seen.add((here.st_dev, here.st_ino))
        for name in names:
            path = os.path.join(folder, name)  # noqa: PTH118 - Path would be slow for millions of files
            try:
                size = os.stat(path).st_size  # noqa: PTH116
            except OSError:
                size = 0  # a broken link, for example; reading it will report that
            yield local_uri(path), size
    # Moved or unmounted: then it is not single folders that vanished, and the listing has gaps anywhere.
    if _folder_id(root) != began:
        raise StoreError(f"{root} vanished while it was listed; restore it and start again")


def _folder_id(folder: str) -> tuple[int, int] | None:
    """Device and inode of a folder, which tell it from one that takes its place; None if it does not
    exist."""
    try:
        status = os.stat(folder)  # noqa: PTH116
    except OSError as error:
        if error.errno in _GONE:
            return None
        raise StoreError(f"{folder}: {error.strerror}; make it readable or exclude it") from error
    except ValueError:  # not a valid file name
        return None
    return (status.st_dev, status.st_ino) if stat.S_ISDIR(status.st_mode) else None
