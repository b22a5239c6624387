"""Count of the batch slots that a sweep's passes had."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class SlotCount:
    """Slots of all passes so far, used or not.

    Slots that no verdict came to need held repeats, which fill a pass up, or work that was done ahead: larger
    numbers of tokens, later rounds.
    """

    training: int = 0
    """One per lane and step."""
    drawing: int = 0
    """One per redraw or edit image."""
