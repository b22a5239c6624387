"""Settings of the inversion, the training of pseudo-words."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from originality.contract.config import Frozen
from originality.settings.roles import Added, Decides


class InversionSettings(Frozen):
    """Multi-token textual inversion (paper, Sections 3.1 and E.1)."""

    steps: Annotated[int, Decides.METHOD | Decides.COST] = Field(2000, ge=1)
    """Optimiser steps for each number of tokens.

    Unit: steps. Source: paper, Sections 4.2 and E.1."""
    batch_size: Annotated[int, Decides.METHOD | Decides.COST] = Field(20, ge=1)
    """Noise samples of one image in a step.

    Unit: samples. Source: paper, Sections 4.2 and E.1."""
    learning_rate: Annotated[float, Decides.METHOD | Decides.TOKENS_NEEDED] = Field(5e-4, gt=0)
    """Learning rate of AdamW. ``learning_rate_scale`` says whether it is multiplied by the batch size.

    Unit: none (AdamW's step size). Source: paper, Sections 4.2 and E.1."""
    learning_rate_scale: Annotated[
        Literal["none", "batch"], Decides.METHOD | Decides.TOKENS_NEEDED, Added.AFTER_CALIBRATIONS
    ] = "none"
    """"batch" multiplies ``learning_rate`` by ``batch_size``, as ``--scale_lr`` of Hugging Face's
    textual_inversion.py does and as its published command asks for: 5e-4 then means 1e-2. The paper
    gives "5e-4, batch size 20" and does not say which.

    Source: our choice; unscaled is the literal reading of the paper."""
    weight_decay: Annotated[float, Decides.METHOD | Decides.TOKENS_NEEDED, Added.AFTER_CALIBRATIONS] = Field(
        0.0, ge=0
    )
    """Weight decay of AdamW. Hugging Face's textual_inversion.py uses 1e-2; the paper states none.

    Unit: none (a factor of the learning rate). Source: our choice; what the paper does not state is
    left out."""
    flips: Annotated[
        Literal["never", "half"], Decides.METHOD | Decides.TOKENS_NEEDED, Added.AFTER_CALIBRATIONS
    ] = "never"
    """"half": each sample shows the image mirrored left to right with probability one half, as Hugging
    Face's textual_inversion.py always does. The paper does not say.

    Source: our choice; what the paper does not state is left out."""
    timesteps: Annotated[Literal["uniform", "stratified"], Decides.METHOD | Decides.COST] = "uniform"
    """How a step draws its noise levels. "uniform": independently, as in textual inversion. "stratified":
    one from each equal part of the noise schedule, which has the same mean loss and less variance.

    Source: "uniform" is Gal et al. 2022; "stratified" is ours."""
    templates: Annotated[int | None, Decides.METHOD | Decides.COST, Added.AFTER_CALIBRATIONS] = Field(
        None, ge=1
    )
    """Number of different prompt templates in a step; the samples take turns. The text encoder then
    encodes each prompt once, which is cheaper. None: every sample draws its own template.

    Unit: templates. Source: None is Gal et al. 2022; a number is ours, for speed."""
    cycle: Annotated[int | None, Decides.METHOD | Decides.COST, Added.AFTER_CALIBRATIONS] = Field(None, ge=1)
    """Number of steps after which the same noise, noise levels and templates repeat. A loss and the loss
    one cycle earlier then differ only because the vectors changed, so that ``stop`` can compare them.
    None: every step draws anew.

    Unit: steps. Source: None is Gal et al. 2022; a number is ours, for stopping early."""
    cooldown: Annotated[int, Decides.METHOD | Decides.COST, Added.AFTER_CALIBRATIONS] = Field(0, ge=0)
    """The last steps, over which the learning rate falls to zero. With a large learning rate the vectors
    would otherwise keep moving. If training stops early (``stop``), the cooldown follows the stop.

    Unit: steps. Source: 0 is the paper, which states no schedule; more is ours."""
    stop: Annotated[Literal["never", "settled"], Decides.METHOD | Decides.COST, Added.AFTER_CALIBRATIONS] = (
        "never"
    )
    """"settled": training may end before the last step, once a ``cycle`` no longer lowers the loss by
    enough (``tolerance``), from the third cycle on (:mod:`originality.inversion.settled`).

    Source: "never" is the paper; "settled" is ours."""
    tolerance: Annotated[float, Decides.METHOD | Decides.COST, Added.AFTER_CALIBRATIONS] = Field(
        0.05, gt=0, lt=1
    )
    """With ``stop`` "settled", the least gain of a cycle with which training continues, as a share of the
    gain since the start of training.

    Unit: share, between 0 and 1. Source: our choice, measured in docs/bench/README.md."""
    ahead: Annotated[bool, Decides.SPEED, Added.AFTER_RUNS] = False
    """Whether lanes that have no other work train an image's next numbers of tokens before it is known
    that they are needed. A pass costs the same with or without them, as it would be filled with
    repeats.

    Source: ours; off, as only passes of several lanes have room for it."""
    lanes: Annotated[Annotated[int, Field(ge=1)] | Literal["auto"], Decides.SPEED] = 1
    """Pseudo-words, of different images or numbers of tokens, that share a UNet pass. "auto": as many as
    the memory plan allows, at most 8; rounding then differs between kinds of GPU. Every pass has this
    many lanes, and one with fewer is padded with repeats, so that an image's results do not depend on
    which other images are in the pass.

    Unit: lanes. Source: ours; 1 is one at a time, as in textual inversion."""
    loss_scale: Annotated[float, Decides.SPEED, Added.AFTER_RUNS] = Field(2.0**16, gt=0)
    """With fp16, the factor that the loss is first multiplied by, so that small gradients do not become
    zero. It is halved when a gradient overflows and doubled after two thousand good steps.

    Unit: none (a factor). Source: PyTorch's GradScaler."""
    initial_tokens: Annotated[Literal["one", "mean"], Decides.METHOD, Added.AFTER_RUNS] = "one"
    """What to do with an initial word that the model splits into several tokens. "one": refuse it.
    "mean": start from the mean of their embeddings.

    Source: our choice; the words of the paper's domains are single tokens."""

    @property
    def step_size(self) -> float:
        """Learning rate that AdamW starts with, before any ``cooldown``."""
        return self.learning_rate * (self.batch_size if self.learning_rate_scale == "batch" else 1)

    @model_validator(mode="after")
    def _check_stopping(self) -> Self:
        if self.cooldown > self.steps:
            raise ValueError(f"inversion.cooldown {self.cooldown} is more than inversion.steps {self.steps}")
        if self.stop != "never" and (self.cycle is None or self.cycle < 2):
            raise ValueError(
                f"inversion.stop {self.stop!r} compares cycles; set inversion.cycle, for example to 10"
            )
        return self
