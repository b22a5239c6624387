"""Whether the folder or prefix in which an image should lie is there at all, on this machine.

Where it is not (a share that is not mounted, a folder that was moved, a bucket of that name elsewhere), no
image in it can be found, and none is to blame.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from pathlib import Path

from cluster.inputs.sources import local_path, walk
from cluster.storage.bounds import Late, within
from cluster.storage.store import NotFound, Refused, StoreError
from originality.contract.faults import MachineFault

_REST_SECONDS = 5.0
"""After a folder was there it is not looked for again: a listing is not asked for with every image."""
_MOST_KNOWN = 1000
"""Folders of which it is remembered."""
_LOOK_SECONDS = 300.0
"""For a local folder to be listed in, or its mount hangs."""
_EMPTY = "is empty"


class SourceGone(MachineFault):
    """The collection that was listed is not there on this machine."""


class SourceCheck:
    """Of one collection, for one worker, whose threads may share it."""

    def __init__(self, source: str, one_input: bool = False) -> None:
        """
        Args:
            source: the folder or prefix in which the listing saw images; empty for a list of images, which
                lie anywhere.
            one_input: whether the collection is one image: a folder that held only it may be empty now.
        """
        self._source = source
        self._one_input = one_input
        self._there_at: dict[str, float] = {}
        self._lock = threading.Lock()

    def check(self) -> None:
        """To be called where an image is missing. What a listing cannot answer says nothing.

        Raises:
            SourceGone: the source does not exist, or is empty as a mount point is.
            MachineFault: its mount hangs.
            Refused: the store would refuse every request.
        """
        why = self._why_gone(self._source) if self._source else ""
        if why:
            raise SourceGone(
                f"{self._source} {why} on {socket.gethostname()}, though images were listed in it; mount "
                "or bring it back"
            )

    def has_folder_of(self, uri: str) -> bool:
        """Whether the folder or prefix of an image that is missing holds anything: one below the source, or
        of a list, may be a mount point too.

        Raises:
            MachineFault: its mount hangs.
            Refused: the store would refuse every request.
        """
        return not self._why_gone(folder_of(uri))

    def _why_gone(self, folder: str) -> str:
        with self._lock:
            there_at = self._there_at.get(folder)
        if there_at is not None and time.monotonic() - there_at < _REST_SECONDS:
            return ""
        why = _why_gone(folder)  # not under the lock: it may take minutes
        if why and not (self._one_input and why == _EMPTY):
            return why
        with self._lock:
            if len(self._there_at) >= _MOST_KNOWN:
                self._there_at.clear()
            self._there_at[folder] = time.monotonic()
        return ""


def folder_of(uri: str) -> str:
    """The folder or prefix in which an input lies."""
    folder, slash, _ = uri.rpartition("/")
    return folder or slash or "."


def _why_gone(folder: str) -> str:
    try:
        if "://" in folder and not folder.startswith("file://"):
            return "" if next(walk(folder), None) else _EMPTY
        return _why_not_here(folder)
    except NotFound:
        return "does not exist"
    except Refused as refusal:
        if refusal.of_all:
            raise
    except (StoreError, OSError):
        pass  # it may be there, and not to be listed
    return ""


def _why_not_here(folder: str) -> str:
    """Of a local folder.

    Raises:
        MachineFault: its mount hangs.
    """
    try:
        return within(folder, _LOOK_SECONDS, lambda: _looked(local_path(folder)))
    except Late as error:
        raise MachineFault(f"{error} on {socket.gethostname()}; does its mount hang?") from error


def _looked(folder: Path) -> str:
    if not folder.is_dir():
        return "does not exist"
    with os.scandir(folder) as entries:
        return "" if next(entries, None) else _EMPTY
