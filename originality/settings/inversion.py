"""Settings of the inversion. Import them from :mod:`originality.settings.audit`, which has all parts."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from originality.contract.config import Frozen
from originality.settings.roles import Added, Decides


class InversionSettings(Frozen):
    """Multi-token textual inversion (Section 3.1, E.1)."""

    steps: Annotated[int, Decides.METHOD | Decides.COST] = Field(2000, ge=1)
    """Optimiser steps for one number of tokens."""
    batch_size: Annotated[int, Decides.METHOD | Decides.COST] = Field(20, ge=1)
    """Noise samples of one image in a step."""
    learning_rate: Annotated[float, Decides.METHOD | Decides.TOKENS_NEEDED] = Field(5e-4, gt=0)
    """Step size of AdamW; 5e-4 is the paper's number (Section E.1)."""
    learning_rate_scale: Annotated[
        Literal["none", "batch"], Decides.METHOD | Decides.TOKENS_NEEDED, Added.AFTER_CALIBRATIONS
    ] = "none"
    """"batch" multiplies ``learning_rate`` by ``batch_size``, as ``--scale_lr`` of HF's textual_inversion.py
    does and HF's published command asks for: 5e-4 then means 1e-2. The paper says "5e-4, batch size 20" and
    not which. The default, unscaled, is our choice."""
    weight_decay: Annotated[float, Decides.METHOD | Decides.TOKENS_NEEDED, Added.AFTER_CALIBRATIONS] = Field(
        0.0, ge=0
    )
    """AdamW's. HF's script has 1e-2, the paper names none. The default is our choice."""
    flips: Annotated[
        Literal["never", "half"], Decides.METHOD | Decides.TOKENS_NEEDED, Added.AFTER_CALIBRATIONS
    ] = "never"
    """"half": each sample shows the image mirrored left to right with probability one half, as HF's script
    always does. The paper does not say. The default is our choice."""
    timesteps: Annotated[Literal["uniform", "stratified"], Decides.METHOD | Decides.COST] = "uniform"
    """How a step draws its noise levels: independently (Gal et al.), or one from each equal part of the
    schedule (ours: the same mean, less noise)."""
    templates: Annotated[int | None, Decides.METHOD | Decides.COST, Added.AFTER_CALIBRATIONS] = Field(
        None, ge=1
    )
    """Different templates that a step speaks, by turns over its samples, so that the text encoder reads no
    prompt twice; None: each sample draws its own (Gal et al.)."""
    cycle: Annotated[int | None, Decides.METHOD | Decides.COST, Added.AFTER_CALIBRATIONS] = Field(None, ge=1)
    """After so many steps the same draws come again: a loss and the one a cycle before it then differ by the
    word alone. None: every step draws anew."""
    cooldown: Annotated[int, Decides.METHOD | Decides.COST, Added.AFTER_CALIBRATIONS] = Field(0, ge=0)
    """Last steps, over which the learning rate falls to zero: a large one leaves a word unsettled. Where
    training may ``stop``, they follow on that."""
    stop: Annotated[Literal["never", "settled"], Decides.METHOD | Decides.COST, Added.AFTER_CALIBRATIONS] = (
        "never"
    )
    """"settled": training may end before its last step, when a ``cycle`` brought too little, the third or a
    later one (originality.evaluation.early_stopping)."""
    tolerance: Annotated[float, Decides.METHOD | Decides.COST, Added.AFTER_CALIBRATIONS] = Field(
        0.05, gt=0, lt=1
    )
    """How little that is: a share of all that training brought so far."""
    ahead: Annotated[bool, Decides.SPEED, Added.AFTER_RUNS] = False
    """Whether lanes that nothing else is there for train an image's next numbers of tokens before it is known
    that they are needed. A pass costs the same with or without them."""
    lanes: Annotated[Annotated[int, Field(ge=1)] | Literal["auto"], Decides.SPEED] = 1
    """Words, of different images or numbers of tokens, that share a UNet pass; "auto": as many as the memory
    plan has room for, up to 8, so that the last bits differ between kinds of GPU. Every pass has this many
    lanes: a short one is filled up with repeats, so that an image's numbers do not depend on how many
    neighbours it had."""
    loss_scale: Annotated[float, Decides.SPEED, Added.AFTER_RUNS] = Field(2.0**16, gt=0)
    """In fp16 the loss is multiplied by this at first, so that small gradients are not lost; halved when a
    gradient overflows, doubled after two thousand good steps, as PyTorch's GradScaler does."""
    initial_tokens: Annotated[Literal["one", "mean"], Decides.METHOD, Added.AFTER_RUNS] = "one"
    """An initial word that is several tokens of the model is refused ("one"), or the mean of its tokens'
    embeddings is taken: our choice."""

    @property
    def step_size(self) -> float:
        """AdamW's learning rate before any ``cooldown``."""
        return self.learning_rate * (self.batch_size if self.learning_rate_scale == "batch" else 1)

    @model_validator(mode="after")
    def _hangs_together(self) -> Self:
        if self.cooldown > self.steps:
            raise ValueError(f"inversion.cooldown {self.cooldown} is more than inversion.steps {self.steps}")
        if self.stop != "never" and (self.cycle is None or self.cycle < 2):
            raise ValueError(f"inversion.stop {self.stop!r} compares cycles; set inversion.cycle, to 10 say")
        return self
