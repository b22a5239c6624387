"""Check of the synthetic setting: elements have different positions for every seed (paper Section 3.1)."""

from __future__ import annotations

import itertools
from collections import defaultdict

import numpy as np

from originality.shapes.detector import Detector
from originality.shapes.drawing import CANVAS, reach

UNIFORM_MEAN_DISTANCE = 0.5214054
"""Mean distance of two independent uniform points of the unit square."""


class ElementPositions:
    """Elements have different positions in every redraw, as if placed independently (Section 3.1).

    The score is the mean distance between the positions of one kind of element in two redraws, over all pairs
    of redraws and all kinds, divided by its expectation under independent uniform placement: about 1 if the
    word does not determine positions, 0 if every redraw is the same picture. Kinds that are found in fewer
    than two redraws are left out; if none remains, the score is None.
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
    """Distances of all pairs of positions, divided by their expectation under uniform placement."""
    expected = UNIFORM_MEAN_DISTANCE * (CANVAS - 2 * reach(size))
    return [
        float(np.hypot(a[0] - b[0], a[1] - b[1])) / expected for a, b in itertools.combinations(points, 2)
    ]
