"""A learned word under judgement: drawn until it is certain whether it passes (paper Sections 3.1 and 4).

The images of several words are drawn in one pass. The noise of each depends on (seed, image, m, prompt, and
the redraw's number) alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from originality.evaluation.distance import Distance
from originality.evaluation.early_stopping import certain, share_certain
from originality.evaluation.in_distribution import InDistribution
from originality.evaluation.in_distribution.scene import SubjectInScene
from originality.evaluation.slot_count import SlotCount
from originality.model.diffusion import GeneratedImages, LatentDiffusion
from originality.model.out_of_memory import Passes, padded_indices
from originality.model.prompt_embeddings import PromptEmbeddings
from originality.model.randomness import keyed_generator
from originality.settings.audit import AuditSettings
from originality.settings.domains import edit_prompt


@dataclass
class Evaluation:
    """What was found so far of a word of one image."""

    image_id: str
    initial_word: str
    query: object
    """The image in the metric's own terms."""
    vectors: Tensor
    """float32 (m, width), learned."""
    failure: str | None = None
    """Why nothing can be found of it."""
    distances: list[float] = field(default_factory=list)
    redraws: list[np.ndarray] = field(default_factory=list)
    """Each uint8 (side, side, 3)."""
    edits: int = 0
    """Images drawn for the edit prompt."""
    hits: list[bool] = field(default_factory=list)
    """Which of those show the edit subject."""
    near: bool | None = None
    """Whether the mean distance of all redraws is under the threshold; None: not yet known."""
    editability: float | None = None
    editable: bool | None = None
    checked: bool = False
    """Whether all is found that the check is asked for."""
    unet_samples: int = 0
    words: dict[str, PromptEmbeddings] = field(default_factory=dict)
    """What the UNet is told, by prompt: each text is encoded once."""

    @property
    def passed(self) -> bool:
        """Redrawn, and not found out of distribution."""
        return self.failure is None and self.near is True and self.editable is not False

    @property
    def distance_mean(self) -> float | None:
        return float(np.mean(self.distances)) if self.distances and not self.failure else None

    @property
    def distance_sem(self) -> float | None:
        if self.distance_mean is None or len(self.distances) < 2:
            return None
        return float(np.std(self.distances, ddof=1) / math.sqrt(len(self.distances)))


@dataclass(frozen=True)
class Round:
    """The images that an evaluation needs next."""

    prompt: str
    numbers: range


class Judge:
    """Takes evaluations from round to round, several in one pass."""

    def __init__(
        self,
        settings: AuditSettings,
        model: LatentDiffusion,
        distance: Distance,
        check: Callable[[str], InDistribution | None],
        slots: SlotCount,
    ) -> None:
        """``check``: of an edit subject."""
        self.settings, self.model, self.distance, self._check = settings, model, distance, check
        self._domain, self._slots = settings.spoken, slots
        self._passes = model.unet_samples_per_redraw(settings.redraw)
        self.measuring = Passes()
        self.waiting = settings.redraw.pass_size // settings.redraw.round_size - 1
        """Most evaluations that wait for a pass to be full."""

    def fills_a_pass(self, evaluations: Sequence[Evaluation]) -> bool:
        """Whether their next rounds are enough for one."""
        asked = (self.next(evaluation) for evaluation in evaluations)
        return sum(len(a.numbers) for a in asked if a) >= self.settings.redraw.pass_size

    def advance(self, evaluations: Sequence[Evaluation]) -> list[Evaluation]:
        """Draw the next rounds of as many evaluations as a pass holds, the first ones first; these.

        Places that are left go to rounds after the next: they are used as far as they turn out to be needed.
        """
        chosen = self._chosen(evaluations)
        drawn, start = self._drawn(chosen), 0
        images, failures = drawn.images, drawn.failures
        # Of the whole pass at once: a metric's own batches are then as full as its shape is always the same.
        measured = any(evaluation.near is None for evaluation, _ in chosen)
        embedded = self.embed(images) if measured else []
        for evaluation, asked in chosen:
            places, redrawn = range(start, start := start + len(asked.numbers)), evaluation.near is None
            while places and (evaluation.near is None) is redrawn and (again := self.next(evaluation)):
                mine, places = slice(places[0], places[0] + len(again.numbers)), places[len(again.numbers) :]
                evaluation.unet_samples += len(again.numbers) * self._passes
                evaluation.failure = next((f for f in failures[mine] if f), None)
                if evaluation.failure is None:
                    self._take(evaluation, images[mine], embedded[mine])
        self._slots.drawing += self.settings.redraw.pass_size
        return [evaluation for evaluation, _ in chosen]

    def _chosen(self, evaluations: Sequence[Evaluation]) -> list[tuple[Evaluation, Round]]:
        """What a pass draws."""
        redraw = self.settings.redraw
        chosen: list[tuple[Evaluation, Round]] = []
        room = redraw.pass_size
        for evaluation in evaluations:
            asked = self.next(evaluation)
            if asked is not None and len(asked.numbers) <= room:
                chosen.append((evaluation, asked))
                room -= len(asked.numbers)
        longer = True
        while longer:
            longer = False
            for k, (evaluation, asked) in enumerate(chosen):
                more = self._round(asked.prompt, asked.numbers.stop).numbers
                if 0 < len(more) <= room:
                    chosen[k] = (evaluation, Round(asked.prompt, range(asked.numbers.start, more.stop)))
                    room -= len(more)
                    longer = True
        return chosen

    def _drawn(self, chosen: Sequence[tuple[Evaluation, Round]]) -> GeneratedImages:
        """One pass, whatever its length filled up with repeats: neighbours then change no number."""
        redraw, words, noise = self.settings.redraw, [], []
        for evaluation, asked in chosen:
            words.append(self._told(evaluation, asked.prompt).repeat_prompt(len(asked.numbers)))
            tokens = len(evaluation.vectors)
            noise.append(self.noise(evaluation.image_id, tokens, asked.prompt, asked.numbers))
        told, initial = PromptEmbeddings.concatenate(words), torch.cat(noise)
        shape = len(initial), redraw.pass_size
        return self.model.generate(
            told.select(padded_indices(*shape, told.states.device)), initial[padded_indices(*shape)], redraw
        )

    def _told(self, evaluation: Evaluation, prompt: str) -> PromptEmbeddings:
        if prompt not in evaluation.words:
            with torch.no_grad():
                evaluation.words[prompt] = self.model.encode_prompts([prompt], evaluation.vectors[None])
        return evaluation.words[prompt]

    def next(self, evaluation: Evaluation) -> Round | None:
        """None: all is found."""
        if evaluation.failure is not None:
            return None
        if evaluation.near is None:
            return self._round(self.settings.redraw.prompt, len(evaluation.distances))
        if not evaluation.checked:
            subject = self._domain.subject_for(evaluation.initial_word)
            return self._round(edit_prompt(subject), evaluation.edits)
        return None

    def _round(self, prompt: str, drawn: int) -> Round:
        redraw = self.settings.redraw
        return Round(prompt, range(drawn, min(drawn + redraw.round_size, redraw.count)))

    def noise(self, image_id: str, tokens: int, prompt: str, numbers: range) -> Tensor:
        """Of these redraws, float32 (n, c, h, w), standard normal: each from its own key."""
        key = (self.settings.seed, image_id, tokens, prompt)
        shape = self.model.latent_shape
        return torch.stack([torch.randn(shape, generator=keyed_generator(*key, k)) for k in numbers])

    def _take(self, evaluation: Evaluation, images: np.ndarray, embedded: Sequence[Any]) -> None:
        """The images, uint8 (n, side, side, 3), that were asked for, and redraws in the metric's terms."""
        if evaluation.near is None:
            self._measure(evaluation, images, embedded)
        else:
            self._look_for_the_subject(evaluation, images)

    def _measure(self, evaluation: Evaluation, images: np.ndarray, embedded: Sequence[Any]) -> None:
        evaluation.redraws.extend(images)
        distances = self.distance.between(evaluation.query, embedded)
        if not np.isfinite(distances).all():
            evaluation.failure = "the distance of the redraws is not finite"
            return
        evaluation.distances.extend(float(d) for d in distances)
        redraw, threshold = self.settings.redraw, self.settings.distance.threshold
        evaluation.near = certain(
            evaluation.distances, redraw.count, threshold, self.distance.largest, redraw.confidence
        )
        if evaluation.near is None:
            return
        check, asked = None, self.settings.in_distribution.ask
        if evaluation.near or asked == "always":
            check = self._check(self._domain.subject_for(evaluation.initial_word))
        evaluation.checked = check is None or not check.wants_edits
        if check is not None and not check.wants_edits:
            self._score(evaluation, check.score(np.stack(evaluation.redraws), None))

    def _look_for_the_subject(self, evaluation: Evaluation, images: np.ndarray) -> None:
        check = self._check(self._domain.subject_for(evaluation.initial_word))
        assert isinstance(check, SubjectInScene)  # the only one that wants edits
        evaluation.edits += len(images)
        evaluation.hits.extend(check.hits(images))
        count, least = self.settings.redraw.count, self.settings.in_distribution.threshold
        known = share_certain(evaluation.hits, count, least, self.settings.redraw.confidence)
        if known is not None:
            evaluation.checked = True
            self._score(evaluation, float(np.mean(evaluation.hits)))
            evaluation.editable = known

    def _score(self, evaluation: Evaluation, score: float | None) -> None:
        evaluation.editability = score
        if score is not None:
            evaluation.editable = score >= self.settings.in_distribution.threshold

    def embed(self, images: np.ndarray) -> list[Any]:
        """Images (n, side, side, 3) in the metric's own terms, in as few passes as memory has room for."""

        def embed(most: int) -> list[Any]:
            parts = (images[k : k + most] for k in range(0, len(images), most))
            return [embedded for part in parts for embedded in self.distance.embed(part)]

        return self.measuring.run(len(images), embed)
