"""Multi-token textual inversion of several images at once (paper Section 3.1; Gal et al. 2022).

Each *lane* holds one image and its own m vectors. A step draws ``batch_size`` noisy versions of every
lane's image, predicts their noise in one UNet pass, and moves each lane's vectors by AdamW. Only those
m x width numbers are trained: the rest of the model, its token table included, stays as it is. Since the
losses of the lanes are summed and never mixed, a lane's gradient is its own. A pass that runs out of
memory is made again as several smaller ones.

A step only gives the device its work. Meanwhile the host draws what the next one takes, and reads what
became of the one before.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import reduce

import numpy as np
import torch
from torch import Tensor

from originality.inversion.lane import Lane, LossScale
from originality.inversion.step_noise import Draw, Draws
from originality.model.device_transfers import HostCopy
from originality.model.diffusion import LatentDiffusion, Moments
from originality.model.out_of_memory import Passes
from originality.model.prompt_embeddings import PromptEmbeddings, Prompts
from originality.settings.domains import Domain
from originality.settings.inversion import InversionSettings


class Inverter:
    """Trains lanes on one model, in one domain, under one seed."""

    def __init__(
        self,
        model: LatentDiffusion,
        domain: Domain,
        settings: InversionSettings,
        seed: int,
        lanes: int | None = None,
    ) -> None:
        """``lanes``: those of the settings, or what the memory plan makes of "auto"."""
        self.model = model
        self.domain = domain
        self.settings = settings
        self.seed = seed
        self.passes = Passes()
        self.lanes = lanes or (1 if settings.lanes == "auto" else settings.lanes)
        self._starts = {word: self._vector_of(word) for word in domain.initial_words}
        self._draws = Draws(settings, seed, len(model.alphas_cumprod), len(domain.templates))
        self._prompts: dict[int, Prompts] = {}

    def _vector_of(self, word: str) -> Tensor:
        """Where every pseudo-token starts: float32 (width,)."""
        return self.model.text.word_vector(word, self.settings.initial_tokens)

    def encode(self, picture: np.ndarray) -> Moments:
        """Of a fitted image, uint8 (side, side, 3): what :meth:`open` takes, mirrored too where samples flip.

        Raises:
            NotFinite: its numbers are none.
        """
        moments = self.model.encode(picture)
        if self.settings.flips == "never":
            return moments
        return replace(moments, mirrored=self.model.encode(np.ascontiguousarray(picture[:, ::-1])))

    def open(self, image_id: str, moments: Moments, tokens: int, word: str | None = None) -> Lane:
        """A lane at step 0: every pseudo-token at the image's initial word; None: at its domain's only one.

        Raises:
            WordMissing: there is none, and the domain has several.
            SettingsError: the model cannot start from the word.
        """
        word = self.domain.initial_word if word is None else word
        start = self._starts[word] if word in self._starts else self._vector_of(word)
        vectors = start.repeat(tokens, 1).requires_grad_(True)
        how = self.settings
        optimiser = torch.optim.AdamW([vectors], lr=how.step_size, weight_decay=how.weight_decay, fused=True)
        scale = self.settings.loss_scale if self.model.dtype == torch.float16 else 1.0
        of_loss = LossScale(scale, device=self.model.device)
        return Lane(image_id, moments, tokens, vectors, optimiser, of_loss, self._cause)

    def advance(self, lanes: Sequence[Lane]) -> None:
        """One optimiser step of every lane, in one UNet pass of ``self.lanes`` lanes.

        A short list is filled up with repeats of its first lane, whose copies are thrown away: the
        pass always has the same shape, so that neighbours change no number. A step whose loss or gradient is
        not finite is skipped, with half the loss scale from then on; where the scale is used up, the lane
        fails. The host does not wait for the step: its losses and failures are known after the next one.

        Raises:
            torch.OutOfMemoryError: memory does not even hold one sample of one lane; no lane has moved.
        """
        if not 0 < len(lanes) <= self.lanes:
            raise ValueError(f"{len(lanes)} lanes in a pass of {self.lanes}")
        found = self.passes.run(
            self.lanes * self.settings.batch_size, lambda most: self._gradients(lanes, most)
        )
        for lane in lanes:
            lane.optimiser.param_groups[0]["lr"] = learning_rate(
                self.settings, lane.step, lane.end(self.settings)
            )
        reading = HostCopy(torch.stack([lane.update(*own) for lane, own in zip(lanes, found, strict=True)]))
        for row, lane in enumerate(lanes):
            lane.told(reading, row)
        for lane in lanes:
            if lane.step < lane.end(self.settings):
                self._drawn(lane)
        for lane in lanes:
            lane.settle(behind=1)

    def _gradients(self, lanes: Sequence[Lane], most: int) -> list[tuple[Tensor, Tensor]]:
        """Each lane's loss, and its gradient times the lane's scale, in passes of at most ``most`` samples.

        A pass holds whole lanes, every pass as many, or a part of one lane, every lane cut alike: however
        small the passes are, neighbours change no number. What passes say of the prompts is added up before
        it goes back through the text encoder, which reads each prompt once.
        """
        samples = self.settings.batch_size
        together, size = max(1, most // samples), min(most, samples)
        found: list[tuple[Tensor, Tensor]] = []
        for group in (lanes[k : k + together] for k in range(0, len(lanes), together)):
            filled = [*group, *[group[0]] * (together - len(group))]
            scales = torch.stack([lane.scale.factor for lane in group])
            words, spoken = self._told(filled)
            read = words.detached()
            losses, of_words = [], []
            for start in range(0, samples, size):
                part = slice(start, start + size)
                share = self._losses(filled, part, (read, spoken))[: len(group)]
                of_words.append(torch.autograd.grad((share * scales).sum(), read.tensors))
                losses.append(share.detach())
            whole = [reduce(torch.add, parts) for parts in zip(*of_words, strict=True)]
            gradients = torch.autograd.grad(words.tensors, [lane.vectors for lane in group], whole)
            found += zip(reduce(torch.add, losses).unbind(), gradients, strict=True)
        return found

    def _losses(
        self,
        lanes: Sequence[Lane],
        part: slice = slice(None),
        told: tuple[PromptEmbeddings, Sequence[Tensor]] | None = None,
    ) -> Tensor:
        """Mean squared error of the UNet's prediction, float32 (lanes,).

        Of a ``part`` of each lane's samples it is that part's share in the mean: the shares of all parts add
        up to it.

        Args:
            told: see :meth:`_told`.
        """
        error = torch.sub(*self._said_and_wanted(lanes, part, told or self._told(lanes)))
        size, samples = len(error) // len(lanes), self.settings.batch_size
        return error.square().flatten(1).mean(1).view(len(lanes), size).mean(1) * (size / samples)

    def _said_and_wanted(
        self, lanes: Sequence[Lane], part: slice, told: tuple[PromptEmbeddings, Sequence[Tensor]]
    ) -> tuple[Tensor, Tensor]:
        """The UNet's prediction and its target, each float32 (lanes x samples of the part, c, h, w)."""
        model, drawn = self.model, [self._drawn(lane) for lane in lanes]
        parts = [(of.latents[part], of.noise[part], of.times[part]) for of in drawn]
        clean, eps, t = (torch.cat(kind) for kind in zip(*parts, strict=True))
        words, spoken = told
        own = words.select(torch.cat([of[part] for of in spoken]))
        return model.predict(model.add_noise(clean, eps, t), t, own), model.target(clean, eps, t)

    def _cause(self, lane: Lane) -> str:
        """What first is not finite on the way to a lane's loss; computed again, as it is seldom asked."""
        samples = self.settings.batch_size
        size = min(samples, self.passes.max_samples or samples)
        with torch.no_grad():
            told = self._told([lane])
            if not told[0].states.isfinite().all():
                return "the text encoder's output"
            parts = (slice(start, start + size) for start in range(0, samples, size))
            said = torch.cat([self._said_and_wanted([lane], part, told)[0] for part in parts])
        return "the loss" if said.isfinite().all() else "the UNet's prediction"

    def _told(self, lanes: Sequence[Lane]) -> tuple[PromptEmbeddings, list[Tensor]]:
        """What the lanes' prompts say, and of each lane which of them its samples are told, int64 (n,)."""
        drawn, spoken, known = [self._drawn(lane) for lane in lanes], [], 0
        for of in drawn:
            spoken.append(of.spoken + known)
            known += len(of.templates)
        # Lanes that speak as many templates each are encoded together; otherwise a call's shape, and with it
        # the last bits, would depend on the neighbours.
        together = len(lanes) if self.settings.templates else 1
        calls = (slice(k, k + together) for k in range(0, len(lanes), together))
        return PromptEmbeddings.concatenate([self._words(lanes[call], drawn[call]) for call in calls]), spoken

    def _words(self, lanes: Sequence[Lane], drawn: Sequence[Draw]) -> PromptEmbeddings:
        """What the lanes' prompts say, each encoded once."""
        widest = max(lane.tokens for lane in lanes)
        prompts, vectors = [], []
        for lane, of in zip(lanes, drawn, strict=True):
            prompts.append(self._prompts_of(lane.tokens).select(of.templates))
            padded = torch.nn.functional.pad(lane.vectors, (0, 0, 0, widest - lane.tokens))
            vectors.append(padded.expand(len(of.templates), -1, -1))
        return self.model.text.encode(Prompts.concatenate(prompts), torch.cat(vectors))

    def _drawn(self, lane: Lane) -> Draw:
        """The draw of a lane's next step, on the device."""
        if lane.ahead is None or lane.ahead[0] != lane.step:
            lane.ahead = lane.step, self.draw(lane).to_device(self.model.device)
        return lane.ahead[1]

    def draw(self, lane: Lane) -> Draw:
        """The random part of a lane's next step, on the CPU."""
        return self._draws.of(lane.image_id, lane.moments, lane.tokens, lane.step)

    def _prompts_of(self, tokens: int) -> Prompts:
        """Of the domain's templates, on the device."""
        if tokens not in self._prompts:
            told = self.model.text.tokenise(self.domain.templates, tokens)
            self._prompts[tokens] = told.to_device(self.model.device)
        return self._prompts[tokens]


def learning_rate(settings: InversionSettings, step: int, end: int) -> float:
    """Of a step, from 0 on: it falls linearly over the last ``cooldown`` before ``end``, at which it would
    be 0."""
    return settings.step_size * min(1.0, (end - step) / (settings.cooldown + 1))


def invert(
    inverter: Inverter,
    images: Sequence[tuple[str, Moments, int]],
    on_step: Callable[[Sequence[Lane]], None] | None = None,
) -> list[Lane]:
    """Invert a batch of images, each with its own number of tokens.

    Args:
        images: (image_id, moments, tokens) of each image.
        on_step: called after every step with the lanes that took it.

    Returns:
        The lanes, finished, in the images' order.
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
