"""Judges learned words by redraws and edit images, until it is certain whether a word passes.

Paper Sections 3.1 and 4.

Images of several words are rendered in one pass. The noise of each is keyed by (seed, image, m, prompt,
number of the redraw), so a word's results depend neither on the words beside it nor on the order of passes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from originality.evaluation.decisions import Decisions, Word
from originality.evaluation.distance import Distance
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
    """Results so far of one learned word of one image."""

    image_id: str
    initial_word: str
    query: object
    """The image's embedding by the distance metric."""
    vectors: Tensor
    """float32 (m, width), learned."""
    failure: str | None = None
    """Why the word cannot be judged."""
    distances: list[float] = field(default_factory=list)
    redraws: list[np.ndarray] = field(default_factory=list)
    """Each uint8 (side, side, 3)."""
    edits: int = 0
    """Images rendered for the edit prompt."""
    hits: list[bool] = field(default_factory=list)
    """For each of those, whether it shows the edit subject."""
    near: bool | None = None
    """Whether the mean distance of all redraws is under the threshold; None while that is not yet known."""
    editability: float | None = None
    """Score of the in-distribution check."""
    editable: bool | None = None
    """Whether that score passed."""
    checked: bool = False
    """Whether the in-distribution check is complete, or not needed."""
    unet_samples: int = 0
    before: float = 1.0
    """Probability that all attempts before this one fail again with fresh redraws."""
    prompt_embeddings: dict[str, PromptEmbeddings] = field(default_factory=dict)
    """Prompt embeddings by prompt; each prompt is encoded once."""

    @property
    def word(self) -> Word:
        """The learned word, as decisions name it."""
        return Word(self.image_id, len(self.vectors), self.before)

    @property
    def passed(self) -> bool:
        """Redrawn, and not found to be out of distribution."""
        return self.failure is None and self.near is True and self.editable is not False

    @property
    def distance_mean(self) -> float | None:
        """Mean distance of the redraws; None if it could not be measured."""
        return float(np.mean(self.distances)) if self.distances and not self.failure else None

    @property
    def distance_sem(self) -> float | None:
        """Standard error of that mean; None for fewer than two redraws."""
        if self.distance_mean is None or len(self.distances) < 2:
            return None
        return float(np.std(self.distances, ddof=1) / math.sqrt(len(self.distances)))

    def measured(self) -> dict[str, Any]:
        """The results as fields of an :class:`originality.evaluation.verdict.Attempt`."""
        return {
            "distance_mean": self.distance_mean,
            "distance_sem": self.distance_sem,
            "redraws": len(self.redraws),
            "editability": self.editability,
            "editable": self.editable,
            "passed": self.passed,
            "failure": self.failure,
            "distances": tuple(self.distances),
            "edit_hits": tuple(map(bool, self.hits)) or None,
        }


@dataclass(frozen=True)
class Round:
    """Images of one prompt that an evaluation needs next, by their numbers."""

    prompt: str
    numbers: range


class Judge:
    """Advances evaluations round by round, several in one pass."""

    def __init__(
        self,
        settings: AuditSettings,
        model: LatentDiffusion,
        distance: Distance,
        check: Callable[[str], InDistribution | None],
        slots: SlotCount,
    ) -> None:
        self.settings, self.model, self.distance = settings, model, distance
        self.check = check
        """Returns the in-distribution check for an edit subject; None if the settings ask for none."""
        self._domain, self._slots = settings.selected_domain, slots
        self._unet_passes = model.unet_samples_per_redraw(settings.redraw)
        self.measuring = Passes()
        self.waiting = settings.redraw.pass_size // settings.redraw.round_size - 1
        """Most evaluations that wait for a pass to fill up."""

    @property
    def decisions(self) -> Decisions:
        """The decisions under these settings and this metric."""
        return Decisions(self.settings, self.distance.largest)

    def fills_a_pass(self, evaluations: Sequence[Evaluation]) -> bool:
        """Whether the next rounds of these evaluations fill a pass."""
        rounds = (self.next_round(evaluation) for evaluation in evaluations)
        return sum(len(r.numbers) for r in rounds if r) >= self.settings.redraw.pass_size

    def advance(self, evaluations: Sequence[Evaluation]) -> list[Evaluation]:
        """Render the next rounds of as many evaluations as a pass holds, in this order; returns those.

        Slots that are left go to later rounds of the same evaluations. Their images are used only if the
        rounds before them leave the outcome open, so the results are those of one round at a time.
        """
        chosen = self.choose_rounds(evaluations)
        rendered, start = self._render(chosen), 0
        images, failures = rendered.images, rendered.failures
        # All images of the pass are embedded at once. The metric's batches are then as full as they can be,
        # and always of the same shape, so that other words' images do not change a distance's last bits.
        measured = any(evaluation.near is None for evaluation, _ in chosen)
        embedded = self.embed(images) if measured else []
        for evaluation, due in chosen:
            slots, redrawing = range(start, start := start + len(due.numbers)), evaluation.near is None
            # The pass holds images of one prompt per evaluation. When the redraws decide that the word is
            # near, what remains of them is dropped: the edit images that follow need a pass of their own.
            while slots and (evaluation.near is None) is redrawing and (again := self.next_round(evaluation)):
                mine, slots = slice(slots[0], slots[0] + len(again.numbers)), slots[len(again.numbers) :]
                evaluation.unet_samples += len(again.numbers) * self._unet_passes
                evaluation.failure = next((f for f in failures[mine] if f), None)
                if evaluation.failure is None:
                    self._take(evaluation, images[mine], embedded[mine])
        self._slots.drawing += self.settings.redraw.pass_size
        return [evaluation for evaluation, _ in chosen]

    def choose_rounds(self, evaluations: Sequence[Evaluation]) -> list[tuple[Evaluation, Round]]:
        """Evaluations of the next pass, each with the images to render: its next round, and later ones."""
        redraw = self.settings.redraw
        chosen: list[tuple[Evaluation, Round]] = []
        room = redraw.pass_size
        for evaluation in evaluations:
            due = self.next_round(evaluation)
            if due is not None and len(due.numbers) <= room:
                chosen.append((evaluation, due))
                room -= len(due.numbers)
        extended = True
        while extended:  # each evaluation gets one round more in turn, as long as there is room
            extended = False
            for k, (evaluation, due) in enumerate(chosen):
                more = self._round(due.prompt, due.numbers.stop).numbers
                if 0 < len(more) <= room:
                    chosen[k] = (evaluation, Round(due.prompt, range(due.numbers.start, more.stop)))
                    room -= len(more)
                    extended = True
        return chosen

    def _render(self, chosen: Sequence[tuple[Evaluation, Round]]) -> GeneratedImages:
        """Images of one pass, in the order of the evaluations.

        The pass is filled up with repeats of its first samples, whose images are dropped. A pass of a
        different shape may run by different kernels, whose results differ in the last bits; with one shape
        for all, an image's redraws do not depend on what shares the pass.
        """
        redraw, words, noise = self.settings.redraw, [], []
        for evaluation, due in chosen:
            words.append(self._embeddings(evaluation, due.prompt).repeat_prompt(len(due.numbers)))
            tokens = len(evaluation.vectors)
            noise.append(self.noise(evaluation.image_id, tokens, due.prompt, due.numbers))
        conditioning, initial = PromptEmbeddings.concatenate(words), torch.cat(noise)
        shape = len(initial), redraw.pass_size
        return self.model.generate(
            conditioning.select(padded_indices(*shape, conditioning.states.device)),
            initial[padded_indices(*shape)],
            redraw,
        )

    def _embeddings(self, evaluation: Evaluation, prompt: str) -> PromptEmbeddings:
        if prompt not in evaluation.prompt_embeddings:
            with torch.no_grad():
                evaluation.prompt_embeddings[prompt] = self.model.encode_prompts(
                    [prompt], evaluation.vectors[None]
                )
        return evaluation.prompt_embeddings[prompt]

    def next_round(self, evaluation: Evaluation) -> Round | None:
        """The images that an evaluation needs next; None once it is complete.

        Redraws come first, and edit images only once the redraws have decided: with ``ask`` "redrawn", the
        edit prompt is rendered only for words that redraw the image, which is all that a verdict needs. The
        order never depends on what shares a pass, so early stopping sees the same values in the same order.
        """
        if evaluation.failure is not None:
            return None
        if evaluation.near is None:
            return self._round(self.settings.redraw.prompt, len(evaluation.distances))
        if not evaluation.checked:
            subject = self._domain.subject_for(evaluation.initial_word)
            return self._round(edit_prompt(subject), evaluation.edits)
        return None

    def _round(self, prompt: str, rendered: int) -> Round:
        """The round that follows when so many images of a prompt have been rendered."""
        return Round(prompt, self.settings.redraw.round_after(rendered))

    def noise(self, image_id: str, tokens: int, prompt: str, numbers: range) -> Tensor:
        """Initial noise of the redraws with these numbers: float32 (n, c, h, w), standard normal."""
        # Each redraw has its own key, so it is the same image in whatever round or pass it is rendered.
        key = (self.settings.seed, image_id, tokens, prompt)
        shape = self.model.latent_shape
        return torch.stack([torch.randn(shape, generator=keyed_generator(*key, k)) for k in numbers])

    def _take(self, evaluation: Evaluation, images: np.ndarray, embedded: Sequence[Any]) -> None:
        """Use one round: its images, uint8 (n, side, side, 3), and of redraws their embeddings."""
        if evaluation.near is None:
            self._measure(evaluation, images, embedded)
        else:
            self.look_for_subject(evaluation, images)

    def _measure(self, evaluation: Evaluation, images: np.ndarray, embedded: Sequence[Any]) -> None:
        evaluation.redraws.extend(images)
        distances = self.distance.between(evaluation.query, embedded)
        if not np.isfinite(distances).all():
            evaluation.failure = "the distance of the redraws is not finite"
            return
        evaluation.distances.extend(float(d) for d in distances)
        evaluation.near = self.decisions.near(evaluation.word, evaluation.distances)
        if evaluation.near is None:
            return
        check, ask = None, self.settings.in_distribution.ask
        if evaluation.near or ask == "always":
            check = self.check(self._domain.subject_for(evaluation.initial_word))
        evaluation.checked = check is None or not check.wants_edits
        if check is not None and not check.wants_edits:
            self._score(evaluation, check.score(np.stack(evaluation.redraws), None))

    def look_for_subject(self, evaluation: Evaluation, images: np.ndarray) -> None:
        """Look for the subject in edit images, uint8 (n, side, side, 3); score the word once certain."""
        check = self.check(self._domain.subject_for(evaluation.initial_word))
        assert isinstance(check, SubjectInScene)  # the only check that wants edit images
        evaluation.edits += len(images)
        evaluation.hits.extend(check.hits(images))
        editable = self.decisions.editable(evaluation.word, evaluation.hits, evaluation.near is True)
        if editable is not None:
            evaluation.checked = True
            self._score(evaluation, float(np.mean(evaluation.hits)))
            evaluation.editable = editable

    def _score(self, evaluation: Evaluation, score: float | None) -> None:
        evaluation.editability = score
        if score is not None:
            evaluation.editable = score >= self.settings.in_distribution.threshold

    def embed(self, images: np.ndarray) -> list[Any]:
        """Embeddings by the metric of uint8 (n, side, side, 3), in as few passes as fit into memory."""

        def embed(most: int) -> list[Any]:
            parts = (images[k : k + most] for k in range(0, len(images), most))
            return [embedded for part in parts for embedded in self.distance.embed(part)]

        return self.measuring.run(len(images), embed)
