"""Damaged objects of a run folder: how they are named, collected and reported.

One damaged file does not hide the others: code that reads the folder notes it here and continues, and the
command that prints to the user reports all of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from cluster.storage.objects import Store
from cluster.storage.store_errors import Damaged, StoreError
from originality.contract.checksum import Mismatch

A_FOLDER = "a folder is in its place"
"""Why an object is damaged if a folder has its path: it is not listed, not found, and cannot be created."""
_PARSER_ERRORS = (
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    OSError,
    ArithmeticError,
    RuntimeError,
)
"""What parsers raise over damaged bytes, pyarrow's included."""


class Damage:
    """Damaged objects by path, with the consequence of each."""

    def __init__(self) -> None:
        self._found: dict[str, str] = {}
        self._reported = 0

    def note(self, damaged: Damaged, consequence: str) -> None:
        """Note a damaged object. ``consequence``: for the user, such as "its images are read again"."""
        self._found.setdefault(damaged.path, f"{damaged.found}; {consequence}")

    def clear(self) -> None:
        """Forget all notes: the damage is repaired, or is about to be looked for again."""
        self._found.clear()
        self._reported = 0

    @property
    def paths(self) -> list[str]:
        """Paths of the damaged objects, sorted, relative to the run folder."""
        return sorted(self._found)

    def take(self) -> list[str]:
        """A line for each object noted since the last call."""
        lines = list(self._found.values())[self._reported :]
        self._reported += len(lines)
        return lines


@contextmanager
def damage_errors(store: Store, path: str) -> Iterator[None]:
    """Turn the errors of parsing an object of a run folder into one that names the object.

    Raises:
        Damaged: the code in the context could not parse the object.
    """
    try:
        yield
    except StoreError:
        raise
    except _PARSER_ERRORS as error:
        why = str(error) if isinstance(error, Mismatch) else type(error).__name__
        raise damaged_object(store, path, why) from error


def damaged_object(store: Store, path: str, why: str) -> Damaged:
    """The error that names an object of a run folder as damaged. ``why``: how the damage shows."""
    found = f"{store.url}/{path} is damaged ({why})"
    damaged = Damaged(f"{found}; restore an intact copy, or audit into another --out")
    damaged.path, damaged.found = path, found
    return damaged
