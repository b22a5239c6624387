"""Distance of synthetic images: whether the redraws show the same elements (paper Section 2, Appendix E.1).

The paper compares synthetic images by what an object detector finds in them with a confidence of at least
0.9. An image is reduced to its multiset of elements, whatever their positions, and the distance of a redraw
is 1 - F1 of the two multisets.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from originality.contract.config import SettingsError
from originality.shapes.detector import Detector
from originality.shapes.drawing import CANVAS
from originality.shapes.elements import Element
from originality.vision.batches import rgb_images

VERSION = 1
"""Increased with every change that alters a distance."""

CONFIDENCE = 0.9
"""Least confidence of a detection that counts (Appendix E.1)."""

INK_BELOW = 200
"""A pixel whose darkest channel is under this value is painted; the background is white (255)."""

BLANK_SHARE = 0.005
"""An image with a smaller share of painted pixels is empty; the smallest element paints 1.5 %. Our choice."""

GROUND_SHARE = 0.4
"""An image with a smaller share of white is not a synthetic one, since elements leave two thirds of the
background white. Our choice."""


@dataclass(frozen=True)
class Reading:
    """What the detector finds in an image."""

    elements: tuple[Element, ...]
    """Detected elements in the order of ELEMENTS, with repeats."""
    legible: bool = True
    """False if the image shows something that is no element: it is painted and has none, or it has hardly any
    white background. Two such images need not be alike, so their distance from any image is 1; otherwise
    every photograph, having no elements, would be a perfect redraw of every other one."""


def multiset_f1(a: Iterable[Hashable], b: Iterable[Hashable]) -> float:
    """F1 of two multisets: 2 |a and b| / (|a| + |b|), in [0, 1]; 1 if both are empty."""
    count_a, count_b = Counter(a), Counter(b)
    size = count_a.total() + count_b.total()
    return 2 * (count_a & count_b).total() / size if size else 1.0


def legible(image: np.ndarray, elements: Sequence[Element]) -> bool:
    """Whether the elements account for what the image, uint8 (h, w, 3), shows; see :class:`Reading`."""
    painted = float((image.min(axis=-1) < INK_BELOW).mean())
    if painted > 1 - GROUND_SHARE:
        return False
    return bool(elements) or painted < BLANK_SHARE


class ElementSetDistance:
    """1 - F1 of the detected elements of query and redraw."""

    name = "elements"
    largest = 1.0

    def __init__(self, detector: Detector | None = None) -> None:
        """``detector``: None for the one that ships. It is small, and always runs on the CPU.

        Raises:
            SettingsError: the detector is not found in the installation.
        """
        try:
            self._detector = detector or Detector.load()
        except FileNotFoundError as error:
            raise SettingsError(str(error)) from error

    def digest(self) -> str:
        """Short digest of the detector's weights and the code's version."""
        text = f"{self.name} {VERSION} {self._detector.digest()}"
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def embed(self, images: np.ndarray) -> Sequence[Reading]:
        """Detect the elements of each image: uint8 (n, 64, 64, 3).

        Raises:
            SettingsError: the images are of a different size, which the detector cannot read.
        """
        if rgb_images(images).shape[1:3] != (CANVAS, CANVAS):
            height, width = images.shape[1:3]
            raise SettingsError(
                f"the elements metric reads images of {CANVAS} x {CANVAS} pixels, not "
                f"{width} x {height}: set distance.metric to dreamsim or imagenet for this model"
            )
        if not len(images):
            return []
        readings = []
        found = self._detector.detect(images, confidence=CONFIDENCE)
        for image, detections in zip(images, found, strict=True):
            elements = sorted((d.element for d in detections), key=lambda e: e.index)
            readings.append(Reading(tuple(elements), legible(image, elements)))
        return readings

    def between(self, query: Reading, redraws: Sequence[Reading]) -> np.ndarray:
        """1 - F1 of each redraw: float64 (n,), in [0, 1]; 1 if either image is not legible."""
        return np.array([1.0 - _agreement(query, redraw) for redraw in redraws], dtype=np.float64)


def _agreement(a: Reading, b: Reading) -> float:
    return multiset_f1(a.elements, b.elements) if a.legible and b.legible else 0.0
