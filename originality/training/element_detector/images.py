"""The detector's training images: renders, some with sketched elements beside the rendered ones."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from PIL import Image

from originality.shapes.drawing import CANVAS, RADIUS, Placed, place, visibility
from originality.shapes.elements import ELEMENTS
from originality.shapes.image_sets import UniformSet, generator, pixels
from originality.training.element_detector.malformed import KINDS, deform, paste, roughen


@dataclass(frozen=True)
class Truth:
    """The elements of a training image."""

    placed: tuple[Placed, ...]
    seen: tuple[float, ...]
    """Visible share of each element."""
    malformed: tuple[Placed, ...] = ()
    """Malformed elements, which the detector should not be confident of."""


def _visible_shares(placed: tuple[Placed, ...]) -> tuple[float, ...]:
    """Visible share of each element; not rendered where no two elements can touch."""
    apart = all(_is_clear_of(p, placed[:k]) for k, p in enumerate(placed))
    return (1.0,) * len(placed) if apart else visibility(placed)


def _is_clear_of(new: Placed, others: Sequence[Placed]) -> bool:
    """Whether an element touches none of the others, wherever their outlines lie."""
    return all(
        math.hypot(new.x - o.x, new.y - o.y) > 1 + RADIUS[new.element.size] + RADIUS[o.element.size]
        for o in others
    )


@dataclass
class TrainingImages:
    """Renders of up to six elements, some of them with one or two sketched elements beside rendered ones."""

    seed: int

    @cached_property
    def _kept(self) -> dict[int, tuple[np.ndarray, Truth]]:
        return {}

    def item(self, index: int) -> tuple[np.ndarray, Truth]:
        """Image ``index``, uint8 (64, 64, 3), and its elements."""
        if index not in self._kept:
            self._kept[index] = self._draw(index)
        return self._kept[index]

    def _draw(self, index: int) -> tuple[np.ndarray, Truth]:
        rng = generator("detector", self.seed, index)
        sketches = int(rng.choice((0, 1, 2), p=(0.6, 0.22, 0.18)))
        most = 2 if sketches else int(rng.choice((4, 6)))
        scene = UniformSet(max_elements=most, empty_share=0.04).scene(self.seed, index)
        image = pixels([scene])[0]
        truth = Truth(scene.placed, _visible_shares(scene.placed))
        for _ in range(sketches):
            new = place(ELEMENTS[rng.integers(len(ELEMENTS))], rng)
            if not _is_clear_of(new, (*truth.placed, *truth.malformed)):
                continue
            if rng.random() < 0.3:
                image = paste(image, roughen(new.element, rng), new.x, new.y)
                truth = replace(truth, placed=(*truth.placed, new), seen=(*truth.seen, 1.0))
            else:
                kind = KINDS[rng.integers(len(KINDS))]
                image = paste(image, deform(kind, new.element, rng), new.x, new.y)
                truth = replace(truth, malformed=(*truth.malformed, new))
        return image, truth


def distort(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Add slight blur, noise, tint and JPEG artefacts at random: uint8 (64, 64, 3)."""
    x: np.ndarray = image.astype(np.float32)
    if rng.random() < 0.35:
        sigma = rng.uniform(0.3, 0.85)
        tail = math.exp(-1 / (2 * sigma**2))
        kernel = (tail**4, tail, 1.0, tail, tail**4)
        for axis in (0, 1):
            wide = np.pad(x, [(2, 2) if a == axis else (0, 0) for a in range(3)], mode="edge")
            parts = [np.take(wide, range(k, k + CANVAS), axis) * kernel[k] for k in range(5)]
            x = np.sum(parts, axis=0) / sum(kernel)
    if rng.random() < 0.3:
        x = x * rng.uniform(0.95, 1.03, size=3) + rng.uniform(-6, 6, size=3)
    if rng.random() < 0.35:
        x = x + rng.normal(0, rng.uniform(1, 8), size=x.shape)
    x = np.clip(np.round(x), 0, 255).astype(np.uint8)
    if rng.random() < 0.12:
        stream = io.BytesIO()
        Image.fromarray(x).save(stream, "JPEG", quality=int(rng.integers(60, 96)))
        x = np.asarray(Image.open(stream))
    return x
