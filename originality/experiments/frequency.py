"""Originality against frequency: common, rare and unseen pairs (Section 5, Figures 5 and 6, Appendix E.1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from pydantic import Field, field_validator

from originality.experiments.tasks.measure_pairs import PairsMeasure
from originality.experiments.tasks.plans import Autoencoder, ModelPlan, PairsPlan, unseeded
from originality.training.shapes_model.recipe import Frozen, ShapesRecipe


class Frequency(Frozen):
    """Models of the set of Appendix E.1, each measured on query images of common, rare and unseen pairs."""

    recipe: ShapesRecipe
    autoencoder: Autoencoder = "shared"
    seeds: tuple[int, ...] = Field((0, 1, 2), min_length=1)
    """Seeds of the trainings, one model each."""
    fixed_location: bool = True
    """Whether to also train a model whose common pairs always stand at the same places (Appendix C)."""
    queries: int = Field(20, ge=2)
    """Query images of each group."""
    preset: str = "laptop"
    """Preset of the measurement."""
    over: Mapping[str, Any] = Field(default_factory=dict)
    """Settings that override the preset's."""

    _recipe_has_no_seed = field_validator("recipe")(unseeded)

    def plans(self) -> list[ModelPlan]:
        """Models to train."""
        plans = [
            ModelPlan(
                name=f"pairs-{seed}",
                images=PairsPlan(kind="pairs"),
                recipe=self.recipe.model_copy(update={"seed": seed}),
                autoencoder=self.autoencoder,
            )
            for seed in self.seeds
        ]
        if self.fixed_location:
            images = PairsPlan(kind="pairs", fixed_location=True)
            recipe = self.recipe.model_copy(update={"seed": self.seeds[0]})
            own = self.autoencoder
            plans.append(ModelPlan(name="fixed-location", images=images, recipe=recipe, autoencoder=own))
        return plans

    def measures(self, trained: Mapping[str, str]) -> list[PairsMeasure]:
        """Measurements to make.

        Args:
            trained: ids of the models' trainings, by name.
        """
        return measures_of(self.plans(), trained, self.queries, self.preset, self.over)


def measures_of(
    plans: Sequence[ModelPlan],
    trained: Mapping[str, str],
    queries: int,
    preset: str,
    over: Mapping[str, Any] = MappingProxyType({}),
    even_colours: bool = False,
) -> list[PairsMeasure]:
    """The same measurement for each plan of a model of pairs; arguments as in :class:`PairsMeasure`."""
    return [
        PairsMeasure(
            kind="pairs",
            name=plan.name,
            model=trained[plan.name],
            images=plan.images,
            queries=queries,
            even_colours=even_colours,
            preset=preset,
            over=over,
        )
        for plan in plans
        if isinstance(plan.images, PairsPlan)
    ]
