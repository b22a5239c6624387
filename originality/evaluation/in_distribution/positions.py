"""In the synthetic setting, elements stand elsewhere for every seed (paper Section 3.1)."""

from __future__ import annotations

import itertools
from collections import defaultdict

import numpy as np

from originality.shapes.detector import Detector
from originality.shapes.drawing import CANVAS, reach

UNIFORM_MEAN_DISTANCE = 0.5214054
"""Mean distance of two independent uniform points of the unit square."""


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
