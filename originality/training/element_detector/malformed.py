"""Malformed elements as a diffusion model draws them, which the detector must not be confident of.

An element is drawn as a small patch with a mask and pasted over an image. Deformations change the outline's
radius as a function of the angle (every shape is star-shaped around its centre), the ink, or the stroke. An
outline counts as malformed only if it visibly deviates from *every* shape at its size: half way between a
small circle and a small hexagon can be distinguished from neither, by an eye or by a fair detector.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
from PIL import Image, ImageChops, ImageDraw

from originality.shapes.drawing import CANVAS, HALO, RADIUS, RGB, STROKE, outline
from originality.shapes.elements import COLOURS, SHAPES, Element

KINDS = (
    "morph",
    "hybrid",
    "blob",
    "stretched",
    "turned",
    "between sizes",
    "mixed colour",
    "two-tone",
    "broken",
    "ghost",
    "half filled",
)

MIN_DEVIATION = 0.9
"""Least distance in pixels of a malformed outline from every shape's, at its worst angle."""

MIN_MEAN_DEVIATION = 0.33
"""Least mean distance over all angles, as the tips of a star deviate far under the slightest change."""

PATCH = 40
"""Side of a patch in pixels: room for the largest element, stretched."""

_OVERSAMPLE = 4
_ANGLES = np.arange(96) * (2 * math.pi / 96)
_COS, _SIN = np.cos(_ANGLES), -np.sin(_ANGLES)


@dataclass(frozen=True)
class Sketch:
    """How to paint one element, any part of which may be wrong."""

    profile: np.ndarray
    """Distance of the outline from the centre at 96 angles, for radius 1."""
    radius: float
    """Radius in pixels."""
    stroke: float
    """Line width in pixels."""
    filled: bool
    ink: tuple[int, int, int]
    second_ink: tuple[int, int, int] | None = None
    """Colour beyond a line through the middle."""
    second_filled: bool | None = None
    """Whether the element is filled beyond that line."""
    tint: float = 0.0
    """Opacity of the filling of an empty element."""
    angle: float = 0.0
    """Direction of the line through the middle, or of the gap."""
    gap: float = 0.0
    """Share of the outline's turn that is missing."""
    opacity: float = 1.0


@cache
def profile_of(shape: str) -> np.ndarray:
    """Radius of a shape's outline at 96 angles, for radius 1: float64 (96,)."""
    corners = outline(shape, 1.0)
    radii = np.full(len(_ANGLES), np.nan)
    for (x0, y0), (x1, y1) in zip(corners, corners[1:] + corners[:1], strict=True):
        # The ray t (c, s) meets the edge p + u (q - p): two linear equations in t and u.
        ex, ey = x1 - x0, y1 - y0
        across = _COS * ey - _SIN * ex
        with np.errstate(divide="ignore", invalid="ignore"):
            t = (x0 * ey - y0 * ex) / across
            u = (x0 * _SIN - y0 * _COS) / across
        hit = (t > 0) & (u >= -1e-9) & (u <= 1 + 1e-9)
        radii = np.where(hit, np.fmax(radii, t), radii)
    return radii


def malformed(profile: np.ndarray, radius: float) -> bool:
    """Whether an outline (96 radii, for radius 1) visibly deviates from every shape at that size."""
    gaps = [
        np.abs(profile - profile_of(s) * (profile.mean() / profile_of(s).mean())) * radius for s in SHAPES
    ]
    return all(gap.max() >= MIN_DEVIATION and gap.mean() >= MIN_MEAN_DEVIATION for gap in gaps)


def _affine(profile: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """The profile of the outline after a linear map of the plane (2, 2)."""
    x, y = matrix @ np.stack([profile * _COS, profile * _SIN])
    angles = np.arctan2(-y, x) % (2 * math.pi)
    order = np.argsort(angles)
    return np.interp(_ANGLES, angles[order], np.hypot(x, y)[order], period=2 * math.pi)


def _wobble(rng: np.random.Generator, size: float) -> np.ndarray:
    waves = [rng.normal() / k**0.5 * np.cos(k * _ANGLES + rng.uniform(0, 2 * math.pi)) for k in range(2, 7)]
    return 1 + size * np.sum(waves, axis=0)


def _outline_of_kind(kind: str, shape: str, rng: np.random.Generator) -> np.ndarray:
    own, other = profile_of(shape), profile_of(str(rng.choice(SHAPES)))
    if kind == "morph":
        t = rng.uniform(0.3, 0.7)
        return own * (1 - t) + other * t
    if kind == "hybrid":
        beyond = np.cos(_ANGLES - rng.uniform(0, 2 * math.pi)) > rng.uniform(-0.4, 0.4)
        return np.where(beyond, own, other)
    if kind == "blob":
        start = own if rng.random() < 0.5 else np.ones_like(own)
        return start * np.clip(_wobble(rng, rng.uniform(0.08, 0.22)), 0.4, 1.7)
    turn = rng.uniform(0, 2 * math.pi)
    spin = np.array([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
    if kind == "turned":
        return _affine(own, spin)
    if rng.random() < 0.5:
        by = rng.uniform(1.15, 1.35)
        return _affine(own, spin @ np.diag([by, 1 / by]) @ spin.T)
    shear = rng.uniform(0.3, 0.7) * rng.choice((-1, 1))
    return _affine(own, np.array([[1.0, shear], [0.0, 1.0]]))


def deform(kind: str, element: Element, rng: np.random.Generator) -> Sketch:
    """A sketch of the element with one thing badly wrong."""
    radius = RADIUS[element.size]
    profile = profile_of(element.shape)
    while kind in KINDS[:5]:
        profile = _outline_of_kind(kind, str(rng.choice(SHAPES)), rng)
        if malformed(profile, radius):
            break
    wrong = Sketch(profile, radius, STROKE[element.size], element.texture == "full", RGB[element.colour])
    change = {**vars(wrong), "angle": rng.uniform(0, 2 * math.pi)}
    others = [RGB[c] for c in COLOURS if c != element.colour]
    other = others[rng.integers(len(others))]
    if kind == "between sizes":
        t = rng.uniform(0.35, 0.65)
        change["radius"] = RADIUS["small"] * (1 - t) + RADIUS["big"] * t
        change["stroke"] = STROKE["small"] * (1 - t) + STROKE["big"] * t
    elif kind == "mixed colour":
        t = rng.uniform(0.3, 0.7)
        r, g, b = (round(p * (1 - t) + q * t) for p, q in zip(wrong.ink, other, strict=True))
        change["ink"] = (r, g, b)
    elif kind == "two-tone":
        change["second_ink"] = other
    elif kind == "broken":
        change["gap"] = rng.uniform(0.2, 0.45)
    elif kind == "ghost":
        change["opacity"] = rng.uniform(0.3, 0.6)
    elif kind == "half filled":
        if rng.random() < 0.6:
            change["second_filled"] = not wrong.filled
        else:
            change["filled"], change["tint"] = False, rng.uniform(0.3, 0.7)
    return Sketch(**change)


def roughen(element: Element, rng: np.random.Generator) -> Sketch:
    """A sketch of the element with flaws too slight to make it malformed."""
    radius = RADIUS[element.size] * rng.uniform(0.96, 1.04)
    profile = profile_of(element.shape) * _wobble(rng, rng.uniform(0, 0.12) / radius)
    r, g, b = (int(np.clip(v + rng.normal(0, 6), 0, 255)) for v in RGB[element.colour])
    return Sketch(
        profile,
        radius,
        STROKE[element.size] * rng.uniform(0.92, 1.08),
        element.texture == "full",
        (r, g, b),
        opacity=rng.uniform(0.94, 1.0),
    )


def paste(image: np.ndarray, sketch: Sketch, x: float, y: float) -> np.ndarray:
    """The image, uint8 (64, 64, 3), with the sketch painted over it, centred at (x, y) in pixels."""
    left, top = math.floor(x) - PATCH // 2, math.floor(y) - PATCH // 2
    colour, mask = _paint(sketch, x - left, y - top)
    rows, columns = (slice(max(0, -start), PATCH - max(0, start + PATCH - CANVAS)) for start in (top, left))
    laid = image.copy()
    window = laid[top + rows.start : top + rows.stop, left + columns.start : left + columns.stop]
    cover = mask[rows, columns, None]
    window[:] = np.round(window * (1 - cover) + colour[rows, columns]).astype(np.uint8)
    return laid


@dataclass(frozen=True)
class _Board:
    """An oversampled patch to paint on, with the element's centre at (x, y) in pixels."""

    x: float
    y: float

    def ring(self, profile: np.ndarray) -> list[tuple[float, float]]:
        """An outline's corners (96 radii in pixels), on the board."""
        xs = (self.x + profile * _COS) * _OVERSAMPLE
        ys = (self.y + profile * _SIN) * _OVERSAMPLE
        return list(zip(xs.tolist(), ys.tolist(), strict=True))

    def blank(self, level: int = 0) -> Image.Image:
        return Image.new("L", (PATCH * _OVERSAMPLE,) * 2, level)

    def mask(self, sketch: Sketch, filled: bool, edge: float) -> Image.Image:
        """Where the sketch leaves ink (255), widened by an edge in pixels."""
        image = self.blank()
        pen = ImageDraw.Draw(image)
        inset, width = 0.0, 2 * edge
        if filled:
            pen.polygon(self.ring(sketch.profile * sketch.radius), fill=255)
        else:
            inset, width = sketch.stroke / 2, sketch.stroke + 2 * edge
        if width:
            ring = self.ring(sketch.profile * (sketch.radius - inset))
            pen.line([*ring, *ring[:2]], fill=255, width=round(width * _OVERSAMPLE), joint="curve")
        if sketch.gap:
            start, far = math.degrees(sketch.angle), PATCH * _OVERSAMPLE
            x, y = self.x * _OVERSAMPLE, self.y * _OVERSAMPLE
            box = (x - far, y - far, x + far, y + far)
            pen.pieslice(box, start, start + 360 * sketch.gap, fill=0)
        return image

    def beyond(self, angle: float) -> Image.Image:
        """The half of the board on one side of a line through the centre."""
        image, far = self.blank(), 2 * PATCH * _OVERSAMPLE
        c, s = math.cos(angle) * far, math.sin(angle) * far
        x, y = self.x * _OVERSAMPLE, self.y * _OVERSAMPLE
        corners = [(x - s, y + c), (x + s, y - c), (x + s + c, y - c + s), (x - s + c, y + c + s)]
        ImageDraw.Draw(image).polygon(corners, fill=255)
        return image


def _paint(sketch: Sketch, x: float, y: float) -> tuple[np.ndarray, np.ndarray]:
    """A patch, the centre at (x, y): colour times mask (p, p, 3) in 0..255; mask (p, p) in 0..1."""
    board = _Board(x, y)
    halo, ink = board.mask(sketch, sketch.filled, HALO), board.mask(sketch, sketch.filled, 0.0)
    paint = Image.new("RGB", ink.size, sketch.ink)
    if sketch.second_filled is not None:
        beyond = board.beyond(sketch.angle)
        halo.paste(board.mask(sketch, sketch.second_filled, HALO), mask=beyond)
        ink.paste(board.mask(sketch, sketch.second_filled, 0.0), mask=beyond)
    if sketch.second_ink:
        paint.paste(sketch.second_ink, mask=board.beyond(sketch.angle))
    if sketch.tint:
        level = board.blank(round(255 * sketch.tint))
        inside = ImageChops.darker(level, board.mask(sketch, True, 0.0))
        ink, halo = ImageChops.lighter(ink, inside), board.mask(sketch, True, HALO)
    if sketch.opacity < 1:
        ink = ink.point([round(v * sketch.opacity) for v in range(256)])
    shown = Image.composite(paint, Image.new("RGB", ink.size, "white"), ink)
    # Black outside the halo: shrinking then yields the colour times the mask.
    shown = Image.composite(shown, Image.new("RGB", ink.size, "black"), halo)
    colour, cover = (
        np.asarray(part.resize((PATCH, PATCH), Image.Resampling.BOX), np.float64) for part in (shown, halo)
    )
    return colour, cover / 255
