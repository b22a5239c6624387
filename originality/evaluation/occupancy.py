"""How much room a sweep's passes had, whatever held it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Occupancy:
    """Places in all passes so far. Those that no verdict came to need held repeats, or numbers of tokens that
    were trained ahead in vain."""

    training: int = 0
    """One a lane and step."""
    drawing: int = 0
    """One a redraw or edit image."""
