"""How lists and tables of images are read: what the user may say about them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class TableOptions:
    """What the user says about a list or a table of images."""

    columns: Sequence[str] | None = None
    """Names of the columns that are kept beside the uris or images; None: all."""
    image_column: str | None = None
    """The column that holds the images themselves; None: found by its type."""
    delimiter: str | None = None
    """One character between the cells of a CSV; None: found by its header."""


DEFAULTS = TableOptions()
"""All columns are kept, and found by their types."""


@dataclass(frozen=True)
class ImageTable:
    """The columns of a table whose rows hold the images themselves."""

    image: str
    """Name of the column of images."""
    columns: Sequence[str] | None = None
    """Names of the other columns that are kept; None: all."""

    @property
    def key(self) -> str:
        """Text that differs wherever listings by these columns may."""
        return repr((self.image, None if self.columns is None else list(self.columns)))
