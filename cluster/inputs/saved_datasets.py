"""Folders that Hugging Face's ``datasets.save_to_disk`` writes: Arrow files, and beside them which of them
are the data set. Without that, all Arrow files count but those that its cache leaves there."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable

from cluster.inputs.sources import Unreadable, read_image

STATE = "state.json"
"""Names the files of the data set, in their order."""
_MOST_BYTES = 16 * 2**20
_LEFT_BY_CACHE = re.compile(r"/(?:cache-|tmp)[^/]*$")


def data_files(arrow: Iterable[str], states: Iterable[str]) -> list[str]:
    """The Arrow files of data sets, folder by folder.

    Args:
        arrow: uris of all Arrow files, sorted.
        states: uris of all files named STATE.

    Returns:
        Their uris; also of one that its folder's STATE names and that is missing.

    Raises:
        Outage, Refused, MachineFault: a store or disk fails.
    """
    by_folder: dict[str, list[str]] = {}
    for uri in arrow:
        by_folder.setdefault(uri.rpartition("/")[0], []).append(uri)
    named = {uri.rpartition("/")[0]: uri for uri in states}
    found: list[str] = []
    for folder, uris in by_folder.items():
        names = _named(named[folder]) if folder in named else None
        if names is None:
            found += [uri for uri in uris if not _LEFT_BY_CACHE.search(uri)]
        else:
            found += [f"{folder}/{name}" for name in names]
    return found


def _named(state: str) -> list[str] | None:
    """Names of the data set's files; None if the file does not say so."""

    def check(size: int) -> None:
        if size > _MOST_BYTES:
            raise Unreadable("unreadable", f"{state} has {size} bytes")

    try:
        files = json.loads(read_image(state, check))["_data_files"]
        names = [file["filename"] for file in files]
    except (Unreadable, ValueError, TypeError, KeyError, RecursionError):
        return None
    plain = all(isinstance(name, str) and re.fullmatch(r"[^/]+\.arrow", name) for name in names)
    return names if plain else None
