"""In-distribution checks: is the pseudo-word a concept, or a copy of one picture? (paper Section 3.1)

In the real-world setting the paper prompts for the concept in a new scene ("cat in S*"). In the synthetic
setting it requires that the elements have different positions for every seed. Each check gives a score; a
word whose score is under the settings' threshold is out of distribution.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import numpy as np
import torch

from originality.evaluation.in_distribution.positions import ElementPositions
from originality.evaluation.in_distribution.scene import SubjectInScene, load_detector
from originality.settings.parts import InDistributionSettings


class InDistribution(Protocol):
    """A check of redraws, or of images rendered for an edit prompt."""

    wants_edits: bool
    """Whether it needs images of the domain's edit prompt."""

    def digest(self) -> str:
        """Short digest of the weights."""

    def score(self, redraws: np.ndarray, edits: np.ndarray | None) -> float | None:
        """Score of uint8 (n, side, side, 3) images; None if they are no evidence either way."""


def load_check(
    settings: InDistributionSettings,
    subject: str = "cat",
    device: str | torch.device = "cpu",
    folder: Path | None = None,
) -> InDistribution | None:
    """Load the check that the settings choose; None for "none".

    Args:
        subject: the domain's edit subject.
        folder: the detector's weights on this machine; None for the settings' ``folder``.

    Raises:
        SettingsError: the detector's weights are not found or cannot be read, or it does not know the
            subject.
    """
    if settings.check == "positions":
        return ElementPositions()
    if settings.check == "editability":
        return SubjectInScene(load_detector(settings, subject, device, folder), settings.detector_score)
    return None
