"""Does the pseudo-word stay a word of the model, or is it a copy of one picture? (paper Section 3.1)

In the real-world setting the paper asks for the concept in a new scene ("cat in S*"); in the synthetic
one it asks that the elements stand elsewhere for every seed. Each check gives a score, and a score under
the settings' threshold is out of distribution.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from pathlib import Path
from typing import Protocol

import numpy as np
import torch

from originality.evaluation.in_distribution.subject_by_classes import SubjectByClasses, SubjectDetector
from originality.settings.parts import InDistributionSettings
from originality.shapes.detector import Detector
from originality.shapes.drawing import CANVAS, reach

UNIFORM_MEAN_DISTANCE = 0.5214054
"""Mean distance of two independent uniform points of the unit square."""


class InDistribution(Protocol):
    """A check of redraws, or of images drawn for an edit prompt."""

    wants_edits: bool
    """Whether the domain's edit prompt must be drawn for it."""

    def digest(self) -> str:
        """Short digest of the weights that decide."""

    def score(self, redraws: np.ndarray, edits: np.ndarray | None) -> float | None:
        """Score of uint8 (n, side, side, 3) images; None where they are no evidence either way."""


class ElementPositions:
    """Elements stand elsewhere in every redraw, as independent placement makes them (Section 3.1).

    The score is the mean distance between the places of one element kind in two redraws, over all
    pairs of redraws and kinds, divided by what independent uniform placement gives: 1 on average when
    the word says nothing of places, 0 when every redraw is the same picture. Kinds that are found in
    fewer than two redraws count for nothing; without any the score is None.
    """

    wants_edits = False

    def __init__(self) -> None:
        self._detector = Detector.load()

    def digest(self) -> str:
        return self._detector.digest()

    def score(self, redraws: np.ndarray, edits: np.ndarray | None) -> float | None:
        places = defaultdict(list)
        for found in self._detector.detect(redraws):
            per_kind = defaultdict(list)
            for detection in found:
                per_kind[detection.element].append((detection.x, detection.y))
            for kind, points in per_kind.items():
                places[kind].append(points[0])
        ratios = [
            ratio
            for kind, points in places.items()
            if len(points) >= 2
            for ratio in _spread(points, kind.size)
        ]
        return float(np.mean(ratios)) if ratios else None


def _spread(points: list[tuple[float, float]], size: str) -> list[float]:
    """Distances of all pairs of places, in units of their expectation under uniform placement."""
    expected = UNIFORM_MEAN_DISTANCE * (CANVAS - 2 * reach(size))
    return [
        float(np.hypot(a[0] - b[0], a[1] - b[1])) / expected for a, b in itertools.combinations(points, 2)
    ]


class SubjectInScene:
    """Share of the images for "cat in S*" that show a cat."""

    wants_edits = True

    def __init__(self, detector: SubjectDetector, least: float) -> None:
        """``least``: score from which on the detector is believed."""
        self._detector = detector
        self._least = least

    def digest(self) -> str:
        return self._detector.digest()

    def score(self, redraws: np.ndarray, edits: np.ndarray | None) -> float | None:
        return None if edits is None or len(edits) == 0 else float(self.hits(edits).mean())

    def hits(self, edits: np.ndarray) -> np.ndarray:
        """Which of the images uint8 (n, side, side, 3) show the subject: bool (n,)."""
        return np.asarray(self._detector.scores(edits) >= self._least)


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


def load_detector(
    settings: InDistributionSettings, subject: str, device: str | torch.device, folder: Path | None
) -> SubjectDetector:
    """Who looks for the subject; arguments and errors as of load_check."""
    if settings.detector == "imagenet":
        return SubjectByClasses(subject, device)
    place = folder or Path(str(settings.folder))  # the settings are not valid without one
    if settings.detector == "detr":
        from originality.evaluation.in_distribution.subject_by_boxes import SubjectByBoxes

        return SubjectByBoxes(subject, place, device)
    from originality.vision.clip import SubjectByText

    return SubjectByText(subject, place, device)
