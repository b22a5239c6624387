"""Under which conditions do rare and unseen pairs need more tokens? (beside Section 5)

One thing at a time is changed of the frequency experiment's model, or of how it is asked: each row of the
grid is a training or a measurement of its own, on the same query images.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import PositiveInt

from originality.settings import SHIPPED_MODEL
from originality.synthetic.experiments.pairs import PairsMeasure
from originality.synthetic.experiments.plans import Autoencoder, ModelPlan, PairsPlan
from originality.synthetic.training.recipe import Frozen, ShapesRecipe

BASE = "pairs-0"
"""The model from which all others differ in one thing; the frequency experiment trains the same."""

TRAININGS: dict[str, dict[str, Any]] = {
    "shorter": {"recipe": {"denoiser": {"steps": (1500,)}}},
    "weaker-text": {"recipe": {"text": {"width": 64, "layers": 1}}},
    "pretrained-text": {"recipe": {"text": {"pretrained": "minilm", "max_length": 40}}},
    "terse": {"recipe": {"denoiser": {"attribute_dropout": 0.5}}},
    "named": {"images": {"named": True}},
}
"""What is changed of the model."""

BUDGETS: dict[str, dict[str, Any]] = {
    "20-steps": {"over": {"inversion": {"steps": 20}}},
    "160-steps": {"over": {"inversion": {"steps": 160}}},
    "slower": {"over": {"inversion": {"learning_rate": 2.5e-3}}},
    "fast": {"preset": "fast-shapes"},
}
"""What is changed of the inversion."""


SHIPPED = "shipped"
"""The model that ships: five times as many samples of a set that has these pairs among much else, motifs with
words of their own too."""


class Conditions(Frozen):
    """A grid around one model."""

    recipe: ShapesRecipe
    autoencoder: Autoencoder = "shared"
    trainings: tuple[str, ...] = tuple(TRAININGS)
    budgets: tuple[str, ...] = tuple(BUDGETS)
    queries: PositiveInt = 12
    """Images of each group."""
    preset: str = "laptop"
    """Of the measurements' settings, where nothing of them is changed."""

    def plans(self) -> list[ModelPlan]:
        base = ModelPlan(
            name=BASE, images=PairsPlan(kind="pairs"), recipe=self.recipe, autoencoder=self.autoencoder
        )
        return [base, *(changed(base, name, TRAININGS[name]) for name in self.trainings)]

    def measures(self, trained: Mapping[str, str]) -> list[PairsMeasure]:
        """What is to be measured of the models, whose trainings' ids are given by name."""
        usual = [
            PairsMeasure(
                kind="pairs",
                name=plan.name,
                model=trained[plan.name],
                images=plan.images,
                queries=self.queries,
                preset=self.preset,
            )
            for plan in self.plans()
            if isinstance(plan.images, PairsPlan)
        ]
        shipped = changed(usual[0], SHIPPED, {"model": SHIPPED_MODEL})
        return [*usual, shipped, *(changed(usual[0], name, BUDGETS[name]) for name in self.budgets)]


def changed(base: Any, name: str, change: Mapping[str, Any]) -> Any:
    """A plan with another name and something else in it."""

    def over(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
        nested = {k: over(old[k], v) for k, v in new.items() if isinstance(v, Mapping) and old.get(k)}
        return {**old, **new, **nested}

    return type(base).model_validate({**over(base.model_dump(), change), "name": name})
