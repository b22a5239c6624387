"""One training stage: a loop that checkpoints, resumes to the same numbers and reports its progress.

Started by ``torchrun``, every process computes its share of each batch and the gradients are averaged: on a
CPU two processes of one thread each do almost twice the work of one process of two threads.
"""

from __future__ import annotations

import atexit
import hashlib
import json
import math
import os
import signal
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

CHECKPOINT_SECONDS = 120.0
"""Least time between two checkpoints."""


@dataclass(frozen=True)
class Processes:
    """The processes that train together; a single one if there is no process group."""

    rank: int
    size: int

    @classmethod
    def current(cls) -> Processes:
        """The processes of this run."""
        return cls(dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else cls(0, 1)

    def share(self, batch_size: int) -> slice:
        """This process's share of a batch that every process draws alike.

        Raises:
            ValueError: the batch cannot be divided evenly.
        """
        if batch_size % self.size:
            raise ValueError(f"a batch of {batch_size} cannot be divided evenly among {self.size} processes")
        return slice(self.rank, None, self.size)

    def average(self, parameters: Sequence[nn.Parameter], loss: float, stop: bool) -> tuple[float, bool]:
        """Average the gradients in place.

        Returns:
            The mean loss, and whether any process was asked to stop: all processes must stop at the same
            step, or the others would wait for it forever.
        """
        if self.size == 1:
            return loss, stop
        gradients = [p.grad for p in parameters if p.grad is not None]
        flat = torch.cat([*(g.flatten() for g in gradients), torch.tensor([loss, float(stop)])])
        dist.all_reduce(flat)
        flat /= self.size
        for gradient, mean in zip(
            gradients, flat.split([*(g.numel() for g in gradients), 2])[:-1], strict=True
        ):
            gradient.copy_(mean.view_as(gradient))
        return float(flat[-2]), bool(flat[-1] > 0)

    def wait(self) -> None:
        """Wait until all processes have arrived."""
        if self.size > 1:
            dist.barrier()


def join_processes() -> None:
    """Under ``torchrun``, join the other processes, each pinned to a core; otherwise do nothing."""
    if "WORLD_SIZE" not in os.environ:
        return
    dist.init_process_group("gloo")
    atexit.register(dist.destroy_process_group)  # its threads would abort an exiting process
    if not hasattr(os, "sched_setaffinity"):  # macOS
        return
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) >= dist.get_world_size():
        os.sched_setaffinity(0, {cores[dist.get_rank()]})


def default_folder(name: str = "train-shapes") -> Path:
    """Folder of checkpoints and latents in the user's cache, so that they outlast a checkout."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "originality" / name


def decay_start(steps: int, warmup: int, decay_share: float) -> int:
    """The step at which the learning rate begins to fall."""
    return max(warmup, round(steps * (1 - decay_share)))


def rate_factor(step: int, steps: int, warmup: int, decay_share: float) -> float:
    """Factor of the learning rate at a step: linear warm-up, a plateau, then half a cosine down to 0."""
    if step < warmup:
        return (step + 1) / warmup
    start = decay_start(steps, warmup, decay_share)
    if step < start:
        return 1.0
    return 0.5 * (1 + math.cos(math.pi * (step - start) / max(steps - start, 1)))


class Average:
    """Exponential moving average of parameters, with a smaller decay in the first steps."""

    def __init__(self, parameters: Iterable[nn.Parameter], decay: float) -> None:
        self.decay = decay
        self.live = list(parameters)
        self.mean = [p.detach().clone() for p in self.live]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Move the average towards the weights after training step ``step``, counted from 0."""
        decay = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(self.mean, [p.detach() for p in self.live], 1 - decay)

    @torch.no_grad()
    def swap(self) -> None:
        """Exchange live and averaged values; call again to swap back."""
        for live, mean in zip(self.live, self.mean, strict=True):
            live.data, mean.data = mean.data.clone(), live.data.clone()


class Stage:
    """Modules that learn from ``loss_at(step)``, one optimiser step at a time.

    ``loss_at`` must depend on the step, the weights and the :class:`Processes` alone: then a resumed stage
    has the same numbers as one that was never interrupted.
    """

    def __init__(
        self,
        name: str,
        modules: nn.ModuleDict,
        loss_at: Callable[[int], Tensor],
        *,
        steps: int,
        learning_rate: float,
        warmup: int,
        weight_decay: float,
        ema_decay: float,
        decay_share: float = 1.0,
        recipe: str = "",
    ) -> None:
        """Args:
        recipe: text that identifies everything ``loss_at`` depends on; a state of a different recipe is
        refused.
        """
        self.name, self.modules, self.steps = name, modules, steps
        self.step = 0
        self.losses: list[float] = []
        self._loss_at = loss_at
        self._rate = learning_rate
        self.course = (steps, warmup, decay_share)
        """Arguments of :func:`rate_factor` for the learning rate."""
        rates = (learning_rate, warmup, weight_decay, ema_decay, decay_share)
        self._identity = hashlib.sha256(f"{recipe} {rates}".encode()).hexdigest()[:16]
        self._parameters = [p for p in modules.parameters() if p.requires_grad]
        self._optimiser = torch.optim.AdamW(
            self._parameters, lr=learning_rate, weight_decay=weight_decay, fused=True
        )
        self.average = Average(self._parameters, ema_decay)
        """The weights' moving average; the modules hold the live ones."""

    @property
    def done(self) -> bool:
        """Whether all steps have been trained."""
        return self.step >= self.steps

    @property
    def plateau_end(self) -> int:
        """The step up to which a recipe with more steps trains identically."""
        return decay_start(*self.course)

    def advance(self, stop: bool = False) -> bool:
        """Take an optimiser step.

        Returns:
            Whether any of the processes was asked to stop.

        Raises:
            FloatingPointError: the loss is not finite.
        """
        self.modules.train()
        flushed = torch.set_flush_denormal(True)  # denormal moments of the optimiser would slow every step
        try:
            for group in self._optimiser.param_groups:
                group["lr"] = self._rate * rate_factor(self.step, *self.course)
            self._optimiser.zero_grad(set_to_none=True)
            loss = self._loss_at(self.step)
            loss.backward()
            mean, stop_now = Processes.current().average(self._parameters, float(loss.detach()), stop)
            nn.utils.clip_grad_norm_(self._parameters, 1.0)
            self._optimiser.step()
            self.average.update(self.step)
        finally:
            if flushed:
                torch.set_flush_denormal(False)
        if not math.isfinite(mean):
            raise FloatingPointError(
                f"{self.name}: the loss of step {self.step} is {mean}; lower its learning rate"
            )
        self.losses.append(mean)
        self.step += 1
        return stop_now

    def finish(self) -> None:
        """Put the averaged weights into the modules, for use."""
        self.average.swap()
        self.modules.eval()

    def state(self) -> dict[str, Any]:
        """State for :meth:`load`."""
        return {
            "modules": self.modules.state_dict(),
            "optimiser": self._optimiser.state_dict(),
            "average": self.average.mean,
            "identity": self._identity,
            "step": self.step,
            "steps": self.steps,
            "losses": self.losses,
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Resume from a state.

        Raises:
            ValueError: the state is of a different recipe.
        """
        if state.get("identity") != self._identity:
            raise ValueError(f"{self.name}: the state is of a different recipe")
        self.modules.load_state_dict(state["modules"])
        self._optimiser.load_state_dict(state["optimiser"])
        for mean, kept in zip(self.average.mean, state["average"], strict=True):
            mean.copy_(kept)  # the state may be on a different device
        self.step, self.losses = state["step"], list(state["losses"])

    def recent_loss(self) -> float:
        """Mean loss of the last fifty steps."""
        recent = self.losses[-50:]
        return sum(recent) / max(1, len(recent))


def run_stage(stage: Stage, folder: Path, checkpoint_seconds: float = CHECKPOINT_SECONDS) -> None:
    """Train a stage, with a checkpoint every two minutes and at SIGTERM or ctrl-C.

    The state at the end of the learning rate's plateau is stored beside the checkpoint: up to there a recipe
    with more steps trains identically, and can resume from it.

    Raises:
        ValueError: the folder holds a checkpoint of a different recipe.
        FloatingPointError: the loss is not finite.
        KeyboardInterrupt: it was stopped, after writing a checkpoint.
    """
    folder.mkdir(parents=True, exist_ok=True)
    processes = Processes.current()
    processes.wait()  # another process may still be writing the checkpoint
    checkpoint, plateau = folder / f"{stage.name}.pt", folder / f"{stage.name}-plateau.pt"
    seconds = _resume(stage, checkpoint, plateau)
    first = stage.step

    def save(target: Path = checkpoint) -> None:
        if processes.rank:
            return
        total = seconds + time.monotonic() - started
        part = target.with_suffix(".part")
        torch.save({**stage.state(), "seconds": total}, part)
        part.replace(target)
        curve = [round(x, 6) for x in stage.losses]
        progress = {"step": stage.step, "steps": stage.steps, "seconds": round(total, 1), "loss": curve}
        (folder / f"{stage.name}.json").write_text(json.dumps(progress))

    stopping = False

    def stop(*_: object) -> None:
        nonlocal stopping
        stopping = True

    previous = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    started = saved = time.monotonic()
    try:
        while not stage.done:
            stop_now = stage.advance(stopping)
            if stage.step % 50 == 0 and not processes.rank:
                pace = (time.monotonic() - started) / (stage.step - first)
                print(
                    f"{stage.name}: step {stage.step}/{stage.steps}, loss {stage.recent_loss():.5f}, "
                    f"{pace:.3f} s a step, {(stage.steps - stage.step) * pace / 60:.0f} min left",
                    flush=True,
                )
            if stage.step == stage.plateau_end:
                save(plateau)
            if stop_now or time.monotonic() - saved > checkpoint_seconds:
                save()
                saved = time.monotonic()
            if stop_now:
                raise KeyboardInterrupt
        if first < stage.steps:
            save()
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    processes.wait()


def _resume(stage: Stage, checkpoint: Path, plateau: Path) -> float:
    """Resume the stage from a folder, if it has a checkpoint; the seconds trained so far."""
    if not checkpoint.exists():
        return 0.0
    state = torch.load(checkpoint, weights_only=True)
    in_decay = state["step"] > decay_start(state["steps"], *stage.course[1:])
    # With a different number of steps the learning rate falls elsewhere: only the plateau can be reused.
    if state["steps"] != stage.steps and in_decay:
        state = torch.load(plateau, weights_only=True)
    try:
        stage.load(state)
    except ValueError as error:
        raise ValueError(
            f"{checkpoint} is of a different recipe; remove it, or train in a different folder"
        ) from error
    return float(state["seconds"])
