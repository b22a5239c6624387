"""One image on its way to a pseudo-word: a step is taken on the device, and the host reads of it later.

Nothing here makes the host wait for the device while a step is under way. Whether a step's numbers are
finite is decided where they are; the host learns it, with the loss, one step later.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypedDict

import torch
from torch import Tensor

from originality.inversion.settled import settled
from originality.inversion.step_noise import Draw
from originality.model.device_transfers import HostCopy, to_device
from originality.model.diffusion import Moments
from originality.settings.inversion import InversionSettings

GOOD_STEPS = 2000
"""After so many in a row the loss scale is doubled, as PyTorch's GradScaler does."""

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
    """What a loss is multiplied by, so that fp16 neither loses its gradient nor overflows.

    It lives on the device. Once it is used up, below 1, nothing of it changes any more.
    """

    def __init__(
        self, value: float = 1.0, good: int = 0, skipped: int = 0, device: torch.device | str = "cpu"
    ) -> None:
        self._numbers = to_device(
            torch.tensor([value, good, skipped], dtype=torch.float32), torch.device(device)
        )

    @property
    def factor(self) -> Tensor:
        """float32 (), on the device."""
        return self._numbers[0]

    @property
    def left(self) -> Tensor:
        """bool (), on the device: whether it is not used up."""
        return self.factor >= 1

    @property
    def value(self) -> float:
        """The host waits for it, as for all that follow."""
        return self._numbers[0].item()

    @property
    def good(self) -> int:
        """Steps since it last changed."""
        return int(self._numbers[1].item())

    @property
    def skipped(self) -> int:
        """Steps that were not taken, as their numbers had overflowed."""
        return int(self._numbers[2].item())

    def follow(self, held: Tensor) -> None:
        """After a step whose numbers, on the device, ``held`` (bool ()) or overflowed."""
        value, good, skipped = self._numbers
        grown = held & (good + 1 == GOOD_STEPS) & (value > 1)
        after = (
            torch.where(held, torch.where(grown, value * 2, value), value / 2),
            torch.where(held & ~grown, good + 1, 0),
            torch.where(held, skipped, skipped + 1),
        )
        self._numbers = torch.where(self.left, torch.stack(after), self._numbers)


@dataclass
class Lane:
    """One image on its way to a pseudo-word of ``tokens`` tokens.

    ``losses`` and ``failure`` are as of the steps that the host has read: in between two steps all but the
    last one, after :meth:`settle` all.
    """

    image_id: str
    moments: Moments
    tokens: int
    vectors: Tensor
    """float32 (tokens, width), on the device: what is learned."""
    optimiser: torch.optim.AdamW
    """Fused: its kernel takes the loss scale off the gradient, and skips a step that is to be skipped."""
    scale: LossScale
    cause: Callable[[Lane], str]
    """Names what first was not finite in a step whose loss was not."""
    step: int = 0
    losses: list[float] = field(default_factory=list)
    """One a step; of a skipped one no number."""
    failure: str | None = None
    """Set when numbers overflow that no loss scale can help; the lane is then not trained further."""
    ahead: tuple[int, Draw] | None = None
    """A step's number and its draw, on the device."""
    _looked: int = 0
    """Cycles of losses that were looked at for whether it may stop, the last of which said so if it did."""
    _stops: bool = False
    _unread: list[tuple[int, HostCopy, int]] = field(default_factory=list)
    """Of each step: its number, and where it is told of."""

    def update(self, loss: Tensor, gradient: Tensor) -> Tensor:
        """Take a step, or skip it on the device where its numbers are not finite.

        Args:
            loss: float32 ().
            gradient: float32 (tokens, width), times the loss scale.

        Returns:
            float32 (3,), on the device: what :meth:`told` is to be told.
        """
        held = loss.isfinite() & gradient.isfinite().all()
        self.vectors.grad = gradient
        # As GradScaler hands them to a fused optimiser, which has no other way to be given them.
        self.optimiser.grad_scale = self.scale.factor  # type: ignore[attr-defined]
        self.optimiser.found_inf = (~(held & self.scale.left)).float()  # type: ignore[attr-defined]
        self.optimiser.step()
        self.scale.follow(held)
        return torch.stack([loss, held.float(), self.scale.left.float()])

    def told(self, reading: HostCopy, row: int) -> None:
        """The step just taken is told of in this row of a reading; a failed lane took none."""
        if self.failure is None:
            self._unread.append((self.step, reading, row))
            self.step += 1

    def settle(self, behind: int = 0) -> None:
        """Read of the steps that were taken, but for the last ``behind``; the host waits for the others.

        A lane that has failed stands at the step that it failed at. As its scale is then used up, later steps
        change nothing of it, whenever the host comes to know.
        """
        while len(self._unread) > behind:
            step, reading, row = self._unread.pop(0)
            loss, held, left = reading[row]
            if not left:
                self._unread.clear()
                self.step = step
                what = "the gradient" if math.isfinite(loss) else self.cause(self)
                self.failure = f"{what} of step {step} is not finite"
            else:
                self.losses.append(loss if held else math.nan)

    def state_dict(self) -> LaneState:
        """State after all the steps taken, for which the host waits. Its tensors are the lane's, not copies.

        Not part of it, because the same follows from the rest: the noise drawn for the next step (keyed by
        the step's number), whether training may stop early (computed from the losses), and a failure (the
        loss scale is then used up, so the next step fails at the same number for the same reason).
        """
        self.settle()
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
        self._looked, self._stops = 0, False

    def end(self, settings: InversionSettings) -> int:
        """Steps that are taken in all: the settings', or fewer once the losses say that it may stop.

        A cycle counts when the step after it is taken: whether a snapshot made the host read its last loss
        before must not matter.
        """
        if settings.stop == "never" or settings.cycle is None:
            return settings.steps
        known = min(self.step - 1, len(self.losses))
        while not self._stops and (self._looked + 1) * settings.cycle <= known:
            self._looked += 1
            seen = self.losses[: self._looked * settings.cycle]
            self._stops = settled(seen, settings.cycle, settings.tolerance)
        if not self._stops:
            return settings.steps
        return min(settings.steps, self._looked * settings.cycle + max(1, settings.cooldown))

    def finished(self, settings: InversionSettings) -> bool:
        """Whether no step is left to take; then all that were taken have been read."""
        if self.step >= self.end(settings):
            self.settle()
        return self.failure is not None or self.step >= self.end(settings)
