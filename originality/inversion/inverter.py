"""Multi-token textual inversion of several images at once (paper Section 3.1; Gal et al. 2022).

Each *lane* holds one image and its m vectors. In a step, ``batch_size`` noisy versions of every lane's image
go through the UNet in one pass, and AdamW moves each lane's vectors. Only those m x width numbers are
trained; the model stays as it is, its token table included. The lanes' losses are summed and never mixed, so
a lane's gradient depends on no other lane. A pass that runs out of memory is repeated as several smaller
ones.

A step only queues work on the device. Meanwhile the host generates the next step's noise, and reads the
results of the step before.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import reduce

import numpy as np
import torch
from torch import Tensor
from torch.profiler import record_function

from originality.inversion.lane import Lane, LossScale
from originality.inversion.step_noise import StepNoise, StepNoiseSource
from originality.model.device_transfers import HostCopy
from originality.model.diffusion import LatentDiffusion, Moments
from originality.model.out_of_memory import Passes
from originality.model.prompt_embeddings import PromptEmbeddings, Prompts
from originality.settings.domains import Domain
from originality.settings.inversion import InversionSettings


class Inverter:
    """Trains the lanes of one model, domain and seed."""

    def __init__(
        self,
        model: LatentDiffusion,
        domain: Domain,
        settings: InversionSettings,
        seed: int,
        lanes: int | None = None,
    ) -> None:
        """``lanes``: most lanes in a pass, from the memory plan; None for the settings', or 1 if "auto"."""
        self.model = model
        self.domain = domain
        self.settings = settings
        self.seed = seed
        self.passes = Passes()
        self.lanes = lanes or (1 if settings.lanes == "auto" else settings.lanes)
        self._initial_vectors = {word: self._initial_vector(word) for word in domain.initial_words}
        self._noise = StepNoiseSource(settings, seed, len(model.alphas_cumprod), len(domain.templates))
        self._templates: dict[int, Prompts] = {}

    def _initial_vector(self, word: str) -> Tensor:
        """The embedding that every pseudo-token starts from: float32 (width,)."""
        return self.model.text.word_vector(word, self.settings.initial_tokens)

    def encode(self, picture: np.ndarray) -> Moments:
        """The VAE's posterior of a fitted image, uint8 (side, side, 3); mirrored too, if samples are flipped.

        Raises:
            NotFinite: the encoding is not finite.
        """
        moments = self.model.encode(picture)
        if self.settings.flips == "never":
            return moments
        return replace(moments, mirrored=self.model.encode(np.ascontiguousarray(picture[:, ::-1])))

    def open(self, image_id: str, moments: Moments, tokens: int, word: str | None = None) -> Lane:
        """A lane at step 0, each of its pseudo-tokens at the initial word.

        Args:
            word: the image's initial word; None for the only one of the domain.

        Raises:
            WordMissing: no word was given, and the domain has several.
            SettingsError: the model cannot start from the word.
        """
        word = self.domain.initial_word if word is None else word
        known = self._initial_vectors
        start = known[word] if word in known else self._initial_vector(word)
        vectors = start.repeat(tokens, 1).requires_grad_(True)
        how = self.settings
        optimiser = torch.optim.AdamW([vectors], lr=how.step_size, weight_decay=how.weight_decay, fused=True)
        scale = self.settings.loss_scale if self.model.dtype == torch.float16 else 1.0
        loss_scale = LossScale(scale, device=self.model.device)
        return Lane(image_id, moments, tokens, vectors, optimiser, loss_scale, self._first_not_finite)

    def advance(self, lanes: Sequence[Lane]) -> None:
        """Take one optimiser step of every lane, in one UNet pass of ``self.lanes`` lanes.

        A step whose loss or gradient is not finite is skipped, and the loss scale halved; once the scale is
        exhausted, the lane fails. The host does not wait for the step: it reads its losses and failures
        after the next one.

        Raises:
            torch.OutOfMemoryError: memory does not suffice for one sample of one lane; no lane has moved.
        """
        if not 0 < len(lanes) <= self.lanes:
            raise ValueError(f"{len(lanes)} lanes in a pass of {self.lanes}")
        found = self.passes.run(
            self.lanes * self.settings.batch_size, lambda most: self.gradients(lanes, most)
        )
        for lane in lanes:
            lane.optimiser.param_groups[0]["lr"] = learning_rate(
                self.settings, lane.step, lane.end(self.settings)
            )
        with record_function("audit: optimiser"):
            updated = [lane.update(*own) for lane, own in zip(lanes, found, strict=True)]
        reading = HostCopy(torch.stack(updated))
        for row, lane in enumerate(lanes):
            lane.record(reading, row)
        # The device now works on the step. The next one's noise is generated before the host waits for the
        # results of the step before, so that neither the device nor the host is idle.
        for lane in lanes:
            if lane.step < lane.end(self.settings):
                self._prefetched_noise(lane)
        for lane in lanes:
            lane.read_losses(behind=1)

    def gradients(self, lanes: Sequence[Lane], most: int) -> list[tuple[Tensor, Tensor]]:
        """Each lane's loss, float32 (), and its gradient times the lane's scale, float32 (m, width).

        A pass holds at most ``most`` samples: several complete lanes, or a part of one lane's samples. The
        gradients with respect to the prompt embeddings are summed over a lane's parts before they go back
        through the text encoder, so that it reads each prompt once per step, however small the passes are.
        """
        samples = self.settings.batch_size
        together, size = max(1, most // samples), min(most, samples)
        found: list[tuple[Tensor, Tensor]] = []
        for group in (lanes[k : k + together] for k in range(0, len(lanes), together)):
            # A short group is filled with repeats of its first lane, whose results are dropped. Libraries
            # choose kernels by a pass's shape, and kernels differ in the last bits of their results. If every
            # pass has the same shape, a lane's numbers do not depend on how many lanes share the pass, and
            # an image gets the same verdict alone, among others, and after a restart.
            filled = [*group, *[group[0]] * (together - len(group))]
            scales = torch.stack([lane.scale.factor for lane in group])
            words, prompt_of = self._encoded_prompts(filled)
            read = words.detached()
            losses, word_gradients = [], []
            for start in range(0, samples, size):
                part = slice(start, start + size)
                share = self.losses(filled, part, (read, prompt_of))[: len(group)]
                with record_function("audit: UNet, backward"):
                    word_gradients.append(torch.autograd.grad((share * scales).sum(), read.tensors))
                losses.append(share.detach())
            summed = [reduce(torch.add, parts) for parts in zip(*word_gradients, strict=True)]
            with record_function("audit: text encoder, backward"):
                gradients = torch.autograd.grad(words.tensors, [lane.vectors for lane in group], summed)
            found += zip(reduce(torch.add, losses).unbind(), gradients, strict=True)
        return found

    def losses(
        self,
        lanes: Sequence[Lane],
        part: slice = slice(None),
        prompts: tuple[PromptEmbeddings, Sequence[Tensor]] | None = None,
    ) -> Tensor:
        """Mean squared error of the UNet's prediction, float32 (lanes,).

        For a ``part`` of each lane's samples, its share in the mean: the shares of all parts add up to it.

        Args:
            prompts: as :meth:`_encoded_prompts` returns them.
        """
        error = torch.sub(*self._prediction_and_target(lanes, part, prompts or self._encoded_prompts(lanes)))
        size, samples = len(error) // len(lanes), self.settings.batch_size
        return error.square().flatten(1).mean(1).view(len(lanes), size).mean(1) * (size / samples)

    def _prediction_and_target(
        self, lanes: Sequence[Lane], part: slice, prompts: tuple[PromptEmbeddings, Sequence[Tensor]]
    ) -> tuple[Tensor, Tensor]:
        """The UNet's prediction and its target, each float32 (lanes x samples of the part, c, h, w)."""
        model, noise = self.model, [self._prefetched_noise(lane) for lane in lanes]
        parts = [(of.latents[part], of.noise[part], of.timesteps[part]) for of in noise]
        clean, eps, t = (torch.cat(kind) for kind in zip(*parts, strict=True))
        words, prompt_of = prompts
        own = words.select(torch.cat([of[part] for of in prompt_of]))
        return model.predict(model.add_noise(clean, eps, t), t, own), model.target(clean, eps, t)

    def _first_not_finite(self, lane: Lane) -> str:
        """What was not finite first on the way to a lane's loss. Recomputed, since it is rarely needed."""
        samples = self.settings.batch_size
        size = min(samples, self.passes.max_samples or samples)
        with torch.no_grad():
            prompts = self._encoded_prompts([lane])
            if not prompts[0].states.isfinite().all():
                return "the text encoder's output"
            parts = (slice(start, start + size) for start in range(0, samples, size))
            predicted = torch.cat([self._prediction_and_target([lane], part, prompts)[0] for part in parts])
        return "the loss" if predicted.isfinite().all() else "the UNet's prediction"

    def _encoded_prompts(self, lanes: Sequence[Lane]) -> tuple[PromptEmbeddings, list[Tensor]]:
        """Embeddings of all prompts of the lanes, and for each lane the prompt of each sample, int64 (n,)."""
        noise, prompt_of, known = [self._prefetched_noise(lane) for lane in lanes], [], 0
        for of in noise:
            prompt_of.append(of.template_of + known)
            known += len(of.templates)
        # Lanes are encoded together only where each uses the same number of templates. Otherwise the number
        # of prompts in a call, and with it the last bits, would depend on the other lanes.
        together = len(lanes) if self.settings.templates else 1
        calls = (slice(k, k + together) for k in range(0, len(lanes), together))
        return PromptEmbeddings.concatenate(
            [self._encode_templates(lanes[call], noise[call]) for call in calls]
        ), prompt_of

    def _encode_templates(self, lanes: Sequence[Lane], noise: Sequence[StepNoise]) -> PromptEmbeddings:
        """Embeddings of the lanes' templates with their vectors in place, each prompt encoded once."""
        widest = max(lane.tokens for lane in lanes)
        prompts, vectors = [], []
        for lane, of in zip(lanes, noise, strict=True):
            prompts.append(self._tokenised_templates(lane.tokens).select(of.templates))
            padded = torch.nn.functional.pad(lane.vectors, (0, 0, 0, widest - lane.tokens))
            vectors.append(padded.expand(len(of.templates), -1, -1))
        return self.model.text.encode(Prompts.concatenate(prompts), torch.cat(vectors))

    def _prefetched_noise(self, lane: Lane) -> StepNoise:
        """The noise of a lane's next step, on the device; generated once."""
        if lane.prefetched is None or lane.prefetched[0] != lane.step:
            lane.prefetched = lane.step, self.step_noise(lane).to_device(self.model.device)
        return lane.prefetched[1]

    def step_noise(self, lane: Lane) -> StepNoise:
        """The noise of a lane's next step, on the CPU."""
        return self._noise.of(lane.image_id, lane.moments, lane.tokens, lane.step)

    def _tokenised_templates(self, tokens: int) -> Prompts:
        """The domain's templates for a word of so many tokens, on the device."""
        if tokens not in self._templates:
            prompts = self.model.text.tokenise(self.domain.templates, tokens)
            self._templates[tokens] = prompts.to_device(self.model.device)
        return self._templates[tokens]


def learning_rate(settings: InversionSettings, step: int, end: int) -> float:
    """Learning rate of a step, from 0: constant, then falling linearly over the last ``cooldown`` steps.

    It would be 0 at step ``end``, which is not taken.
    """
    return settings.step_size * min(1.0, (end - step) / (settings.cooldown + 1))


def invert(
    inverter: Inverter,
    images: Sequence[tuple[str, Moments, int]],
    on_step: Callable[[Sequence[Lane]], None] | None = None,
) -> list[Lane]:
    """Invert several images, each with its number of tokens.

    Args:
        images: (image_id, moments, tokens) of each image.
        on_step: called after every step with the lanes that took it.

    Returns:
        The finished lanes, in the order of the images.
    """
    lanes = [inverter.open(*image) for image in images]
    waiting = list(lanes)
    while waiting:
        batch = waiting[: inverter.lanes]
        inverter.advance(batch)
        if on_step:
            on_step(batch)
        waiting = [lane for lane in waiting if not lane.finished(inverter.settings)]
    return lanes
