"""Paths of local copies of weights that the settings name elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Copies:
    """Paths on this machine of weights that the settings name in a bucket or on the hub. None: they are where
    the settings say."""

    model: Path | None = None
    distance: Path | None = None
    """Weights of the metric."""
    detector: Path | None = None
    """Weights of the detector of the editability check."""
