"""Scores of a detector: precision and recall on held-out renders, and abstention on malformed elements."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from originality.shapes.detector import Detection, Detector
from originality.shapes.drawing import CANVAS, Placed, place
from originality.shapes.elements import ELEMENTS
from originality.shapes.image_sets import ImageSet, generator, pixels
from originality.training.element_detector.malformed import KINDS, deform, paste

NEAR = 4.0
"""Largest distance in pixels between a true detection and its element's centre."""

VISIBLE = 0.5
"""Visible share under which an element is ignored: neither missed nor, if detected, false."""


@dataclass(frozen=True)
class Scores:
    """Counts over all images, at one confidence."""

    confidence: float
    true: int
    false: int
    missed: int
    ignored: int
    """Detections of elements that are mostly hidden."""
    confusion: dict[str, dict[str, int]]
    """Counts of "truth > detected" for each attribute, among detections within NEAR of an element."""
    reliability: tuple[tuple[float, float, int], ...]
    """For bands of confidence: mean confidence, share of true detections, number of detections."""
    centre_error: float
    """Mean distance in pixels of true detections from the centres."""

    @property
    def precision(self) -> float:
        """Share of the detections that are right."""
        return self.true / max(self.true + self.false, 1)

    @property
    def recall(self) -> float:
        """Share of the elements that were detected."""
        return self.true / max(self.true + self.missed, 1)

    def summary(self) -> dict[str, object]:
        """All scores, for a JSON file."""
        return {
            "precision": round(self.precision, 5),
            "recall": round(self.recall, 5),
            **vars(self),
        }


def match(
    found: Sequence[Detection], placed: Sequence[Placed], seen: Sequence[float]
) -> tuple[list[tuple[Detection, Placed]], list[Detection], list[Placed], int]:
    """Pair detections with elements one to one, visible elements first, then by distance.

    Returns:
        True pairs, false detections, missed elements, and the number of detections of hidden ones.
    """
    left = sorted(found, key=lambda d: -d.confidence)
    pairs: list[tuple[Detection, Placed]] = []
    hidden = 0
    close = sorted(
        (math.hypot(d.x - p.x, d.y - p.y), i, j)
        for i, d in enumerate(left)
        for j, p in enumerate(placed)
        if d.element == p.element
    )
    taken_found: set[int] = set()
    taken_placed: set[int] = set()
    for wanted in (True, False):
        for distance, i, j in close:
            if (seen[j] >= VISIBLE) is not wanted or distance > NEAR:
                continue
            if i not in taken_found and j not in taken_placed:
                taken_found.add(i)
                taken_placed.add(j)
                if wanted:
                    pairs.append((left[i], placed[j]))
                else:
                    hidden += 1
    missed = [p for j, p in enumerate(placed) if j not in taken_placed and seen[j] >= VISIBLE]
    false = [d for i, d in enumerate(left) if i not in taken_found]
    return pairs, false, missed, hidden


def evaluate(
    detector: Detector,
    images: ImageSet,
    seed: int,
    count: int,
    confidence: float = 0.9,
    change: Callable[[np.ndarray], np.ndarray] | None = None,
) -> Scores:
    """Score a detector on scenes 0..count of a set.

    Args:
        change: a function applied to the renders first, uint8 (n, 64, 64, 3) to the same.
    """
    scenes = [images.scene(seed, i) for i in range(count)]
    renders = pixels(scenes)
    everything = detector.detect(change(renders) if change else renders, 0.05)
    true = false = missed = ignored = 0
    errors: list[float] = []
    confidences: list[tuple[float, bool]] = []
    confusion: dict[str, Counter[str]] = {a: Counter() for a in ("size", "colour", "texture", "shape")}
    for scene, all_found in zip(scenes, everything, strict=True):
        seen = scene.visibility
        found = [d for d in all_found if d.confidence >= confidence]
        pairs, wrong, lost, hidden = match(found, scene.placed, seen)
        true, false = true + len(pairs), false + len(wrong)
        missed, ignored = missed + len(lost), ignored + hidden
        errors += [math.hypot(d.x - p.x, d.y - p.y) for d, p in pairs]
        for d in wrong:
            for p in lost:
                if math.hypot(d.x - p.x, d.y - p.y) <= NEAR:
                    for attribute, counter in confusion.items():
                        truth, name = getattr(p.element, attribute), getattr(d.element, attribute)
                        if truth != name:
                            counter[f"{truth} > {name}"] += 1
        pairs, wrong, _, _ = match(all_found, scene.placed, seen)
        confidences += [(d.confidence, True) for d, _ in pairs]
        confidences += [(d.confidence, False) for d in wrong]
    return Scores(
        confidence,
        true,
        false,
        missed,
        ignored,
        {a: dict(counter.most_common()) for a, counter in confusion.items()},
        _bands(confidences),
        round(float(np.mean(errors)) if errors else 0.0, 3),
    )


def _bands(confidences: Sequence[tuple[float, bool]]) -> tuple[tuple[float, float, int], ...]:
    edges = (0.05, 0.3, 0.5, 0.7, 0.9, 0.95, 0.98, 1.01)
    bands = []
    for low, high in pairwise(edges):
        own = [(c, t) for c, t in confidences if low <= c < high]
        if own:
            confidence, true = np.mean(own, axis=0)
            bands.append((round(float(confidence), 3), round(float(true), 3), len(own)))
    return tuple(bands)


def abstention(
    detector: Detector,
    seed: int,
    count: int = 300,
    confidence: float = 0.9,
    change: Callable[[np.ndarray], np.ndarray] | None = None,
) -> dict[str, float]:
    """Share of malformed elements, per kind and over all, for which the detector reports something.

    Each image shows one malformed element and nothing else; any confident detection counts.

    Args:
        count: images a kind.
    """
    shares = {}
    for kind in KINDS:
        images = []
        for i in range(count):
            rng = generator("malformed", kind, seed, i)
            spot = place(ELEMENTS[rng.integers(len(ELEMENTS))], rng)
            blank = np.full((CANVAS, CANVAS, 3), 255, np.uint8)
            images.append(paste(blank, deform(kind, spot.element, rng), spot.x, spot.y))
        stack = np.stack(images)
        found = detector.detect(change(stack) if change else stack, confidence)
        shares[kind] = round(sum(bool(f) for f in found) / count, 4)
    shares["all"] = round(float(np.mean(list(shares.values()))), 4)
    return shares
