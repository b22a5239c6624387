"""Plans of an experiment: image sets and models to train on them, as plain documents."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, PositiveInt, field_validator, model_validator

from originality.shapes.elements import (
    COLOURS,
    SHAPES,
    SIZES,
    TEXTURES,
    Colour,
    Element,
    Shape,
    Size,
    Texture,
    elements_of,
    select,
)
from originality.shapes.image_sets import (
    EMPTY_SHARE,
    CommonRareUnseenSet,
    ImageSet,
    TaughtSet,
    UniformSet,
    WeightedSet,
)
from originality.training.shapes_model.recipe import AutoencoderRecipe, Frozen, ShapesRecipe


class ElementsPlan(Frozen):
    """A set of some of the 60 elements, drawn uniformly by default (Section 2, Appendix B)."""

    kind: Literal["elements"]
    shapes: tuple[Shape, ...] = SHAPES
    colours: tuple[Colour, ...] = COLOURS
    sizes: tuple[Size, ...] = SIZES
    textures: tuple[Texture, ...] = TEXTURES
    missing: tuple[str, ...] = ()
    """Elements that no image shows, as captions name them: "big red full square"."""
    frequencies: Mapping[str, Annotated[float, Field(gt=0, allow_inf_nan=False)]] = Field(
        default_factory=dict
    )
    """Relative frequencies of single elements; every other element has 1."""
    max_elements: PositiveInt = 4
    """Largest number of elements in an image."""
    empty_share: float = Field(EMPTY_SHARE, ge=0, lt=1)
    """Share of images that show nothing."""

    @field_validator("missing", "frequencies")
    @classmethod
    def _are_elements(cls, names: Any) -> Any:
        for text in names:
            if len(elements_of(text)) != 1:
                raise ValueError(f"{text!r} is not one element; write it as size colour texture shape")
        return names

    @model_validator(mode="after")
    def _shows_something(self) -> Self:
        shown = {str(element) for element in self.spanned}
        unknown = sorted(set(self.missing) - shown)
        if unknown:
            raise ValueError(f"missing: {unknown[0]!r} is not an element of the set; leave it out")
        if not shown - set(self.missing):
            raise ValueError("missing: it names all elements of the set; leave some")
        unknown = sorted(set(self.frequencies) - {str(element) for element in self.shown})
        if unknown:
            raise ValueError(f"frequencies: {unknown[0]!r} is not shown by the set; leave it out")
        return self

    @property
    def spanned(self) -> tuple[Element, ...]:
        """All elements of these features, also the missing ones."""
        return select(self.shapes, self.colours, self.sizes, self.textures)

    @property
    def shown(self) -> tuple[Element, ...]:
        """The elements that images show."""
        return tuple(e for e in self.spanned if str(e) not in self.missing)

    def images(self) -> ImageSet:
        """The images that the model is trained on."""
        if not self.frequencies:
            return UniformSet(self.shown, self.max_elements, self.empty_share)
        weights = tuple(self.frequencies.get(str(element), 1.0) for element in self.shown)
        return WeightedSet(self.shown, self.max_elements, self.empty_share, weights)


class PairsPlan(Frozen):
    """The set of common, rare and unseen pairs (Appendix E.1)."""

    kind: Literal["pairs"]
    common_share: float = Field(0.3, ge=0, le=1)
    """Share of images that show the pair (circle, square)."""
    rare_share: float = Field(0.001, ge=0, le=1)
    """Share of images that show the pair (circle, triangle)."""
    max_elements: PositiveInt = 4
    fixed_location: bool = False
    """Whether the common pair stands at the same two places in every image (Appendix C)."""
    named: bool = False
    """Whether each common and rare pair of colours has a name, which most of its captions consist of."""

    @model_validator(mode="after")
    def _shares_fit(self) -> Self:
        if self.common_share + self.rare_share + EMPTY_SHARE > 1:
            most = 1 - EMPTY_SHARE
            raise ValueError(
                f"common_share {self.common_share:g} and rare_share {self.rare_share:g} together exceed "
                f"{most:g}: a tenth of the images is empty"
            )
        return self

    def images(self) -> ImageSet:
        """The images that the model is trained on."""
        return self.pairs()

    def pairs(self) -> CommonRareUnseenSet:
        """The same set, with its groups of pairs."""
        return CommonRareUnseenSet(
            self.common_share,
            self.rare_share,
            self.max_elements,
            fixed_location=self.fixed_location,
            named=self.named,
        )


class TaughtPlan(Frozen):
    """The training set of the shipped model."""

    kind: Literal["taught"]

    def images(self) -> ImageSet:
        """The images that the model is trained on."""
        return TaughtSet()


SetPlan = Annotated[ElementsPlan | PairsPlan | TaughtPlan, Field(discriminator="kind")]


Autoencoder = Literal["shared", "own"]


class ModelPlan(Frozen):
    """A model to train from scratch."""

    name: str
    images: SetPlan
    recipe: ShapesRecipe = ShapesRecipe()
    autoencoder: Autoencoder = "shared"
    """"shared": the shipped model's, which has seen all elements; "own": one trained on this set alone, as in
    the paper."""

    @model_validator(mode="after")
    def _shared_autoencoder_fits_recipe(self) -> Self:
        own = self.recipe
        if self.autoencoder == "shared" and (own.side != 64 or own.autoencoder != AutoencoderRecipe()):
            raise ValueError(
                "the shared autoencoder has 64 pixels and its own recipe; "
                "for a different one set autoencoder to own"
            )
        return self

    def document(self) -> dict[str, Any]:
        """Plain JSON values without those at their default, so that settings added later change no
        document."""
        return document(self)

    def digest(self) -> str:
        """Short digest of the document."""
        return hashlib.sha256(json.dumps(self.document(), sort_keys=True).encode()).hexdigest()[:16]


def unseeded(recipe: ShapesRecipe) -> ShapesRecipe:
    """Check that an experiment's recipe has no seed: each of its models has a separate seed.

    Raises:
        ValueError: the recipe has a seed.
    """
    if recipe.seed:
        raise ValueError(
            f"recipe.seed {recipe.seed} would have no effect: each model has its own seed; leave it out"
        )
    return recipe


def document(plan: Frozen) -> dict[str, Any]:
    """A plan as plain JSON values, without those at their default."""
    values: dict[str, Any] = plan.model_dump(mode="json", exclude_defaults=True)
    return values
