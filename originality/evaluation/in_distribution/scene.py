"""Check of the real-world setting: images of "cat in S*" show a cat (paper Sections 3.1 and 4.2)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from originality.evaluation.in_distribution.subject_by_classes import SubjectByClasses, SubjectDetector
from originality.settings.extensions import DETECTORS, factory_of
from originality.settings.parts import InDistributionSettings


class SubjectInScene:
    """Scores a word by the share of its edit images ("cat in S*") that show the subject (a cat)."""

    wants_edits = True

    def __init__(self, detector: SubjectDetector, least: float) -> None:
        """``least``: least score of the detector at which an image counts as showing the subject."""
        self._detector = detector
        self._least = least

    def digest(self) -> str:
        return self._detector.digest()

    def score(self, redraws: np.ndarray, edits: np.ndarray | None) -> float | None:
        return None if edits is None or len(edits) == 0 else float(self.hits(edits).mean())

    def hits(self, edits: np.ndarray) -> np.ndarray:
        """Which of the images uint8 (n, side, side, 3) show the subject: bool (n,)."""
        return np.asarray(self._detector.scores(edits) >= self._least)


def load_detector(
    settings: InDistributionSettings, subject: str, device: str | torch.device, folder: Path | None
) -> SubjectDetector:
    """Load the detector that looks for the subject; arguments and errors as for load_check."""
    if settings.detector == "imagenet":
        return SubjectByClasses(subject, device)
    if settings.detector not in ("detr", "clip"):
        detector: SubjectDetector = factory_of(DETECTORS, settings.detector)(subject, settings, device)
        return detector
    place = folder or Path(str(settings.folder))  # settings without a folder are invalid
    if settings.detector == "detr":
        from originality.evaluation.in_distribution.subject_by_boxes import SubjectByBoxes

        return SubjectByBoxes(subject, place, device)
    from originality.evaluation.in_distribution.subject_by_text import SubjectByText

    return SubjectByText(subject, place, device)
