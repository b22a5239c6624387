"""Settings of the redraws: how an image is drawn again from its pseudo-word."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from originality.contract.config import Frozen
from originality.settings.domains import REDRAW_PROMPT
from originality.settings.roles import Added, Decides, Exhaustive


class RedrawSettings(Frozen):
    """Drawing an image again from its pseudo-word (paper, Sections 3.1 and E.2)."""

    count: Annotated[int, Decides.METHOD | Decides.COST] = Field(20, ge=2)
    """Redraws of each pseudo-word. Their mean distance to the image is compared with the threshold.

    Unit: images. Source: paper, Section E.2."""
    steps: Annotated[int, Decides.METHOD | Decides.TOKENS_NEEDED] = Field(35, ge=1)
    """Denoising steps of a redraw. The synthetic setting uses 50 (Section E.1).

    Unit: steps. Source: paper, Section 4.2."""
    scheduler: Annotated[
        Literal["pndm", "ddim", "euler", "dpm++", "unipc"], Decides.METHOD | Decides.TOKENS_NEEDED
    ] = "pndm"
    """Sampler, by its name in diffusers. PNDM is the one that Stable Diffusion v1-4 is published with.

    Source: the model's own; the paper names none."""
    guidance_scale: Annotated[float, Decides.METHOD | Decides.TOKENS_NEEDED] = Field(7.5, ge=0)
    """Scale of classifier-free guidance; 0 and 1 turn it off.

    Unit: none (a factor). Source: our choice, diffusers' default; the paper states none."""
    prompt: Annotated[str, Decides.METHOD] = REDRAW_PROMPT
    """Prompt of the redraws; ``{}`` stands for the pseudo-word.

    Source: paper, Section E.2."""
    round: Annotated[int | None, Decides.VERDICT | Decides.COST, Added.AFTER_RUNS, Exhaustive(None)] = Field(
        None, ge=1
    )
    """Number of redraws after which an evaluation is checked: it ends early if it is certain what all
    ``count`` redraws would decide (:mod:`originality.evaluation.early_stopping`). None: all are drawn.

    Unit: redraws. Source: None is the paper; a number is ours, for speed."""
    confidence: Annotated[float, Decides.VERDICT | Decides.COST, Added.AFTER_RUNS] = Field(0.95, gt=0.5, lt=1)
    """With ``round``, the least probability that the decision is the one that all redraws would give: at
    0.95, at most five of a hundred evaluations decide differently.

    Unit: probability, between 0.5 and 1. Source: our choice."""
    confirm: Annotated[
        float | None, Decides.VERDICT | Decides.COST, Added.AFTER_CALIBRATIONS, Exhaustive(None)
    ] = Field(None, gt=0.5, lt=1)
    """Least ``confidence`` of a verdict: while it is less sure, more redraws are made, up to ``most`` of each
    pseudo-word (:mod:`originality.evaluation.decisions`). None: never more than ``count``.

    Unit: probability, between 0.5 and 1. Source: our choice; None is the paper."""
    most: Annotated[int, Decides.VERDICT | Decides.COST, Added.AFTER_CALIBRATIONS] = Field(60, ge=2)
    """With ``confirm``, the largest number of redraws, and of edit images, of each pseudo-word.

    Unit: images. Source: our choice."""
    reference: Annotated[bool, Decides.COST, Added.AFTER_CALIBRATIONS] = True
    """Whether each image's distance to ``count`` draws from the plain prompt is measured too. They are drawn
    once for each initial word and worker (:mod:`originality.evaluation.reference`). No verdict depends on it.

    Source: arXiv 2406.03341."""
    together: Annotated[int | None, Decides.SPEED, Added.AFTER_RUNS, Exhaustive(None)] = Field(None, ge=1)
    """Redraws, possibly of different images, that are denoised in one pass. None: as many as a round has.
    Every pass has this many, and a smaller one is padded with repeats, so that an image's redraws do
    not depend on which other images are in the pass.

    Unit: redraws. Source: our choice."""

    @property
    def guided(self) -> bool:
        """Whether classifier-free guidance is on: at a scale of 1 or less the unconditional prediction is
        not computed."""
        return self.guidance_scale > 1

    @property
    def unet_samples(self) -> int:
        """Samples through the UNet for one latent at one denoising step: with guidance, the unconditional
        one too."""
        return 2 if self.guided else 1

    @property
    def round_size(self) -> int:
        """Redraws of an image between two checks whether its evaluation may end."""
        return min(self.round or self.count, self.count)

    @property
    def pass_size(self) -> int:
        """Redraws that are denoised in one pass."""
        return self.together or self.round_size

    def round_after(self, rendered: int) -> range:
        """Numbers of the redraws that may follow when so many have been rendered."""
        end = self.count
        if rendered >= end and self.confirm is not None:
            end = self.most
        return range(rendered, max(rendered, min(rendered + self.round_size, end)))

    @model_validator(mode="after")
    def _check_most(self) -> Self:
        if self.confirm is not None and self.most <= self.count:
            raise ValueError(
                f"redraw.confirm draws more than redraw.count {self.count} where a verdict is unsure, but "
                f"redraw.most is {self.most}; set it to {3 * self.count}"
            )
        return self

    @model_validator(mode="after")
    def _check_rounds_fill_a_pass(self) -> Self:
        if self.together is not None and self.together % self.round_size:
            fits = -(-self.together // self.round_size) * self.round_size
            raise ValueError(
                f"redraw.together {self.together} must be a multiple of the round of {self.round_size}; "
                f"set it to {fits}"
            )
        return self

    @field_validator("prompt")
    @classmethod
    def _check_prompt(cls, prompt: str) -> str:
        if prompt.count("{}") != 1:
            raise ValueError(
                f"redraw.prompt {prompt!r} must contain {{}} exactly once, where the pseudo-word stands"
            )
        return prompt
