"""Where copies of weights are that the settings name elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Copies:
    """Where this machine has the weights that the settings name in a bucket or on the hub; None: where the
    settings say."""

    model: Path | None = None
    distance: Path | None = None
    """Of the metric."""
    detector: Path | None = None
    """Of the check of editability."""
