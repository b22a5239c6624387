"""How fast a model goes here, and how long an image then takes."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from originality.cost.memory_plan import MemoryPlan
from originality.inversion.inverter import Inverter
from originality.inversion.lane import Lane
from originality.model.diffusion import LatentDiffusion, Moments
from originality.settings.audit import AuditSettings

RUNS = 5
"""Times of which the median counts, where there is time for as many."""


@dataclass(frozen=True)
class Rate:
    """Of one kind of pass."""

    per_second: float
    """Samples."""
    at: int
    """Samples a pass when it was timed."""

    def __str__(self) -> str:
        return f"{self.per_second:.3g} samples/s ({self.at} a pass)"


@dataclass(frozen=True)
class Speed:
    """Of one worker."""

    step: Rate
    """Inversion steps: forward, back to the token vectors, and AdamW."""
    forward: Rate
    """The UNet alone, without gradients."""
    decoding: Rate


def inversion(model: LatentDiffusion, settings: AuditSettings, samples: int) -> tuple[Inverter, Lane]:
    """One lane of so many samples with the longest pseudo-word, of an image that is nothing but grey."""
    of_one = settings.inversion.model_copy(update={"batch_size": samples, "lanes": 1})
    inverter = Inverter(model, settings.selected_domain, of_one, settings.seed)
    zeros = torch.zeros(model.latent_shape)
    grey = Moments(zeros, zeros, mirrored=Moments(zeros, zeros))
    return inverter, inverter.open("", grey, settings.max_tokens)


def measure(model: LatentDiffusion, settings: AuditSettings, planned: MemoryPlan, seconds: float) -> Speed:
    """Time the passes at their planned sizes, or at those that the time is enough for."""
    started = 1 if settings.model.compile == "off" else None  # each size is compiled anew

    def step(samples: int) -> Callable[[], object]:
        inverter, lane = inversion(model, settings, samples)
        return lambda: inverter.advance([lane])

    @torch.no_grad()
    def forward(samples: int) -> Callable[[], object]:
        noisy = torch.zeros((samples, *model.latent_shape), device=model.device)
        t = torch.full((samples,), len(model.alphas_cumprod) // 2, device=model.device)
        words = model.encode_prompts([""]).repeat_prompt(samples)
        return torch.no_grad()(lambda: model.predict(noisy, t, words))

    def decoding(samples: int) -> Callable[[], object]:
        latents = torch.zeros((samples, *model.latent_shape), device=model.device)
        return lambda: model.decode(latents)

    return Speed(
        step=rate(step, planned.step, started or planned.step, 0.5 * seconds),
        forward=rate(forward, planned.denoising, started or planned.denoising, 0.4 * seconds),
        decoding=rate(decoding, planned.decoding, 1, 0.1 * seconds),
    )


def rate(prepare: Callable[[int], Callable[[], object]], most: int, first: int, seconds: float) -> Rate:
    """Samples a second of what ``prepare(samples)`` gives to do.

    The size is doubled from ``first`` as long as there seems to be time to run the next three times. Each is
    run once unmeasured, but for a first one that already takes all the time.
    """
    end, samples = time.monotonic() + seconds, first
    work = prepare(samples)
    taken = _seconds(work)
    if taken > seconds:
        return Rate(samples / taken, samples)
    taken = _seconds(work)
    while samples < most and time.monotonic() + 2 * taken * 3 < end:
        samples = min(2 * samples, most)
        work = prepare(samples)
        _seconds(work)
        taken = _seconds(work)
    runs = [taken]
    while len(runs) < RUNS and time.monotonic() + taken < end:
        runs.append(_seconds(work))
    return Rate(samples / statistics.median(runs), samples)


def _seconds(work: Callable[[], object]) -> float:
    _wait()
    started = time.perf_counter()
    work()
    _wait()
    return time.perf_counter() - started


def _wait() -> None:
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


@dataclass(frozen=True)
class Pace:
    """What a worker needs for one number of tokens of one image, whose cost is the same for each number."""

    inversion: float
    """Seconds, as all that follow."""
    drawing: float
    judging: float
    """By metric and check, as far as they were timed."""

    @property
    def seconds(self) -> float:
        return self.inversion + self.drawing + self.judging

    def __str__(self) -> str:
        return (
            f"one number of tokens takes {self.seconds:.3g} s where nothing ends early "
            f"(inversion {self.inversion:.3g}, drawing {self.drawing:.3g}, judging {self.judging:.3g})"
        )

    def per_hour(self, numbers: int) -> float:
        """Images an hour when each is tried with so many numbers of tokens."""
        return 3600 / (numbers * self.seconds)


def pace(model: LatentDiffusion, settings: AuditSettings, speed: Speed, judging: float) -> Pace:
    """From speeds and settings; ``judging``: seconds of metric and check together, an image."""
    redraw, inversion = settings.redraw, settings.inversion
    sets = 2 if settings.in_distribution.check == "editability" else 1  # redraws, and edit images
    drawn = redraw.count * model.unet_samples_per_redraw(redraw) / speed.forward.per_second
    decoded = redraw.count / speed.decoding.per_second
    return Pace(
        inversion=inversion.steps * inversion.batch_size / speed.step.per_second,
        drawing=sets * (drawn + decoded),
        judging=redraw.count * judging,
    )
