"""What is damaged in a run folder.

One damaged file does not hide the others: who reads the folder notes it here and goes on, and whoever speaks
to people names it.
"""

from __future__ import annotations

from cluster.storage.store import Damaged

A_FOLDER = "a folder is in its place"
"""How an object is damaged that a folder bars: it is not listed, cannot be found, and cannot be created."""


class Damage:
    """Damaged objects by path, and what follows for each."""

    def __init__(self) -> None:
        self._found: dict[str, str] = {}
        self._named = 0

    def note(self, damaged: Damaged, follows: str) -> None:
        """``follows``: what becomes of it, for people, as "its images are read again"."""
        self._found.setdefault(damaged.path, f"{damaged.found}; {follows}")

    def clear(self) -> None:
        """Forgets what was found: it is mended, or is about to be looked for anew."""
        self._found.clear()
        self._named = 0

    @property
    def paths(self) -> list[str]:
        """Sorted, relative to the run folder."""
        return sorted(self._found)

    def take(self) -> list[str]:
        """A line for each that was found since the last call."""
        lines = list(self._found.values())[self._named :]
        self._named += len(lines)
        return lines
