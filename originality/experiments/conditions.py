"""Conditions under which rare and unseen pairs need more tokens (an addition to Section 5).

One thing at a time is changed in the frequency experiment's model or in the inversion: each row of the grid
is a separate training or measurement, on the same query images.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, get_args

from pydantic import Field, field_validator

from originality.experiments.frequency import measures_of
from originality.experiments.held_out import COUNTS
from originality.experiments.tasks.measure_pairs import PairsMeasure
from originality.experiments.tasks.plans import Autoencoder, ModelPlan, PairsPlan, unseeded
from originality.settings.parts import SHIPPED_MODEL
from originality.training.shapes_model.recipe import Frozen, ShapesRecipe, TextRecipe

BASE = "pairs-0"
"""The model from which all others differ in one thing: the first one of the frequency experiment."""

Training = Literal["shorter", "longer", "weaker-text", "pretrained-text", "terse", "named"]
Budget = Literal["more-steps", "smaller-steps", "fewer-steps", "another-seed"]

REPEAT = "another-seed"
"""The base model measured again with other random numbers."""

SHIPPED = "shipped"
"""The shipped model: trained on 1.9 million samples, of a set that contains these pairs and much else, such
as motifs with names. It differs from the base in more than one thing."""

CONTENT = "content"
"""Another measurement of the base model: images of one to four elements, none of them a pair."""

ONE_TOKEN = "one-token"
"""One token for the base model under preset ``paper-shapes``, the paper's own budget, on a quarter of the
images, as each takes minutes."""


CHANGED: Mapping[str, str] = {
    "shorter": "half of the training's steps",
    "longer": "four times the training's steps",
    "weaker-text": "a text model of half the width and one layer",
    "pretrained-text": "a pretrained text model, MiniLM, taken as it is",
    "terse": "captions without half of their words for size, colour and texture",
    "named": "each common and each rare pair of colours has a word of its own, in most of its captions",
    SHIPPED: "the model that ships: five times as many samples, of a set with much else in it",
    "more-steps": "eight thirds of the inversion's steps",
    "smaller-steps": "a quarter of the inversion's learning rate",
    "fewer-steps": "a third of the inversion's steps",
    REPEAT: "other random numbers of inversion and redraws",
}
"""What each row of the grid changes in the base, in the order of rows. The page prints it."""


class Conditions(Frozen):
    """A grid of conditions around one model."""

    recipe: ShapesRecipe
    autoencoder: Autoencoder = "shared"
    trainings: tuple[Training, ...] = get_args(Training)
    """What is changed in the model."""
    budgets: tuple[Budget, ...] = get_args(Budget)
    """What is changed in the inversion."""
    shipped: bool = True
    """Whether the shipped model is measured too."""
    content: bool = True
    """Whether images of one to four elements are measured too: the effect of how much an image holds, rather
    than of how often it was seen."""
    one_token: bool = True
    """Whether one token is also measured with the paper's own budget, if the preset is a different one."""
    queries: int = Field(8, ge=2)
    """Images of each group, half of them pairs of one colour."""
    preset: str = "laptop"
    """Preset of the measurements, where a row does not change it."""

    _recipe_has_no_seed = field_validator("recipe")(unseeded)

    def plans(self) -> list[ModelPlan]:
        """Models to train."""
        base = ModelPlan(
            name=BASE, images=PairsPlan(kind="pairs"), recipe=self.recipe, autoencoder=self.autoencoder
        )
        return [base, *(changed_training(base, how) for how in self.trainings)]

    def measures(self, trained: Mapping[str, str]) -> list[PairsMeasure]:
        """Measurements to make, the longest first.

        Args:
            trained: ids of the models' trainings, by name.
        """
        usual = measures_of(self.plans(), trained, self.queries, self.preset, even_colours=True)
        base = usual[0]
        by_paper = {"preset": "paper-shapes", "over": {"max_tokens": 1}, "queries": -(-self.queries // 4)}
        others: list[tuple[str, bool, dict[str, Any]]] = [
            (ONE_TOKEN, self.one_token and self.preset != "paper-shapes", by_paper),
            (CONTENT, self.content, {"groups": tuple(COUNTS)}),
            (SHIPPED, self.shipped, {"model": SHIPPED_MODEL}),
        ]
        return [
            *(base.model_copy(update={"name": name, **how}) for name, wanted, how in others if wanted),
            *(changed_inversion(base, how) for how in self.budgets),
            *usual,
        ]


def changed_training(base: ModelPlan, how: Training) -> ModelPlan:
    """The plan of a model that differs in one thing, as :data:`CHANGED` describes.

    At the paper's scale weaker-text replaces BERT.
    """
    recipe, images = base.recipe, base.images
    text, denoiser = recipe.text, recipe.denoiser
    if how == "named":
        images = images.model_copy(update={"named": True})
    elif how == "weaker-text":
        text = TextRecipe(width=TextRecipe().width // 2, layers=1)
    elif how == "pretrained-text":
        text = TextRecipe(pretrained="minilm", max_length=40)
    elif how == "terse":
        denoiser = denoiser.model_copy(update={"attribute_dropout": 0.5})
    else:
        steps = tuple(4 * n if how == "longer" else max(1, n // 2) for n in denoiser.steps)
        denoiser = denoiser.model_copy(update={"steps": steps})
    recipe = recipe.model_copy(update={"text": text, "denoiser": denoiser})
    return base.model_copy(update={"name": how, "images": images, "recipe": recipe})


def changed_inversion(base: PairsMeasure, how: Budget) -> PairsMeasure:
    """The measurement of the same model with another inversion, as :data:`CHANGED` describes."""
    if how == REPEAT:
        return base.model_copy(update={"name": how, "over": {**base.over, "seed": 1}})
    usual = base.settings().inversion
    changed: dict[str, Any] = {
        "fewer-steps": {"steps": max(1, usual.steps // 3)},
        "more-steps": {"steps": usual.steps * 8 // 3},
        "smaller-steps": {"learning_rate": usual.learning_rate / 4},
    }
    over = {**base.over, "inversion": {**base.over.get("inversion", {}), **changed[how]}}
    return base.model_copy(update={"name": how, "over": over})
