"""One training stage: a loop that checkpoints, resumes to the same numbers, and says how it goes.

Started by ``torchrun``, every process takes its share of each batch and the gradients are averaged: on a CPU
two processes of one thread each do almost twice the work of one process of two threads.
"""

from __future__ import annotations

import atexit
import hashlib
import json
import math
import os
import signal
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn

CHECKPOINT_SECONDS = 120.0


@dataclass(frozen=True)
class Crew:
    """The processes that train together; alone, one that does everything."""

    rank: int
    size: int

    @classmethod
    def here(cls) -> Crew:
        return cls(dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else cls(0, 1)

    def part(self, batch_size: int) -> slice:
        """This process's part of a batch that all of them know."""
        if batch_size % self.size:
            raise ValueError(f"a batch of {batch_size} cannot be shared evenly by {self.size} processes")
        return slice(self.rank, None, self.size)

    def average(self, parameters: Sequence[nn.Parameter], loss: float, stop: bool) -> tuple[float, bool]:
        """Average the gradients in place; the mean loss, and whether any process was asked to stop."""
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
        """Until all processes are here."""
        if self.size > 1:
            dist.barrier()


def join_crew() -> None:
    """Under ``torchrun``, meet the other processes, each on a core of its own; else nothing."""
    if "WORLD_SIZE" not in os.environ:
        return
    dist.init_process_group("gloo")
    atexit.register(dist.destroy_process_group)  # its threads abort a process that ends before them
    if not hasattr(os, "sched_setaffinity"):  # macOS
        return
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) >= dist.get_world_size():
        os.sched_setaffinity(0, {cores[dist.get_rank()]})


def default_folder() -> Path:
    """Checkpoints live in the user's cache, so that they outlast a checkout."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "originality" / "train-shapes"


def decay_start(steps: int, warmup: int, decay_share: float) -> int:
    """The step from which the learning rate falls."""
    return max(warmup, round(steps * (1 - decay_share)))


def rate_factor(step: int, steps: int, warmup: int, decay_share: float) -> float:
    """Factor of the learning rate: linear warm-up, a plateau, then half a cosine down to 0."""
    if step < warmup:
        return (step + 1) / warmup
    start = decay_start(steps, warmup, decay_share)
    if step < start:
        return 1.0
    return 0.5 * (1 + math.cos(math.pi * (step - start) / max(steps - start, 1)))


class Average:
    """Exponential moving average of parameters, with a start-up correction of the decay."""

    def __init__(self, parameters: Iterable[nn.Parameter], decay: float) -> None:
        self.decay = decay
        self.live = list(parameters)
        self.mean = [p.detach().clone() for p in self.live]

    @torch.no_grad()
    def update(self, step: int) -> None:
        decay = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(self.mean, [p.detach() for p in self.live], 1 - decay)

    @torch.no_grad()
    def swap(self) -> None:
        """Exchange live and averaged values; call again to swap back."""
        for live, mean in zip(self.live, self.mean, strict=True):
            live.data, mean.data = mean.data.clone(), live.data.clone()


def run_stage(
    name: str,
    folder: Path,
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
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
) -> Average:
    """Train ``modules`` on ``loss_at(step)``; a checkpoint every two minutes and at SIGTERM or ctrl-C.

    ``loss_at`` must be a function of the step, the weights and the :class:`Crew` alone: then a resumed run
    goes on with the same numbers as an undisturbed one. The weights at the end of the learning rate's
    plateau are kept beside the checkpoint: up to there a longer recipe is the same, and may go on from them.

    Args:
        recipe: all that decides ``loss_at``, in words; a checkpoint of another recipe is not gone on from.

    Returns:
        The weights' moving average, the modules holding the live weights.

    Raises:
        ValueError: the folder holds a checkpoint of another recipe.
        FloatingPointError: the loss is not a number.
        KeyboardInterrupt: it was stopped, with a checkpoint.
    """
    folder.mkdir(parents=True, exist_ok=True)
    crew = Crew.here()
    crew.wait()  # until the checkpoint that another process may still be writing is there
    rates = (learning_rate, warmup, weight_decay, ema_decay, decay_share)
    identity = hashlib.sha256(f"{recipe} {rates}".encode()).hexdigest()[:16]
    parameters = [p for p in modules.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(parameters, lr=learning_rate, weight_decay=weight_decay, fused=True)
    average = Average(parameters, ema_decay)
    checkpoint = folder / f"{name}.pt"
    plateau = folder / f"{name}-plateau.pt"
    plateau_end = decay_start(steps, warmup, decay_share)
    losses: list[float] = []
    first, seconds = 0, 0.0
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        if state.get("identity") != identity:
            raise ValueError(f"{checkpoint} is of another recipe; remove it, or train in another folder")
        in_decay = state["step"] > decay_start(state["steps"], warmup, decay_share)
        if state["steps"] != steps and in_decay:
            state = torch.load(plateau, weights_only=True)
        modules.load_state_dict(state["modules"])
        optimiser.load_state_dict(state["optimiser"])
        average.mean = state["average"]
        first, losses, seconds = state["step"], state["losses"], state["seconds"]

    def save(step: int, target: Path = checkpoint) -> None:
        if crew.rank:
            return
        part = target.with_suffix(".part")
        torch.save(
            {
                "modules": modules.state_dict(),
                "optimiser": optimiser.state_dict(),
                "average": average.mean,
                "identity": identity,
                "step": step,
                "steps": steps,
                "losses": losses,
                "seconds": seconds + time.monotonic() - started,
            },
            part,
        )
        part.replace(target)
        (folder / f"{name}.json").write_text(
            json.dumps(
                {
                    "step": step,
                    "steps": steps,
                    "seconds": round(seconds + time.monotonic() - started, 1),
                    "loss": [round(x, 6) for x in losses],
                }
            )
        )

    stopping = False

    def stop(*_: object) -> None:
        nonlocal stopping
        stopping = True

    previous = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    started = saved = time.monotonic()
    modules.train()
    torch.set_flush_denormal(True)  # the optimiser's smallest moments would slow every step
    try:
        for step in range(first, steps):
            for group in optimiser.param_groups:
                group["lr"] = learning_rate * rate_factor(step, steps, warmup, decay_share)
            optimiser.zero_grad(set_to_none=True)
            loss = loss_at(step)
            loss.backward()
            mean_loss, stop_now = crew.average(parameters, float(loss.detach()), stopping)
            nn.utils.clip_grad_norm_(parameters, 1.0)
            optimiser.step()
            average.update(step)
            losses.append(mean_loss)
            if not math.isfinite(losses[-1]):
                raise FloatingPointError(
                    f"{name}: the loss of step {step} is {losses[-1]}; lower its learning rate"
                )
            if (step + 1) % 50 == 0 and not crew.rank:
                pace = (time.monotonic() - started) / (step + 1 - first)
                recent = sum(losses[-50:]) / len(losses[-50:])
                print(
                    f"{name}: step {step + 1}/{steps}, loss {recent:.5f}, {pace:.3f} s a step, "
                    f"{(steps - step - 1) * pace / 60:.0f} min left",
                    flush=True,
                )
            if step + 1 == plateau_end:
                save(step + 1, plateau)
            if stop_now or time.monotonic() - saved > checkpoint_seconds:
                save(step + 1)
                saved = time.monotonic()
            if stop_now:
                raise KeyboardInterrupt
        if first < steps:
            save(steps)
    finally:
        torch.set_flush_denormal(False)
        for number, handler in previous.items():
            signal.signal(number, handler)
    crew.wait()
    modules.eval()
    return average
