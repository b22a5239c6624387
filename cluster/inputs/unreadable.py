"""Inputs that cannot be read, and the placeholder uri of list rows without one."""

from __future__ import annotations

from originality.contract.redaction import Masked, masked

WITHOUT_URI = r"^([^/:]+, )?row \d+ without a uri$"
"""Matches the placeholder for the uri of a list row that has none. With it the row is still an input, and
gets a row in the results."""


def without_uri(row: int, part: str = "") -> str:
    """The placeholder for the uri of a row, counted from 1. ``part``: the file, for a list in several
    files."""
    return f"{part.rpartition('/')[2].replace(':', '_')}, row {row} without a uri".removeprefix(", ")


class Unreadable(Masked):
    """One input cannot be read, while its store or file system as a whole works."""

    def __init__(self, reason_code: str, message: str, is_final: bool = False) -> None:
        super().__init__(reason_code, message)
        self.reason_code = reason_code
        """Stable, as it is recorded: missing, unreadable, or a code of ``check``."""
        self.message = masked(message)
        self.is_final = is_final
        """Whether it is the same on every machine, so that no other one needs to try."""

    def __str__(self) -> str:
        return self.message
