"""What chance decides in a step of an inversion: a function of (seed, image, m, step) alone."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from originality.model.device_transfers import to_device
from originality.model.diffusion import Moments
from originality.model.randomness import keyed_generator
from originality.settings.inversion import InversionSettings


@dataclass(frozen=True)
class Draw:
    """The random part of one step of one lane, all on the CPU."""

    latents: Tensor
    """float32 (n, c, h, w): samples of the image's posterior."""
    noise: Tensor
    """float32 (n, c, h, w), standard normal."""
    times: Tensor
    """int64 (n,): timesteps."""
    templates: Tensor
    """int64 (k,): the templates that the step speaks."""
    spoken: Tensor
    """int64 (n,): which of those each sample is told."""

    def to_device(self, device: torch.device) -> Draw:
        """On the device, for which the host does not wait."""
        return Draw(**{name: to_device(drawn, device) for name, drawn in vars(self).items()})


@dataclass(frozen=True)
class Draws:
    """How an inversion draws, for one seed."""

    settings: InversionSettings
    seed: int
    timesteps: int
    """Of the model's schedule."""
    templates: int
    """Of the domain."""

    def of(self, image_id: str, moments: Moments, tokens: int, step: int) -> Draw:
        """With a ``cycle`` the same steps come again."""
        again = step % self.settings.cycle if self.settings.cycle else step
        rng = keyed_generator(self.seed, image_id, tokens, again)
        times = self._times(rng)
        templates, spoken = self._templates(rng)
        samples, shape = self.settings.batch_size, moments.mean.shape
        posterior, noise = torch.randn((2, samples, *shape), generator=rng)
        latents = moments.mean + moments.std * posterior
        if self.settings.flips == "half":
            if moments.mirrored is None:
                raise ValueError("inversion.flips is half and the image was not encoded mirrored")
            # GeneratedImages last: with and without flips, all other numbers are the same.
            flipped = torch.rand(samples, generator=rng).lt(0.5).view(-1, 1, 1, 1)
            mirrored = moments.mirrored.mean + moments.mirrored.std * posterior
            latents = torch.where(flipped, mirrored, latents)
        return Draw(latents, noise, times, templates, spoken)

    def _times(self, rng: Generator) -> Tensor:
        """int64 (n,)."""
        count = self.settings.batch_size
        if self.settings.timesteps == "uniform":
            return torch.randint(self.timesteps, (count,), generator=rng)
        spread = (torch.arange(count) + torch.rand(count, generator=rng)) / count
        return (spread * self.timesteps).long().clamp_max(self.timesteps - 1)

    def _templates(self, rng: Generator) -> tuple[Tensor, Tensor]:
        """Templates, each once, and which of them each sample is told: its own, or by turns one of a few."""
        samples, few = self.settings.batch_size, self.settings.templates
        if few is None:
            return torch.randint(self.templates, (samples,), generator=rng).unique(return_inverse=True)
        chosen = torch.randperm(self.templates, generator=rng)[: min(few, samples)]
        return chosen, torch.arange(samples) % len(chosen)
