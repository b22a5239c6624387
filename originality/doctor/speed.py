"""Measures the speed of a model on this machine, and derives the time for an image."""

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
"""Number of runs whose median is used, if there is time for as many."""


@dataclass(frozen=True)
class Rate:
    """Speed of one kind of pass."""

    per_second: float
    """Samples per second."""
    at: int
    """Samples in the timed pass."""

    def __str__(self) -> str:
        return f"{self.per_second:.3g} samples/s ({self.at} a pass)"


@dataclass(frozen=True)
class Speed:
    """Speed of one worker."""

    step: Rate
    """Inversion steps: forward pass, backward pass to the token vectors, and AdamW."""
    forward: Rate
    """UNet only, without gradients."""
    decoding: Rate
    """VAE decoder."""


def inversion(model: LatentDiffusion, settings: AuditSettings, samples: int) -> tuple[Inverter, Lane]:
    """An inverter, and a lane with this many samples and the longest pseudo-word, for a plain grey image."""
    of_one = settings.inversion.model_copy(update={"batch_size": samples, "lanes": 1})
    inverter = Inverter(model, settings.selected_domain, of_one, settings.seed)
    zeros = torch.zeros(model.latent_shape)
    grey = Moments(zeros, zeros, mirrored=Moments(zeros, zeros))
    return inverter, inverter.open("", grey, settings.max_tokens)


def measure(model: LatentDiffusion, settings: AuditSettings, planned: MemoryPlan, seconds: float) -> Speed:
    """Time the passes at their planned sizes, or at the largest sizes that the time allows."""
    started = 1 if settings.model.compile == "off" else None  # with torch.compile each size is compiled

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
    """Samples per second of the function that ``prepare(samples)`` returns.

    The size is doubled from ``first`` as long as there is likely time to run the next size three times. Each
    size is run once without timing, to warm up, unless the first run already takes all the time.
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
    """Time of a worker for one number of tokens of one image. It is the same for every number."""

    inversion: float
    """Seconds."""
    drawing: float
    """Seconds for redraws and edit images."""
    judging: float
    """Seconds of metric and check, as far as they were timed."""

    @property
    def seconds(self) -> float:
        """Seconds of one number of tokens for one image."""
        return self.inversion + self.drawing + self.judging

    def __str__(self) -> str:
        return (
            f"one number of tokens takes {self.seconds:.3g} s if nothing stops early "
            f"(inversion {self.inversion:.3g}, drawing {self.drawing:.3g}, judging {self.judging:.3g})"
        )

    def per_hour(self, numbers: int) -> float:
        """Images per hour if each is tried with this many numbers of tokens."""
        return 3600 / (numbers * self.seconds)


def pace(model: LatentDiffusion, settings: AuditSettings, speed: Speed, judging: float) -> Pace:
    """Derive the time for an image from speeds and settings. ``judging``: seconds of metric and check per
    image."""
    redraw, inversion = settings.redraw, settings.inversion
    sets = 2 if settings.in_distribution.check == "editability" else 1  # redraws, and edit images
    drawn = redraw.count * model.unet_samples_per_redraw(redraw) / speed.forward.per_second
    decoded = redraw.count / speed.decoding.per_second
    return Pace(
        inversion=inversion.steps * inversion.batch_size / speed.step.per_second,
        drawing=sets * (drawn + decoded),
        judging=redraw.count * judging,
    )
