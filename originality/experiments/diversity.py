"""Generalisation against diversity: is an element drawn that no training image shows? (Section 2, Figure 3,
Appendix B.2)

A set of elements is the cross product of some shapes, colours, sizes and textures. Two elements are left out
whose features all remain: red square and blue circle, or, mirrored, blue square and red circle; so that over
repeats no colour and no shape is favoured.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field, PositiveInt, field_validator

from originality.experiments.tasks.measure_elements import REDRAW, ElementsMeasure
from originality.experiments.tasks.plans import Autoencoder, ElementsPlan, ModelPlan, unseeded
from originality.settings.parts import RedrawSettings
from originality.shapes.elements import SIZES, TEXTURES, Size, Texture
from originality.training.shapes_model.recipe import Frozen, ShapesRecipe

SIMPLE: dict[str, tuple[str, ...]] = {"shapes": ("square", "circle"), "colours": ("red", "blue")}
"""What the least diverse sets are spanned by."""

Elements = Literal[4, 8, 15, 30, 60]

DIVERSITIES: tuple[Elements, ...] = (4, 8, 15, 30, 60)
"""Numbers of elements."""

MIRRORS = ((("red", "square"), ("blue", "circle")), (("blue", "square"), ("red", "circle")))
"""Colours and shapes of the missing elements."""


PLACES: tuple[tuple[Size, Texture], ...] = (
    ("big", "full"),
    ("big", "empty"),
    ("small", "full"),
    ("small", "empty"),
)
"""Size and texture of the missing elements, by repeat."""

REPEATS = 2 * len(PLACES)
"""After which they come again."""


def spanned(elements: Elements, repeat: int) -> ElementsPlan:
    """The set of a repeat.

    Size and texture of the missing elements go through all four combinations, and what is missing is mirrored
    so that over four repeats each size and each texture has either; sets of 8 and 30 have two sizes and two
    textures by turns. Over eight repeats all of it is crossed.
    """
    k, again = repeat % len(PLACES), repeat // len(PLACES) % 2
    size, texture = PLACES[k]
    mirror = (0, 1, 1, 0)[k] ^ again
    two_sizes = (k + again) % 2 == 0
    sizes: tuple[Size, ...] = (size,)
    textures: tuple[Texture, ...] = (texture,)
    if elements == 60 or (elements in (8, 30) and two_sizes):
        sizes = SIZES
    if elements == 60 or (elements in (8, 30) and not two_sizes):
        textures = TEXTURES
    missing = tuple(f"{size} {colour} {texture} {shape}" for colour, shape in MIRRORS[mirror])
    few = SIMPLE if elements < 15 else {}
    return ElementsPlan.model_validate(
        {"kind": "elements", "sizes": sizes, "textures": textures, "missing": missing, **few}
    )


SHOWN = "shown"
"""How names of measurements end that ask for elements which training shows."""

_ASKED, _OF_EACH = 8, 32
"""Of a set's shown elements, how many are asked for, and images of each."""

CONTROL = "own"
"""How names of models begin that are trained once more, with an autoencoder of their own."""


class Diversity(Frozen):
    """Models of sets of different diversity, and how often each draws what it was not shown."""

    recipe: ShapesRecipe
    autoencoder: Autoencoder = "shared"
    diversities: Annotated[tuple[Elements, ...], Field(min_length=1)] = DIVERSITIES
    max_elements: PositiveInt = 4
    """Most elements of a training image."""
    repeats: PositiveInt = 4
    """Models of each diversity, each trained under a seed of its own (:func:`spanned`)."""
    controls: tuple[Elements, ...] = ()
    """Where the autoencoder is shared: diversities of which the first model is trained once more, with one
    that learns from its set alone, and so has seen no missing element either."""
    images: PositiveInt = 256
    """Drawn by the empty prompt, and as many by that of each missing element; 1,024 in the paper."""
    redraw: RedrawSettings = REDRAW
    """How they are drawn."""

    _recipe_has_no_seed = field_validator("recipe")(unseeded)

    def plans(self) -> list[ModelPlan]:
        """All models; the controls first, as they take longest."""
        controls = self.controls if self.autoencoder == "shared" else ()
        return [
            *(self._control(elements) for elements in controls),
            *(
                self._plan(elements, repeat)
                for repeat in range(self.repeats)
                for elements in self.diversities
            ),
        ]

    def _control(self, elements: Elements) -> ModelPlan:
        changed = {"name": f"{CONTROL}-{elements}-0", "autoencoder": "own"}
        return self._plan(elements, 0).model_copy(update=changed)

    def _plan(self, elements: Elements, repeat: int) -> ModelPlan:
        return ModelPlan(
            name=f"elements-{elements}-{repeat}",
            images=spanned(elements, repeat).model_copy(update={"max_elements": self.max_elements}),
            recipe=self.recipe.model_copy(update={"seed": repeat}),
            autoencoder=self.autoencoder,
        )

    def measures(self, trained: Mapping[str, str]) -> list[ElementsMeasure]:
        """What is to be measured of the models, whose trainings' ids are given by name: first the missing
        elements, then some of those that training shows, as a model that cannot draw these says nothing of
        the others."""
        usual, shown = [], []
        for plan in self.plans():
            assert isinstance(plan.images, ElementsPlan)
            measure = ElementsMeasure(
                kind="elements",
                name=plan.name,
                model=trained[plan.name],
                wanted=plan.images.missing,
                images=self.images,
                redraw=self.redraw,
            )
            some = plan.images.shown[:: -(-len(plan.images.shown) // _ASKED)]
            asked = {"name": f"{plan.name}-{SHOWN}", "wanted": tuple(map(str, some)), "images": _OF_EACH}
            usual.append(measure)
            shown.append(measure.model_copy(update=asked))
        return usual + shown
