"""Random numbers of one inversion step: a function of (seed, image, m, step) alone.

The key names the step, not the call: a lane then sees the same numbers alone or among others, in the first
attempt or after a restart from a snapshot, and no generator's state has to be saved.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from originality.model.device_transfers import to_device
from originality.model.diffusion import Moments
from originality.model.randomness import keyed_generator
from originality.settings.inversion import InversionSettings


@dataclass(frozen=True)
class StepNoise:
    """The random numbers of one step of one lane, for n samples and k templates."""

    latents: Tensor
    """float32 (n, c, h, w): samples of the VAE's posterior of the image."""
    noise: Tensor
    """float32 (n, c, h, w), standard normal."""
    timesteps: Tensor
    """int64 (n,)."""
    templates: Tensor
    """int64 (k,): indices of the domain's templates that this step uses, each once."""
    template_of: Tensor
    """int64 (n,): for each sample, its index into ``templates``."""

    def to_device(self, device: torch.device) -> StepNoise:
        """A copy on the device; the host does not wait for the transfer."""
        return StepNoise(**{name: to_device(tensor, device) for name, tensor in vars(self).items()})


@dataclass(frozen=True)
class StepNoiseSource:
    """Generates the noise of any step of any image, for one seed."""

    settings: InversionSettings
    seed: int
    timesteps: int
    """Number of timesteps of the model's schedule."""
    templates: int
    """Number of templates of the domain."""

    def of(self, image_id: str, moments: Moments, tokens: int, step: int) -> StepNoise:
        """The noise of one step, on the CPU; with a ``cycle``, the same noise every ``cycle`` steps.

        Raises:
            ValueError: samples are to be flipped, and the image was not encoded mirrored.
        """
        # The order of the calls to the generator decides every verdict: each reads on where the one before
        # stopped.
        in_cycle = step % self.settings.cycle if self.settings.cycle else step
        rng = keyed_generator(self.seed, image_id, tokens, in_cycle)
        timesteps = self._timesteps(rng)
        templates, template_of = self._templates(rng)
        samples, shape = self.settings.batch_size, moments.mean.shape
        posterior, noise = torch.randn((2, samples, *shape), generator=rng)
        latents = moments.mean + moments.std * posterior
        if self.settings.flips == "half":
            if moments.mirrored is None:
                raise ValueError("inversion.flips is half and the image was not encoded mirrored")
            # Generated last, so that all the other numbers are the same with and without flips.
            flipped = torch.rand(samples, generator=rng).lt(0.5).view(-1, 1, 1, 1)
            mirrored = moments.mirrored.mean + moments.mirrored.std * posterior
            latents = torch.where(flipped, mirrored, latents)
        return StepNoise(latents, noise, timesteps, templates, template_of)

    def _timesteps(self, rng: Generator) -> Tensor:
        """int64 (n,): uniform, or stratified, one from each of n equal parts of the schedule."""
        count = self.settings.batch_size
        if self.settings.timesteps == "uniform":
            return torch.randint(self.timesteps, (count,), generator=rng)
        spread = (torch.arange(count) + torch.rand(count, generator=rng)) / count
        return (spread * self.timesteps).long().clamp_max(self.timesteps - 1)

    def _templates(self, rng: Generator) -> tuple[Tensor, Tensor]:
        """Distinct templates, and which of them each sample uses: one picked for it, or a few in turn."""
        samples, few = self.settings.batch_size, self.settings.templates
        if few is None:
            return torch.randint(self.templates, (samples,), generator=rng).unique(return_inverse=True)
        chosen = torch.randperm(self.templates, generator=rng)[: min(few, samples)]
        return chosen, torch.arange(samples) % len(chosen)
