"""A lane: one image and the pseudo-word that is trained for it, step by step.

A step is taken on the device, and the host reads its results one step later. Were the host to wait for each
step's loss, the device would stand idle while the host prepares the next step. So everything that decides
how a step is taken (whether its numbers are finite, the loss scale) is computed on the device, and
everything that the host decides from losses must come out the same whether it has read the last one or not.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypedDict

import torch
from torch import Tensor

from originality.inversion.settled import settled
from originality.inversion.step_noise import StepNoise
from originality.model.device_transfers import HostCopy, to_device
from originality.model.diffusion import Moments
from originality.settings.inversion import InversionSettings

GOOD_STEPS = 2000
"""Steps in a row without an overflow after which the loss scale is doubled, as in PyTorch's GradScaler."""

ADAMW_MEANS = ("exp_avg", "exp_avg_sq")
"""AdamW's running means, each shaped as the vectors; it counts its steps beside them in "step"."""


class LaneState(TypedDict):
    """Everything that the later steps of a lane depend on, besides its image, tokens and settings."""

    vectors: Tensor
    """float32 (tokens, width)."""
    optimiser: dict[str, Tensor]
    """AdamW's state: ADAMW_MEANS, float32 (tokens, width) each, and "step", float32 (). Empty before the
    first step."""
    step: int
    """Steps taken."""
    losses: list[float]
    """One per step; NaN for a skipped one."""
    loss_scale: float
    good_steps: int
    """Steps since the loss scale last changed."""
    skipped_steps: int


class LossScale:
    """Factor of the loss in half precision, so that its gradient neither vanishes nor overflows.

    Kept on the device. It is halved at every overflow. Under 1 it is exhausted, and nothing changes it any
    more: no smaller scale would help.
    """

    def __init__(
        self, value: float = 1.0, good: int = 0, skipped: int = 0, device: torch.device | str = "cpu"
    ) -> None:
        """``good``: steps since the last change; ``skipped``: steps that were not taken, see below."""
        self._numbers = to_device(
            torch.tensor([value, good, skipped], dtype=torch.float32), torch.device(device)
        )

    @property
    def factor(self) -> Tensor:
        """float32 (), on the device."""
        return self._numbers[0]

    @property
    def usable(self) -> Tensor:
        """Whether it is not exhausted: bool (), on the device."""
        return self.factor >= 1

    @property
    def value(self) -> float:
        """The factor as a number. The host waits for this and the two properties that follow."""
        return self._numbers[0].item()

    @property
    def good(self) -> int:
        """Steps since it last changed."""
        return int(self._numbers[1].item())

    @property
    def skipped(self) -> int:
        """Steps that were not taken because their loss or gradient overflowed."""
        return int(self._numbers[2].item())

    def update(self, finite: Tensor) -> None:
        """Adapt after a step whose loss and gradient were ``finite`` (bool (), on the device), or not."""
        value, good, skipped = self._numbers
        grown = finite & (good + 1 == GOOD_STEPS) & (value > 1)
        after = (
            torch.where(finite, torch.where(grown, value * 2, value), value / 2),
            torch.where(finite & ~grown, good + 1, 0),
            torch.where(finite, skipped, skipped + 1),
        )
        self._numbers = torch.where(self.usable, torch.stack(after), self._numbers)


@dataclass
class Lane:
    """One image and its pseudo-word of ``tokens`` tokens, in training.

    ``losses`` and ``failure`` cover the steps that the host has read: between two steps all but the last
    one, after :meth:`read_losses` all.
    """

    image_id: str
    moments: Moments
    tokens: int
    vectors: Tensor
    """float32 (tokens, width), on the device: the token embeddings that are trained."""
    optimiser: torch.optim.AdamW
    """Fused, because its kernel divides the gradient by the loss scale, and skips a step, without the host
    waiting for either."""
    scale: LossScale
    find_cause: Callable[[Lane], str]
    """Names what was not finite first in a step whose loss was not."""
    step: int = 0
    """Steps taken."""
    losses: list[float] = field(default_factory=list)
    """One per step; NaN for a skipped one."""
    failure: str | None = None
    """Why training cannot continue: numbers overflow at any loss scale. None while it can."""
    prefetched: tuple[int, StepNoise] | None = None
    """A step's number and its noise, on the device."""
    _cycles_checked: int = 0
    """Cycles of losses that were checked for early stopping; if ``_stops``, the last of them said to stop."""
    _stops: bool = False
    _unread: list[tuple[int, HostCopy, int]] = field(default_factory=list)
    """Of each step that the host has not read: its number, and the row of a reading that has its results."""

    def update(self, loss: Tensor, gradient: Tensor) -> Tensor:
        """Take a step; if the loss or the gradient is not finite, the device skips it.

        Args:
            loss: float32 ().
            gradient: float32 (tokens, width), times the loss scale.

        Returns:
            float32 (3,), on the device: a row of the reading for :meth:`record`.
        """
        finite = loss.isfinite() & gradient.isfinite().all()
        self.vectors.grad = gradient
        # GradScaler passes both to a fused optimiser as attributes; there is no other way.
        self.optimiser.grad_scale = self.scale.factor  # type: ignore[attr-defined]
        self.optimiser.found_inf = (~(finite & self.scale.usable)).float()  # type: ignore[attr-defined]
        self.optimiser.step()
        self.scale.update(finite)
        return torch.stack([loss, finite.float(), self.scale.usable.float()])

    def record(self, reading: HostCopy, row: int) -> None:
        """Count the step just taken, whose results are in this row of a reading. A failed lane took none."""
        if self.failure is None:
            self._unread.append((self.step, reading, row))
            self.step += 1

    def read_losses(self, behind: int = 0) -> None:
        """Read the results of the steps taken, except for the last ``behind``; the host waits for them.

        Steps may follow a failure before the host learns of it. They change nothing, because the loss scale
        is exhausted, so the lane is set back to the step that failed whenever the host reads of it.
        """
        while len(self._unread) > behind:
            step, reading, row = self._unread.pop(0)
            loss, finite, usable = reading[row]
            if not usable:
                self._unread.clear()
                self.step = step
                what = "the gradient" if math.isfinite(loss) else self.find_cause(self)
                self.failure = f"{what} of step {step} is not finite"
            else:
                self.losses.append(loss if finite else math.nan)

    def state_dict(self) -> LaneState:
        """State after all the steps taken, for which the host waits. Its tensors are the lane's, not copies.

        Not part of it, because the same follows from the rest: the noise drawn for the next step (keyed by
        the step's number), whether training may stop early (computed from the losses), and a failure (the
        loss scale is then used up, so the next step fails at the same number for the same reason).
        """
        self.read_losses()
        return {
            "vectors": self.vectors.detach(),
            "optimiser": {
                name: torch.as_tensor(value)
                for name, value in self.optimiser.state.get(self.vectors, {}).items()
            },
            "step": self.step,
            "losses": self.losses,
            "loss_scale": self.scale.value,
            "good_steps": self.scale.good,
            "skipped_steps": self.scale.skipped,
        }

    def load_state_dict(self, state: LaneState) -> None:
        """Continue from a state, of a lane of the same image, number of tokens and settings; it is copied."""
        device = self.vectors.device
        with torch.no_grad():
            self.vectors.copy_(state["vectors"])
        self.optimiser.state.pop(self.vectors, None)
        if state["optimiser"]:
            own = {name: value.clone().to(device) for name, value in state["optimiser"].items()}
            self.optimiser.state[self.vectors] = own
        self.step, self.losses, self.failure = state["step"], list(state["losses"]), None
        self.scale = LossScale(state["loss_scale"], state["good_steps"], state["skipped_steps"], device)
        self._unread.clear()
        self._cycles_checked, self._stops = 0, False

    def end(self, settings: InversionSettings) -> int:
        """Number of steps in all: the settings', or fewer once the losses say that training may stop.

        Early stopping is exact: the same step is the last one, whoever looked, and how often. A cycle is
        checked only once the step after it has been taken, at which point the host has read its last loss
        in any case. A snapshot makes the host read a loss earlier than it would otherwise; if that loss
        counted at once, a lane that was saved would stop a step before one that was not.
        """
        if settings.stop == "never" or settings.cycle is None:
            return settings.steps
        known = min(self.step - 1, len(self.losses))
        # Cycle by cycle: after a restart many are known at once, and the first that has settled counts.
        while not self._stops and (self._cycles_checked + 1) * settings.cycle <= known:
            self._cycles_checked += 1
            seen = self.losses[: self._cycles_checked * settings.cycle]
            self._stops = settled(seen, settings.cycle, settings.tolerance)
        if not self._stops:
            return settings.steps
        return min(settings.steps, self._cycles_checked * settings.cycle + max(1, settings.cooldown))

    def finished(self, settings: InversionSettings) -> bool:
        """Whether no step is left to take; the results of all steps have then been read."""
        if self.step >= self.end(settings):
            self.read_losses()
        return self.failure is not None or self.step >= self.end(settings)
