"""Generalisation against diversity: how often a model draws an element that no training image shows.

Section 2, Figure 3 and Appendix B.2 of the paper.

A set of elements is the cross product of some shapes, colours, sizes and textures. Two elements are left out
whose features all occur in other elements: red square and blue circle or, mirrored, blue square and red
circle, so that over repeats no colour and no shape is favoured.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field, PositiveInt, field_validator

from originality.experiments.tasks.measure_elements import REDRAW, ElementsMeasure
from originality.experiments.tasks.plans import Autoencoder, ElementsPlan, ModelPlan, unseeded
from originality.settings.redraw import RedrawSettings
from originality.shapes.elements import SIZES, TEXTURES, Size, Texture
from originality.training.shapes_model.recipe import Frozen, ShapesRecipe

SIMPLE: dict[str, tuple[str, ...]] = {"shapes": ("square", "circle"), "colours": ("red", "blue")}
"""Shapes and colours of the least diverse sets."""

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
"""Number of different repeats; after these the sets recur."""


def spanned(elements: Elements, repeat: int) -> ElementsPlan:
    """The image set of a repeat.

    Size and texture of the missing elements go through all four combinations, and the missing pair is
    mirrored so that over four repeats each size and each texture occurs with both; sets of 8 and 30 have two
    sizes or two textures alternately. Over eight repeats all combinations are crossed.
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
"""Suffix of the names of measurements that ask for elements in the training set."""

_SHOWN_ELEMENTS, _OF_EACH = 8, 32
"""Number of shown elements that are asked for, and images of each."""

CONTROL = "own"
"""Prefix of the names of controls: models trained again, with an autoencoder of their own."""


class Diversity(Frozen):
    """Models of sets of different diversity, and how often each draws elements that it was not shown."""

    recipe: ShapesRecipe
    autoencoder: Autoencoder = "shared"
    diversities: Annotated[tuple[Elements, ...], Field(min_length=1)] = DIVERSITIES
    max_elements: PositiveInt = 4
    """Most elements of a training image."""
    repeats: PositiveInt = 4
    """Models of each diversity, each trained with its own seed (:func:`spanned`)."""
    controls: tuple[Elements, ...] = ()
    """If the autoencoder is shared: diversities whose first model is trained again, with an autoencoder that
    learns from the model's set alone and so has not seen the missing elements either."""
    images: PositiveInt = 256
    """Images drawn for the empty prompt and for that of each missing element; 1,024 in the paper."""
    redraw: RedrawSettings = REDRAW
    """How they are drawn."""

    _recipe_has_no_seed = field_validator("recipe")(unseeded)

    def plans(self) -> list[ModelPlan]:
        """Models to train; the controls first, as they take longest."""
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
        """Measurements to make: first of the missing elements, then of some that training shows.

        A model that cannot draw the latter says nothing about the former.

        Args:
            trained: ids of the models' trainings, by name.
        """
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
            some = plan.images.shown[:: -(-len(plan.images.shown) // _SHOWN_ELEMENTS)]
            chosen = {"name": f"{plan.name}-{SHOWN}", "wanted": tuple(map(str, some)), "images": _OF_EACH}
            usual.append(measure)
            shown.append(measure.model_copy(update=chosen))
        return usual + shown
