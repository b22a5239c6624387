"""Draw a scene of elements as an image (paper Appendix B: white ground, independent uniform places).

A *scene* is a list of placed elements. Big elements are drawn first and small ones over them, so that a
small element is never hidden by a big one, and each has a thin white edge, so that two elements of the
same colour remain distinguishable where they overlap. The visible share of each element is known exactly,
as a detector should not be scored on hidden elements.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from originality.shapes.elements import Element

CANVAS = 64
"""Side of an image in pixels."""

RADIUS = {"big": 10.5, "small": 6.0}
"""Radius in pixels of a circle of the size; the other shapes are scaled to look as large."""

STROKE = {"big": 2.6, "small": 1.9}
"""Line width in pixels of an empty element."""

HALO = 1.0
"""Width in pixels of the white edge around each element."""

RGB = {"red": (222, 45, 38), "green": (35, 150, 70), "blue": (40, 90, 205)}

_OVERSAMPLE = 4
_MARGIN = 1.0


@dataclass(frozen=True)
class Placed:
    """An element at a place: the centre, in pixels from the top left corner."""

    element: Element
    x: float
    y: float


def outline(shape: str, radius: float) -> list[tuple[float, float]]:
    """Corners of a shape around the origin, in pixels (a circle as a 48-gon)."""
    if shape == "square":
        half = radius * 0.86
        return [(-half, -half), (half, -half), (half, half), (-half, half)]
    if shape == "triangle":
        return _polygon(3, radius * 1.16, math.pi / 2, lift=-0.2 * radius)
    if shape == "hexagon":
        return _polygon(6, radius * 1.04, 0.0)
    if shape == "star":
        outer, inner = radius * 1.16, radius * 0.5
        return [
            (
                (outer if k % 2 == 0 else inner) * math.cos(math.pi / 2 + k * math.pi / 5),
                -(outer if k % 2 == 0 else inner) * math.sin(math.pi / 2 + k * math.pi / 5),
            )
            for k in range(10)
        ]
    return _polygon(48, radius, 0.0)


def _polygon(corners: int, radius: float, phase: float, lift: float = 0.0) -> list[tuple[float, float]]:
    angles = [phase + 2 * math.pi * k / corners for k in range(corners)]
    return [(radius * math.cos(a), -radius * math.sin(a) - lift) for a in angles]


def reach(size: str) -> float:
    """Least distance in pixels of a centre from the image's edge."""
    return RADIUS[size] * 1.16 + _MARGIN


def place(element: Element, rng: np.random.Generator) -> Placed:
    """Place an element, uniformly over the places where it lies completely inside the image."""
    edge = reach(element.size)
    x, y = rng.uniform(edge, CANVAS - edge, size=2)
    return Placed(element, float(x), float(y))


def scatter(elements: Sequence[Element], rng: np.random.Generator) -> tuple[Placed, ...]:
    """Place each element independently and uniformly."""
    return tuple(place(element, rng) for element in elements)


def _painting_order(scene: Sequence[Placed]) -> list[int]:
    return sorted(range(len(scene)), key=lambda k: scene[k].element.size == "small")


def draw(scene: Sequence[Placed], side: int = CANVAS) -> Image.Image:
    """Render a scene: an RGB image of ``side`` x ``side`` pixels, a multiple of CANVAS; antialiased.

    Raises:
        ValueError: the side is not a multiple of CANVAS.
    """
    if side < CANVAS or side % CANVAS:
        raise ValueError(
            f"a side of {side} pixels is not a multiple of {CANVAS}; use {CANVAS}, {4 * CANVAS}, ..."
        )
    scale = side // CANVAS * _OVERSAMPLE
    image = Image.new("RGB", (CANVAS * scale,) * 2, "white")
    pen = ImageDraw.Draw(image)
    for k in _painting_order(scene):
        _paint(pen, scene[k], RGB[scene[k].element.colour], halo="white", scale=scale)
    return image.resize((side, side), Image.Resampling.BOX)


def visibility(scene: Sequence[Placed]) -> tuple[float, ...]:
    """Share of each element's painted pixels that no later element covers, in the scene's order."""
    label = Image.new("I", (CANVAS * _OVERSAMPLE,) * 2, 0)
    pen = ImageDraw.Draw(label)
    order = _painting_order(scene)
    painted = {}
    for k in order:
        own = Image.new("I", label.size, 0)
        _paint(ImageDraw.Draw(own), scene[k], k + 1, halo=0)
        painted[k] = int((np.asarray(own) == k + 1).sum())
        _paint(pen, scene[k], k + 1, halo=0)
    seen = np.asarray(label)
    return tuple(float((seen == k + 1).sum()) / max(painted[k], 1) for k in range(len(scene)))


def _paint(
    pen: ImageDraw.ImageDraw,
    placed: Placed,
    ink: tuple[int, int, int] | int,
    halo: str | int,
    scale: int = _OVERSAMPLE,
) -> None:
    element = placed.element
    radius = RADIUS[element.size]

    def at(r: float) -> list[tuple[float, float]]:
        return [((placed.x + dx) * scale, (placed.y + dy) * scale) for dx, dy in outline(element.shape, r)]

    edge = at(radius)
    stroke = STROKE[element.size] * scale
    if element.texture == "full":
        _stroke(pen, edge, 2 * HALO * scale, halo)
        pen.polygon(edge, fill=ink)
        return
    inset = at(radius - STROKE[element.size] / 2)
    _stroke(pen, inset, stroke + 2 * HALO * scale, halo)
    _stroke(pen, inset, stroke, ink)


def _stroke(
    pen: ImageDraw.ImageDraw,
    corners: list[tuple[float, float]],
    width: float,
    ink: tuple[int, int, int] | str | int,
) -> None:
    """Draw a closed line with round corners."""
    half = width / 2
    for (x0, y0), (x1, y1) in zip(corners, corners[1:] + corners[:1], strict=True):
        pen.line([x0, y0, x1, y1], fill=ink, width=round(width))
        pen.ellipse([x0 - half, y0 - half, x0 + half, y0 + half], fill=ink)
