"""Checks whether the folder or prefix of a missing image exists at all on this machine.

If it does not (a share that is not mounted, a folder that was moved, a bucket of that name elsewhere), none
of its images can be found, and the images are not at fault.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from pathlib import Path

from cluster.inputs.sources import local_path, walk
from cluster.storage.bounds import Late, call_within
from cluster.storage.store import NotFound, Refused, StoreError
from originality.contract.faults import MachineFault

REST_SECONDS = 5.0
"""Seconds for which a folder that was found is not looked for again: not every missing image costs a
listing."""
_MOST_KNOWN = 1000
"""Folders that are remembered as found."""
LOOK_SECONDS = 300.0
"""Bound on listing a local folder; if it takes longer, its mount hangs."""
_EMPTY = "is empty"


class SourceGone(MachineFault):
    """The collection does not exist on this machine."""


class SourceCheck:
    """The check for one collection and one worker, whose threads may share it."""

    def __init__(self, source: str, one_input: bool = False) -> None:
        """
        Args:
            source: the folder or prefix in which images were listed; empty for a list, whose images may be
                anywhere.
            one_input: whether the collection is a single image. Without it, its folder may be empty.
        """
        self._source = source
        self._one_input = one_input
        self._there_at: dict[str, float] = {}
        self._lock = threading.Lock()

    def check(self) -> None:
        """Check the source after an image was missing. A listing that fails shows nothing.

        Raises:
            SourceGone: the source does not exist, or is empty as an unmounted share's mount point is.
            MachineFault: its mount hangs.
            Refused: the store would refuse every request.
        """
        why = self._why_gone(self._source) if self._source else ""
        if why:
            raise SourceGone(
                f"{self._source} {why} on {socket.gethostname()}, though images were listed in it; mount "
                "or restore it"
            )

    def has_folder_of(self, uri: str) -> bool:
        """Whether the folder or prefix of a missing image contains anything: a folder below the source, or of
        a list's image, may be a mount point too.

        Raises:
            MachineFault: its mount hangs.
            Refused: the store would refuse every request.
        """
        return not self._why_gone(folder_of(uri))

    def _why_gone(self, folder: str) -> str:
        with self._lock:
            there_at = self._there_at.get(folder)
        if there_at is not None and time.monotonic() - there_at < REST_SECONDS:
            return ""
        why = why_gone(folder)  # without the lock: it may take minutes
        if why and not (self._one_input and why == _EMPTY):
            return why
        with self._lock:
            if len(self._there_at) >= _MOST_KNOWN:
                self._there_at.clear()
            self._there_at[folder] = time.monotonic()
        return ""


def folder_of(uri: str) -> str:
    """The folder or prefix of an input."""
    folder, slash, _ = uri.rpartition("/")
    return folder or slash or "."


def why_gone(folder: str) -> str:
    """Why a folder or prefix does not contain anything; empty if it does, or if that cannot be found out."""
    try:
        if "://" in folder and not folder.startswith("file://"):
            return "" if next(walk(folder), None) else _EMPTY
        return _why_gone_here(folder)
    except NotFound:
        return "does not exist"
    except Refused as refusal:
        if refusal.refuses_all:
            raise
    except (StoreError, OSError):
        pass  # it may exist, although it cannot be listed
    return ""


def _why_gone_here(folder: str) -> str:
    """Why a local folder does not contain anything; empty if it does.

    Raises:
        MachineFault: its mount hangs.
    """
    try:
        return call_within(folder, LOOK_SECONDS, lambda: look_into(local_path(folder)))
    except Late as error:
        raise MachineFault(f"{error} on {socket.gethostname()}; does its mount hang?") from error


def look_into(folder: Path) -> str:
    """Why a local folder does not contain anything; empty if it does. May hang with the folder's mount."""
    if not folder.is_dir():
        return "does not exist"
    with os.scandir(folder) as entries:
        return "" if next(entries, None) else _EMPTY
