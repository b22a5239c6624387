"""Generalisation against diversity: is an element drawn that no training image shows? (Section 2, Figure 3,
Appendix B.2)

A set of elements is the cross product of some shapes, colours, sizes and textures. Two elements are left out
whose features all remain: red square and blue circle, or, in the mirrored repeat, blue square and red circle;
so that over both no colour and no shape is favoured.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import Field, PositiveInt

from originality.settings import RedrawSettings
from originality.synthetic.experiments.elements import REDRAW, ElementsMeasure
from originality.synthetic.experiments.plans import Autoencoder, ElementsPlan, ModelPlan
from originality.synthetic.training.recipe import Frozen, ShapesRecipe
from originality.synthetic.world import SHAPES, SIZES, TEXTURES, Size, Texture

SIMPLE: dict[str, tuple[str, ...]] = {"shapes": ("square", "circle"), "colours": ("red", "blue")}
"""What the least diverse sets are spanned by."""

Elements = Literal[4, 8, 15, 30, 60]

DIVERSITIES: tuple[Elements, ...] = (4, 8, 15, 30, 60)
"""Numbers of elements."""

MIRRORS = ((("red", "square"), ("blue", "circle")), (("blue", "square"), ("red", "circle")))
"""Colours and shapes of the missing elements."""


class Spanned(Frozen):
    """One spanning set, of which repeats differ in what they are made of."""

    elements: int
    sizes: tuple[Size, ...]
    textures: tuple[Texture, ...]
    at: tuple[Size, Texture]
    """Of the missing elements."""

    def plan(self, mirror: int) -> ElementsPlan:
        size, texture = self.at
        missing = tuple(f"{size} {colour} {texture} {shape}" for colour, shape in MIRRORS[mirror])
        few = SIMPLE if self.elements < 15 else {"shapes": SHAPES}
        return ElementsPlan.model_validate(
            {"kind": "elements", "sizes": self.sizes, "textures": self.textures, "missing": missing, **few}
        )


def spanning_sets(elements: Elements) -> list[Spanned]:
    """All spanning sets of so many elements, and places of the missing ones in them."""
    both = [(size, texture) for size in SIZES for texture in TEXTURES]

    def of(sizes: tuple[str, ...], textures: tuple[str, ...], at: tuple[str, str]) -> Spanned:
        return Spanned.model_validate({"elements": elements, "sizes": sizes, "textures": textures, "at": at})

    if elements in (4, 15):
        return [of((size,), (texture,), (size, texture)) for size, texture in both]
    if elements in (8, 30):
        by_size = [of(SIZES, (texture,), (size, texture)) for size, texture in both]
        by_texture = [of((size,), TEXTURES, (size, texture)) for size, texture in both]
        return [one for pair in zip(by_size, by_texture, strict=True) for one in pair]
    return [of(SIZES, TEXTURES, at) for at in both]


class Diversity(Frozen):
    """Models of sets of different diversity, and how often each draws what it was not shown."""

    recipe: ShapesRecipe
    autoencoder: Autoencoder = "shared"
    diversities: tuple[Elements, ...] = DIVERSITIES
    repeats: PositiveInt = Field(2, le=8)
    """Models of each diversity. They take turns in what is missing, then in size and texture; each is
    trained under a seed of its own."""
    images: PositiveInt = 256
    """Drawn by the empty prompt, and as many by that of each missing element; 1,024 in the paper."""
    redraw: RedrawSettings = REDRAW
    """How they are drawn."""

    def plans(self) -> list[ModelPlan]:
        return [
            self._plan(elements, repeat) for repeat in range(self.repeats) for elements in self.diversities
        ]

    def _plan(self, elements: Elements, repeat: int) -> ModelPlan:
        sets = spanning_sets(elements)
        spanned = sets[repeat // 2 % len(sets)]
        return ModelPlan(
            name=f"elements-{elements}-{repeat}",
            images=spanned.plan(repeat % 2),
            recipe=self.recipe.model_copy(update={"seed": repeat}),
            autoencoder=self.autoencoder,
        )

    def measures(self, trained: Mapping[str, str]) -> list[ElementsMeasure]:
        """What is to be measured of the models, whose trainings' ids are given by name."""
        return [
            ElementsMeasure(
                kind="elements",
                name=plan.name,
                model=trained[plan.name],
                wanted=plan.images.missing,
                images=self.images,
                redraw=self.redraw,
            )
            for plan in self.plans()
            if isinstance(plan.images, ElementsPlan)
        ]
