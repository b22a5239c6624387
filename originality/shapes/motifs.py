"""Motifs: compositions that the model saw often, seldom or never, and that are otherwise comparable.

Language gives a short name to what is seen often ("Starry Night"). A motif is a composition of three
elements; the motifs that the training set shows have a name of their own, and the captions use it. All
motifs are drawn at once from the same distribution and assigned to the groups in the order of the draw:
the groups differ in how often the model saw their members, in having names, and by chance.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from originality.shapes.elements import ELEMENTS, Element

GROUP_SHARE = {"familiar": 0.01, "rare": 0.001, "scarce": 0.0002}
"""Share of all training images that each single motif of a group has (20 motifs a group)."""

GROUPS = (*GROUP_SHARE, "unseen")

MOTIFS_PER_GROUP = 20
ELEMENTS_PER_MOTIF = 3
NAME_SHARE = 0.7
"""Share of a motif's training captions that use its name; the others describe it."""


@dataclass(frozen=True)
class Motif:
    """Three different elements, their group, and their name (None for unseen motifs)."""

    elements: tuple[Element, ...]
    group: str
    name: str | None


@lru_cache(maxsize=1)
def motif_names() -> tuple[str, ...]:
    """Names of the motifs: invented, pronounceable words that no caption contains otherwise."""
    names = [a + b + c + d for a, b, c, d in itertools.product("bdfgklmnpvz", "aeiou", "bdgklmnv", "aiou")]
    order = np.random.Generator(np.random.PCG64(7)).permutation(len(names))
    count = MOTIFS_PER_GROUP * len(GROUP_SHARE)
    return tuple(names[k] for k in order[:count])


@lru_cache(maxsize=8)
def all_motifs(seed: int = 0) -> tuple[Motif, ...]:
    """The 80 motifs of a seed, 20 in each group, in the order of GROUPS."""
    rng = np.random.Generator(np.random.PCG64(seed))
    chosen: list[tuple[Element, ...]] = []
    while len(chosen) < MOTIFS_PER_GROUP * len(GROUPS):
        picks = rng.choice(len(ELEMENTS), size=ELEMENTS_PER_MOTIF, replace=False)
        elements = tuple(sorted(ELEMENTS[k] for k in picks))
        trio = sum(e.shape in ("circle", "square", "triangle") for e in elements)
        if trio <= 1 and elements not in chosen:
            chosen.append(elements)
    names = motif_names()
    return tuple(
        Motif(elements, GROUPS[k // MOTIFS_PER_GROUP], names[k] if k < len(names) else None)
        for k, elements in enumerate(chosen)
    )
