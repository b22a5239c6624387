"""Locks among the processes of one machine, held on a file.

The operating system releases such a lock when its process ends, however it ends, so a killed process leaves
no lock behind.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from originality.contract.transfer_progress import to_stderr

_POLL_SECONDS = 0.1


@contextmanager
def locked(path: Path, fetched: str = "") -> Iterator[None]:
    """Wait for the lock and hold it while the context is open.

    Args:
        path: the lock's file. It and its folder are created if they are missing. The holder may remove both.
        fetched: what the holder fetches; a line on stderr names it while this process waits.

    Raises:
        OSError: the file cannot be created, or its file system has no locks.
    """
    lock = _lock(path)
    while True:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                lock.acquire(blocking=False)
            except Timeout:
                if fetched:
                    to_stderr(f"waiting for another process on this machine that fetches {fetched}")
                lock.acquire()
            break
        except (FileNotFoundError, FileExistsError):
            # The last holder may have removed the folder between our creating it and opening the file. A file
            # or broken link in the folder's place stays there, so another attempt would fail as well.
            if path.parent.is_file() or path.parent.is_symlink():
                raise
    try:
        yield
    finally:
        lock.release()


@contextmanager
def locked_if_free(path: Path) -> Iterator[bool]:
    """Hold the lock while the context is open if no other process holds it; yield whether it does."""
    lock = _lock(path)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


def _lock(path: Path) -> FileLock:
    # A soft lock, the fallback for file systems without locks, would outlive a killed process and stop every
    # later one. The file stays after a release, since removing it would let two processes hold the lock: one
    # on the removed file, for which it was already waiting, one on a new file of the same name. A holder that
    # removes it itself is safe, as filelock does not accept a lock on a removed file.
    return FileLock(
        path,
        thread_local=False,  # a context may be closed by another thread than the one that opened it
        poll_interval=_POLL_SECONDS,
        fallback_to_soft=False,
        preserve_lock_file=True,
    )
