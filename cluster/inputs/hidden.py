"""Hidden files and folders: they belong to the system or a program, and not to a collection."""

from __future__ import annotations

import re
from collections.abc import Sequence
from urllib.parse import quote

import pyarrow as pa
import pyarrow.compute as pc

_FOLDERS = (
    "__MACOSX",  # of archives that a Mac packed
    "@eaDir", "#recycle", "#snapshot",  # Synology
    "@Recycle", "@Recently-Snapshot", "@__thumb",  # QNAP
    "$RECYCLE.BIN", "System Volume Information",  # Windows
    "Network Trash Folder", "Temporary Items",  # macOS on network disks
    "lost+found",  # ext4
)  # fmt: skip
_FILES = ("Thumbs.db", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini", "Icon\r")
SYSTEM = (*_FOLDERS, *_FILES)
"""Names that are hidden, in upper or lower case, besides all that begin with a dot (.git, .thumbnails,
.DS_Store, a Mac's ._photo.jpg)."""

_NAMES = "|".join(sorted({re.escape(name) for known in SYSTEM for name in (known, quote(known))}))
_HIDDEN = rf"(?is)(?:^|/)(?:\.(?:[^./][^/]*|\.[^/]+)|{_NAMES})(?:/|$)"
"""The parts "." and ".." of a bucket's key do not count as hidden names."""


def is_hidden(path: str) -> bool:
    """Whether a path is hidden, or below a hidden folder."""
    return re.search(_HIDDEN, path) is not None


def hidden(paths: pa.ChunkedArray, named: Sequence[str] = ()) -> pa.ChunkedArray:
    """``is_hidden`` of each path. ``named``: regular expressions of parts that the user gave by name; they do
    not count as hidden."""
    if named:
        part = f"(?:{'|'.join(named)})"
        framed = pc.binary_join_element_wise("", paths, "/")
        paths = pc.replace_substring_regex(framed, rf"(?s)/{part}(?:/{part})*(/|$)", r"\1")
    return pc.match_substring_regex(paths, _HIDDEN)
