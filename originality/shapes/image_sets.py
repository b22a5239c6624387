"""Image sets of the world of shapes (paper Section 2, Appendices B, C and E.1).

Image i of a set is a pure function of (set, seed, i): nothing is stored, and any worker can make any
image. A set chooses a scene's elements; :mod:`originality.shapes.drawing` places and draws them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
from PIL import Image

from originality.shapes.drawing import CANVAS, Placed, draw, scatter, visibility
from originality.shapes.elements import COLOURS, ELEMENTS, Element, caption_of, select
from originality.shapes.motifs import GROUP_SHARE, Motif, all_motifs, motif_names

EMPTY_SHARE = 0.1
"""Share of images that show nothing (Appendix B)."""

TRIO = ("circle", "square", "triangle")
"""The three shapes of which Appendix E.1 forms pairs; every other image holds at most one of them."""


@dataclass(frozen=True)
class Scene:
    """What one image shows, and its caption."""

    placed: tuple[Placed, ...]
    group: str
    """Why the set holds this image: "empty", "composed", "common", "familiar", ..."""
    name: str | None = None
    """The name of the motif or pair, if it has one."""

    @property
    def elements(self) -> tuple[Element, ...]:
        """The elements, without their places."""
        return tuple(p.element for p in self.placed)

    @property
    def caption(self) -> str:
        """The description, elements in the order of ELEMENTS ("" for an empty image)."""
        return caption_of(sorted(self.elements, key=lambda e: e.index))

    @property
    def visibility(self) -> tuple[float, ...]:
        """Visible share of each element, in the order of ``placed``."""
        return visibility(self.placed)

    def image(self, side: int = CANVAS) -> Image.Image:
        """RGB image of ``side`` x ``side`` pixels."""
        return draw(self.placed, side)


class ImageSet(Protocol):
    """An endless, seeded collection of scenes."""

    def scene(self, seed: int, index: int) -> Scene:
        """Scene ``index`` of the set under ``seed``."""


def generator(*key: object) -> np.random.Generator:
    """A random generator that depends on the key alone.

    The key's ``repr`` is hashed. Image sets pass themselves: renaming one of those dataclasses or its fields,
    or adding a field, changes all of its images, and with them every result that was measured on them.
    """
    digest = hashlib.sha256(repr(key).encode()).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest[:16], "little")))


@dataclass(frozen=True)
class UniformSet:
    """10 % empty images, otherwise 1..n elements of the set, drawn uniformly (Section 2)."""

    elements: tuple[Element, ...] = ELEMENTS
    max_elements: int = 4
    empty_share: float = EMPTY_SHARE

    def scene(self, seed: int, index: int) -> Scene:
        rng = generator(self, seed, index)
        if rng.random() < self.empty_share:
            return Scene((), "empty")
        picks = self._picks(rng, int(rng.integers(1, self.max_elements + 1)))
        return Scene(scatter([self.elements[k] for k in picks], rng), "composed")

    def _picks(self, rng: np.random.Generator, count: int) -> np.ndarray:
        return rng.integers(len(self.elements), size=count)


@dataclass(frozen=True)
class WeightedSet(UniformSet):
    """A :class:`UniformSet` whose elements are drawn in proportion to weights."""

    weights: tuple[float, ...] = (1.0,) * len(ELEMENTS)
    """Weights of the elements, in their order."""

    def _picks(self, rng: np.random.Generator, count: int) -> np.ndarray:
        weights = np.array(self.weights)
        return rng.choice(len(weights), size=count, p=weights / weights.sum())


PAIRS = {"common": ("circle", "square"), "rare": ("circle", "triangle"), "unseen": ("square", "triangle")}
"""Shapes of the pairs of Appendix E.1."""


@dataclass(frozen=True)
class CommonRareUnseenSet:
    """The set of Appendix E.1: big full elements, and pairs that differ in frequency.

    30 % of images are the pair (circle, square) in varying colours, 0.1 % the pair (circle, triangle),
    none the pair (square, triangle); the others hold up to four elements, at most one of the trio.
    With ``fixed_location`` the common pair always stands at the same two places (Appendix C). With ``named``
    each common and rare pair of colours has a name.
    """

    common_share: float = 0.3
    rare_share: float = 0.001
    max_elements: int = 4
    empty_share: float = EMPTY_SHARE
    fixed_location: bool = False
    named: bool = False

    FIXED_PLACES = ((20.0, 20.0), (44.0, 44.0))

    def scene(self, seed: int, index: int) -> Scene:
        rng = generator(self, seed, index)
        draw_of_kind = rng.random()
        if draw_of_kind < self.common_share:
            return self.pair("common", rng)
        if draw_of_kind < self.common_share + self.rare_share:
            return self.pair("rare", rng)
        if draw_of_kind < self.common_share + self.rare_share + self.empty_share:
            return Scene((), "empty")
        return self.composed(rng)

    def composed(self, rng: np.random.Generator, count: int | None = None) -> Scene:
        """A random image other than the pairs; with ``count``, of this many elements."""
        pool = select(sizes=("big",), textures=("full",))
        while True:
            elements = _at_most_one_of_trio(pool, self.max_elements, rng)
            if count in (None, len(elements)):
                return Scene(scatter(elements, rng), "composed")

    def pair(self, group: str, rng: np.random.Generator) -> Scene:
        """A random image of one of the three pairs, colours drawn uniformly and independently."""
        elements = [
            Element("big", str(rng.choice(("red", "green", "blue"))), "full", shape) for shape in PAIRS[group]
        ]
        name = self._name(group, elements)
        if self.fixed_location and group == "common":
            placed = tuple(Placed(e, x, y) for e, (x, y) in zip(elements, self.FIXED_PLACES, strict=True))
            return Scene(placed, group, name)
        return Scene(scatter(elements, rng), group, name)

    def _name(self, group: str, elements: Sequence[Element]) -> str | None:
        """The name of a pair of colours; None for unseen pairs, which no caption names."""
        if not self.named or group == "unseen":
            return None
        first, second = (COLOURS.index(e.colour) for e in elements)
        return motif_names()[9 * (group == "rare") + 3 * first + second]


def _at_most_one_of_trio(
    pool: Sequence[Element], max_elements: int, rng: np.random.Generator
) -> list[Element]:
    """1..max elements, drawn uniformly; drawn again while two or more are of the trio."""
    while True:
        picks = rng.integers(len(pool), size=rng.integers(1, max_elements + 1))
        elements = [pool[k] for k in picks]
        if sum(e.shape in TRIO for e in elements) <= 1:
            return elements


@dataclass(frozen=True)
class TaughtSet:
    """The training set of the shipped model: pairs of Appendix E.1, motifs, and free compositions.

    - the pairs of Appendix E.1 at their published shares: common 30 %, rare 0.1 %, unseen 0;
    - 60 motifs of three elements with a name of their own: 20 *familiar* (1 % of all images each),
      20 *rare* (0.1 % each), 20 *scarce* (0.02 % each); and 20 *unseen* ones, drawn in the same
      way, that no image shows: the groups differ in nothing but how often the model saw them;
    - 10 % empty images;
    - otherwise 1..4 of all 60 elements, at most one of the trio, never exactly the elements of a motif.
    """

    max_elements: int = 4
    motif_seed: int = 0

    E1 = CommonRareUnseenSet()

    @cached_property
    def motifs(self) -> tuple[Motif, ...]:
        """All motifs, in the order of their groups."""
        return all_motifs(self.motif_seed)

    @cached_property
    def _reserved(self) -> frozenset[tuple[Element, ...]]:
        return frozenset(m.elements for m in self.motifs)

    def motifs_of(self, group: str) -> tuple[Motif, ...]:
        """The 20 motifs of a group: familiar, rare, scarce or unseen."""
        return tuple(m for m in self.motifs if m.group == group)

    def scene(self, seed: int, index: int) -> Scene:
        rng = generator("TaughtSet", self.max_elements, self.motif_seed, seed, index)
        kind = rng.random()
        for group, share in (
            ("common", self.E1.common_share),
            ("rare pair", self.E1.rare_share),
            ("empty", EMPTY_SHARE),
            *((g, s * 20) for g, s in GROUP_SHARE.items()),
        ):
            if kind < share:
                return self.scene_of_group(group, rng)
            kind -= share
        return self._composed(rng)

    def scene_of_group(self, group: str, rng: np.random.Generator) -> Scene:
        """A random scene of a group: "empty", "common", "rare pair", or a group of motifs."""
        if group == "empty":
            return Scene((), group)
        if group in ("common", "rare pair"):
            pair = self.E1.pair(group.removesuffix(" pair"), rng)
            return Scene(pair.placed, group)
        motifs = self.motifs_of(group)
        return motif_scene(motifs[rng.integers(len(motifs))], rng)

    def _composed(self, rng: np.random.Generator) -> Scene:
        while True:
            elements = _at_most_one_of_trio(ELEMENTS, self.max_elements, rng)
            if tuple(sorted(elements)) not in self._reserved:
                return Scene(scatter(elements, rng), "composed")


def motif_scene(motif: Motif, rng: np.random.Generator) -> Scene:
    """A random image of a motif: its elements, each at an independent uniform place."""
    return Scene(scatter(motif.elements, rng), motif.group, motif.name)


def clear_view(scene: Scene, least: float = 0.85) -> bool:
    """Whether every element is mostly visible, as the query images of experiments must be."""
    return all(v >= least for v in scene.visibility)


def pixels(scenes: Sequence[Scene], side: int = CANVAS) -> np.ndarray:
    """Render scenes: uint8 (n, side, side, 3)."""
    if not scenes:
        return np.zeros((0, side, side, 3), np.uint8)
    return np.stack([np.asarray(scene.image(side)) for scene in scenes])
