"""The sweep: m = 1, 2, ... until the image is redrawn and in distribution (paper Sections 3.1 and 4).

:class:`Sweep` is the scorer that the engine drives. It holds several images, each at its own number of
tokens. Images in training share passes of the UNet, one lane each; images being redrawn share others, in
rounds. Once a number of tokens is judged, the image leaves with its verdict or continues with one token more.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from contextlib import suppress

import numpy as np
import safetensors.torch
import torch
from PIL import Image

from originality.contract import checksum
from originality.contract.config import SettingsError
from originality.contract.scorer import Finished, Item
from originality.cost.memory_plan import plan
from originality.evaluation.confidence import PassRule
from originality.evaluation.distance import load_distance
from originality.evaluation.in_distribution import InDistribution, load_check
from originality.evaluation.judge import Evaluation, Judge
from originality.evaluation.redraw_sheet import TILE, sheet, tiles, webp
from originality.evaluation.reference import References
from originality.evaluation.slot_count import SlotCount
from originality.evaluation.verdict import Attempt, judge
from originality.inversion.initial_words import InitialWords, WordUnusable
from originality.inversion.inverter import Inverter
from originality.inversion.lane import Lane
from originality.model.diffusion import LatentDiffusion, Moments, NotFinite
from originality.model.model_folder import open_model
from originality.model.prompt_embeddings import quote_word
from originality.settings.audit import AuditSettings
from originality.settings.local_weights import Copies
from originality.sweep.image_state import (
    ImageState,
    SnapshotFields,
    expected_tensors,
    lane_state,
    pack,
    unpack,
    word_name,
)

_log = logging.getLogger(__name__)

_BACKWARD = 2.1
"""Cost of a sample forward and backward through the UNet, in forward passes."""


class Sweep:
    """Judges images on one loaded model. Implements originality.contract.scorer.Scorer."""

    def __init__(self, settings: AuditSettings, copies: Copies = Copies()) -> None:
        self.settings = settings
        folder = open_model(settings.model, copies.model)
        self.model = LatentDiffusion(settings.model, folder)
        self.domain = settings.selected_domain
        self.distance = load_distance(settings.distance, self.model.device, copies.distance)
        self.words = InitialWords(settings, folder, copies, self.model.device)
        self._copies = copies
        self.checks: dict[str, InDistribution | None] = {}
        """In-distribution checks by edit subject, loaded when needed; None if the settings ask for none."""
        self.check(self.domain.subject_for(self.domain.initial_words[0]))
        blank = np.full((1, self.model.side, self.model.side, 3), 255, np.uint8)
        self.distance.embed(blank)  # fails here if the metric cannot read images of the model's size
        self.plan = plan(self.model, settings.inversion, settings.redraw)
        self.inverter = Inverter(self.model, self.domain, settings.inversion, settings.seed, self.plan.lanes)
        self.slots = SlotCount()
        self.judge = Judge(settings, self.model, self.distance, self.check, self.slots)
        self.references = References(self.model, self.judge)
        # More images than lanes: while some wait for a pass of redraws to fill up, others are trained.
        self.capacity = self.inverter.lanes + self.judge.waiting
        self._apply_plan()
        self.images: dict[str, ImageState] = {}
        """Images in flight, by image_id, in the order of their admission."""

    def _apply_plan(self) -> None:
        """Set the sizes of passes, and try each once on a GPU.

        A pass for which the plan counted too little memory is then halved now, not while images are judged.
        """
        model, inverter, planned = self.model, self.inverter, self.plan
        if planned.checkpointing:
            model.unet.enable_gradient_checkpointing()
        inverter.passes.max_samples = planned.step
        model.denoising.max_samples, model.decoding.max_samples = planned.denoising, planned.decoding
        if model.device.type == "cuda":
            zeros = torch.zeros(model.latent_shape)
            blank = Moments(zeros, zeros, mirrored=Moments(zeros, zeros))
            lane = inverter.open("", blank, self.settings.max_tokens, self.domain.initial_words[0])
            redraw = self.settings.redraw.model_copy(update={"steps": 2})
            noise = torch.zeros((redraw.pass_size, *model.latent_shape))
            with suppress(NotFinite):  # a failure of an image, and this is no image
                model.encode(np.zeros((model.side, model.side, 3), np.uint8))
                inverter.advance([lane])
                model.redraw(redraw.prompt, lane.vectors.detach(), noise, redraw)
        _log.info("%s; attention by %s", planned, model.attention)

    @property
    def progress(self) -> str:
        """Progress of each image, or the memory plan if there is none; and whether memory ran out."""
        steps, redraws = self.settings.inversion.steps, self.settings.redraw.count
        images = list(self.images.values())  # a copy: another thread reads this during a step
        text = ", ".join(f"{i.image_id[:6]} m={i.tokens} {i.progress(steps, redraws)}" for i in images)
        if (drawing := self.model.progress) is not None:
            text += f" ({drawing})"
        text = text or f"{self.plan}; attention by {self.model.attention}"
        parts = {
            "encoding": self.model.encoding,
            "inversion": self.inverter.passes,
            "denoising": self.model.denoising,
            "decoding": self.model.decoding,
            "measuring": self.judge.measuring,
        }
        halved = ", ".join(f"{name} {part.max_samples}" for name, part in parts.items() if part.halved)
        return f"{text}; after running out of memory, samples a pass: {halved}" if halved else text

    def check(self, subject: str) -> InDistribution | None:
        """The in-distribution check for an edit subject, loaded once; None if the settings ask for none."""
        if subject not in self.checks:
            self.checks[subject] = load_check(
                self.settings.in_distribution, subject, self.model.device, self._copies.detector
            )
        return self.checks[subject]

    def admit(self, item: Item[Image.Image]) -> None:
        """Start the sweep of an image.

        Raises:
            WordMissing, WordUnusable: the image has no initial word that the model can start from.
        """
        image = self._image_state(item)
        self._open(image, 1)
        self.images[item.item_id] = image

    def _image_state(self, item: Item[Image.Image]) -> ImageState:
        picture = self.model.fit(item.content)
        own = item.columns.get("word")
        word = self.words.of(own, picture)
        self._check_edit_subject(word, own=own is not None)
        moments, query = self.inverter.encode(picture), self.judge.embed(picture[None])[0]
        return ImageState(item.item_id, word, picture, moments, query)

    def _check_edit_subject(self, word: str, own: bool) -> None:
        """Fail before inversion if the image's own word maps to a subject that the detector does not know."""
        try:
            self.check(self.domain.subject_for(word))
        except SettingsError as error:
            if not own:
                raise
            raise WordUnusable(f"{error} (word {quote_word(word)} in the list's column 'word')") from error

    def drop(self, item_id: str) -> None:
        """Remove an image without a verdict; the other images' numbers do not change."""
        self.images.pop(item_id, None)

    def step(self) -> list[Finished]:
        """Work for a short while: one optimiser step of every lane, or one pass of redraws."""
        images = list(self.images.values())
        training = self._training(images)
        judged = [image for image in images if image.evaluation is not None]
        # Lanes come first, since a redraw pass that is not full wastes slots; images wait for it to fill up
        # unless a lane would otherwise be empty.
        if judged and (len(training) < self.inverter.lanes or self.judge.fills_a_pass(_evaluations(judged))):
            started = time.monotonic()
            advanced = self.judge.advance(_evaluations(judged))
            took_part = [i for i in judged if any(i.evaluation is e for e in advanced)]
            _share_time(started, [(image, image.tokens) for image in took_part])
        elif training:
            started = time.monotonic()
            self.inverter.advance([lane for _, lane in training])
            # A lane trained ahead is counted to the image's current number of tokens, for which it is done.
            _share_time(started, [(image, image.tokens) for image, _ in training])
            self.slots.training += self.inverter.lanes
        return [done for image in images if (done := self._advance(image)) is not None]

    def _training(self, images: Sequence[ImageState]) -> list[tuple[ImageState, Lane]]:
        """The lanes of the next training pass, those of the images admitted first before the others.

        Slots that are left are used for larger numbers of tokens, which may turn out to be needed: if the
        settings say so, and no image is being judged, whose verdict could make them useless.
        """
        room = self.inverter.lanes
        lanes = [(i, i.lane) for i in images if i.evaluation is None and not self._learned(i.lane)][:room]
        if self.settings.inversion.ahead and not any(image.evaluation for image in images):
            for tokens in range(2, self.settings.max_tokens + 1):
                for image in images:
                    if len(lanes) < room and tokens > image.tokens:
                        lane = image.lanes.get(tokens) or self._open(image, tokens)
                        lanes += [] if self._learned(lane) else [(image, lane)]
        return lanes

    def _open(self, image: ImageState, tokens: int) -> Lane:
        lane = self.inverter.open(image.image_id, image.moments, tokens, image.word)
        image.lanes[tokens] = lane
        return lane

    def _learned(self, lane: Lane) -> bool:
        return lane.finished(self.settings.inversion)

    def _advance(self, image: ImageState) -> Finished | None:
        """Advance an image whose training or evaluation is complete; its record after the last attempt."""
        while True:
            if image.evaluation is None:
                if not self._learned(lane := image.lane):
                    return None
                vectors = lane.vectors.detach()
                image.evaluation = Evaluation(image.image_id, image.word, image.query, vectors, lane.failure)
                image.evaluation.before = self.judge.decisions.fail_again(image.image_id, image.attempts)
            if self.judge.next_round(image.evaluation) is not None:
                return None
            attempt = self._attempt(image, image.evaluation)
            image.attempts.append(attempt)
            image.evaluation = None
            if attempt.passed or attempt.tokens >= self.settings.max_tokens:
                return self._finish(self.images.pop(image.image_id))
            # The next number of tokens may have been trained ahead, and be learned already: hence the loop.
            if image.tokens not in image.lanes:
                self._open(image, image.tokens)

    def _attempt(self, image: ImageState, found: Evaluation) -> Attempt:
        """The result of the current number of tokens; its word and its redraws' tiles are kept."""
        lane = image.lane
        shown = np.stack(found.redraws) if found.redraws else np.full_like(image.picture[None], 128)
        image.redraws.append(tiles(shown))
        image.words[word_name(lane.tokens)] = found.vectors.cpu().clone()
        return Attempt(
            tokens=lane.tokens,
            **found.measured(),
            inversion_steps=lane.step,
            skipped_steps=lane.scale.skipped,
            unet_samples=lane.step * self.settings.inversion.batch_size + found.unet_samples,
            seconds=image.seconds[lane.tokens],
        )

    def draw(self, image_id: str, vectors: torch.Tensor, prompt: str) -> np.ndarray:
        """Render all redraws of a pseudo-word: uint8 (count, side, side, 3)."""
        redraw = self.settings.redraw
        noise = self.judge.noise(image_id, len(vectors), prompt, range(redraw.count))
        return self.model.redraw(prompt, vectors, noise, redraw)

    def _finish(self, image: ImageState) -> Finished:
        edits = self.settings.in_distribution.check == "editability"
        verdict = judge(
            image.image_id,
            image.attempts,
            max_tokens=self.settings.max_tokens,
            model=self.model.name,
            settings_digest=self.settings.digest(),
            initial_word=image.word,
            edit_subject=self.domain.subject_for(image.word) if edits else None,
            rule=PassRule.of(self.settings),
        )
        row = verdict.row() | {"reference_distance": self.references.distance(image.query, image.word)}
        words: dict[str, torch.Tensor] = {}
        for name, vectors in image.words.items():
            words |= self.model.text.split_by_encoder(name, vectors)
        files = {
            "tokens.safetensors": checksum.stamp(
                safetensors.torch.save(words, {checksum.KEY: checksum.PLACEHOLDER})
            ),
            "query.webp": webp(Image.fromarray(image.picture)),
            "redraws.webp": webp(sheet(image.redraws)),
        }
        cost = {"unet_samples": float(sum(a.unet_samples for a in image.attempts))}
        if ahead := sum(lane.step for lane in image.lanes.values() if lane.tokens >= image.tokens):
            cost["unet_samples_ahead"] = float(ahead * self.settings.inversion.batch_size)
        if drawn := self.references.spent():
            cost["unet_samples_reference"] = float(drawn)
        return Finished(image.image_id, row, files, cost, parts=len(image.attempts))

    def parts(self, item_id: str) -> float:
        """Numbers of tokens done, and the fraction done of the current one.

        Inversion and redraws count by their cost. Edit images do not count, because few words need them.
        """
        image = self.images[item_id]
        inversion, redraw = self.settings.inversion, self.settings.redraw
        training = inversion.steps * inversion.batch_size * _BACKWARD
        redrawing = redraw.count * self.model.unet_samples_per_redraw(redraw)
        lane = image.lanes.get(image.tokens)
        trained, redrawn = (lane.step / inversion.steps if lane else 0.0), 0.0
        if image.evaluation is not None:
            trained, redrawn = 1.0, min(1.0, len(image.evaluation.redraws) / redraw.count)
        share = (training * trained + redrawing * redrawn) / (training + redrawing)
        return len(image.attempts) + min(share, 0.99)

    def stage(self, item_id: str) -> int:
        """Number of words learned plus number of words judged."""
        image = self.images[item_id]
        return 2 * len(image.attempts) + (image.evaluation is not None)

    def snapshot(self, item_id: str) -> bytes:
        """State of an image between two steps."""
        return pack(self.images[item_id], self.settings.digest(), self.model.digest)

    def restore(self, item: Item[Image.Image], snapshot: bytes) -> None:
        """Admit an image in the state of a snapshot; on a CPU its verdict is then the same to the last bit.

        Raises:
            ValueError: the snapshot is damaged, or of different settings, model, image or initial word.
        """
        fields, tensors = unpack(snapshot)
        self._check(item, fields, tensors)
        image = self._image_state(item)
        if fields.word != image.word:
            raise ValueError("the snapshot is of a different initial word")
        tokens = len(fields.attempts) + 1
        lane = self.inverter.open(item.item_id, image.moments, tokens, image.word)
        lane.load_state_dict(lane_state(fields, tensors))
        image.lanes[tokens], image.seconds[tokens] = lane, fields.seconds
        image.attempts = list(fields.attempts)
        names = [word_name(a.tokens) for a in fields.attempts]
        image.words = {name: tensors[f"word {name}"] for name in names}
        image.redraws = [tensors[f"redraws {k}"].numpy() for k in range(len(names))]
        self.images[item.item_id] = image

    def _check(
        self, item: Item[Image.Image], fields: SnapshotFields, tensors: dict[str, torch.Tensor]
    ) -> None:
        if (fields.settings, fields.model) != (self.settings.digest(), self.model.digest):
            raise ValueError("the snapshot is of different settings or a different model")
        if fields.image_id != item.item_id:
            raise ValueError("the snapshot is of a different image")
        width = sum(self.model.text.widths)
        found = {name: (value.dtype, tuple(value.shape)) for name, value in tensors.items()}
        unfinished = fields.is_unfinished(self.settings.max_tokens, self.settings.inversion.steps)
        if not unfinished or found != expected_tensors(fields, width, min(TILE, self.model.side)):
            raise ValueError("the snapshot does not hold the state of an unfinished sweep")


def _evaluations(images: Sequence[ImageState]) -> list[Evaluation]:
    return [image.evaluation for image in images if image.evaluation is not None]


def _share_time(started: float, work: Sequence[tuple[ImageState, int]]) -> None:
    """Divide the time since ``started`` equally among these images' numbers of tokens."""
    seconds = (time.monotonic() - started) / len(work)
    for image, tokens in work:
        image.seconds[tokens] += seconds


def build_scorer(settings: AuditSettings, copies: Copies = Copies()) -> Sweep:
    """A sweep with its model loaded; called once by each worker."""
    return Sweep(settings, copies)
