"""Does the pseudo-word stay a word of the model, or is it a copy of one picture? (paper Section 3.1)

In the real-world setting the paper asks for the concept in a new scene ("cat in S*"); in the synthetic
one it asks that the elements stand elsewhere for every seed. Each check gives a score, and a score under
the settings' threshold is out of distribution.
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
    """A check of redraws, or of images drawn for an edit prompt."""

    wants_edits: bool
    """Whether the domain's edit prompt must be drawn for it."""

    def digest(self) -> str:
        """Short digest of the weights that decide."""

    def score(self, redraws: np.ndarray, edits: np.ndarray | None) -> float | None:
        """Score of uint8 (n, side, side, 3) images; None where they are no evidence either way."""


def load_check(
    settings: InDistributionSettings,
    subject: str = "cat",
    device: str | torch.device = "cpu",
    folder: Path | None = None,
) -> InDistribution | None:
    """The check that the settings ask for, with the domain's edit subject; None for "none".

    Args:
        folder: where this machine has the detector's weights, if the settings' ``folder`` is elsewhere.

    Raises:
        SettingsError: the detector's weights are absent or unreadable, or it does not know the subject.
    """
    if settings.check == "positions":
        return ElementPositions()
    if settings.check == "editability":
        return SubjectInScene(load_detector(settings, subject, device, folder), settings.detector_score)
    return None
