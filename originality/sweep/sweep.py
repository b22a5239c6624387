"""The sweep: m = 1, 2, ... until the image is redrawn and in distribution (paper Section 3.1, 4).

:class:`Sweep` is the scorer that the engine drives. It holds several images in flight, each at its own number
of tokens: those that are trained share passes of the UNet, one a lane, and those that are redrawn share
others, in rounds. An image of which a number of tokens is judged leaves with its verdict, or goes on with one
more.
"""

from __future__ import annotations

import sys
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
from originality.evaluation.distance import load_distance
from originality.evaluation.in_distribution import InDistribution, load_check
from originality.evaluation.judge import Evaluation, Judge
from originality.evaluation.occupancy import Occupancy
from originality.evaluation.redraw_sheet import TILE, sheet, tiles, webp
from originality.evaluation.verdict import Attempt, judge
from originality.inversion.initial_words import InitialWords, WordUnusable
from originality.inversion.inverter import Inverter
from originality.inversion.lane import Lane
from originality.model.diffusion import LatentDiffusion, Moments, NotFinite
from originality.model.model_folder import open_model
from originality.model.prompt_embeddings import quote_word
from originality.settings.audit import AuditSettings
from originality.settings.local_weights import Copies
from originality.sweep.image_state import Flight, Saved, lane_state, layout, pack, unpack, word_name

_BACKWARD = 2.1
"""What a sample forward and back through the UNet costs, in forward passes."""


class Sweep:
    """Judges images on one loaded model. Implements originality.contract.scorer.Scorer."""

    def __init__(self, settings: AuditSettings, copies: Copies = Copies()) -> None:
        self.settings = settings
        folder = open_model(settings.model, copies.model)
        self.model = LatentDiffusion(settings.model, folder)
        self.domain = settings.spoken
        self.distance = load_distance(settings.distance, self.model.device, copies.distance)
        self.words = InitialWords(settings, folder, copies, self.model.device)
        self._copies = copies
        self._checks: dict[str, InDistribution | None] = {}
        self.check(self.domain.subject_for(self.domain.initial_words[0]))
        blank = np.full((1, self.model.side, self.model.side, 3), 255, np.uint8)
        self.distance.embed(blank)  # a metric that cannot read the model's images says so here
        self.plan = plan(self.model, settings.inversion, settings.redraw)
        self.inverter = Inverter(self.model, self.domain, settings.inversion, settings.seed, self.plan.lanes)
        self.occupancy = Occupancy()
        self.judge = Judge(settings, self.model, self.distance, self.check, self.occupancy)
        # While images wait for a pass of redraws to be full, others have their lanes.
        self.capacity = self.inverter.lanes + self.judge.waiting
        self._follow_the_plan()
        self._flights: dict[str, Flight] = {}

    def _follow_the_plan(self) -> None:
        """Set the passes' sizes; on a GPU, try each once, so that what was counted too low is halved now."""
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
            with suppress(NotFinite):  # an image's failure, and this is none
                model.encode(np.zeros((model.side, model.side, 3), np.uint8))
                inverter.advance([lane])
                model.redraw(redraw.prompt, lane.vectors.detach(), noise, redraw)
        sys.stderr.write(f"{planned}; attention by {model.attention}\n")

    @property
    def progress(self) -> str:
        """What is in hand, in a few words, or with nothing in hand the plan; and whether memory ran out."""
        steps, redraws = self.settings.inversion.steps, self.settings.redraw.count
        flights = list(self._flights.values())
        told = ", ".join(f"{f.image_id[:6]} m={f.tokens} {f.doing(steps, redraws)}" for f in flights)
        if (drawing := self.model.progress) is not None:
            told += f" ({drawing})"
        told = told or f"{self.plan}; attention by {self.model.attention}"
        parts = {
            "encoding": self.model.encoding,
            "inversion": self.inverter.passes,
            "denoising": self.model.denoising,
            "decoding": self.model.decoding,
            "measuring": self.judge.measuring,
        }
        halved = ", ".join(f"{name} {part.max_samples}" for name, part in parts.items() if part.halved)
        return f"{told}; after running out of memory, samples a pass: {halved}" if halved else told

    def check(self, subject: str) -> InDistribution | None:
        """The check that looks for an edit subject."""
        if subject not in self._checks:
            self._checks[subject] = load_check(
                self.settings.in_distribution, subject, self.model.device, self._copies.detector
            )
        return self._checks[subject]

    def admit(self, item: Item[Image.Image]) -> None:
        """Take an image in hand.

        Raises:
            WordMissing, WordUnusable: it has no initial word that the model can start from.
        """
        flight = self._flight(item)
        self._open(flight, 1)
        self._flights[item.item_id] = flight

    def _flight(self, item: Item[Image.Image]) -> Flight:
        picture = self.model.fit(item.content)
        own = item.columns.get("word")
        word = self.words.of(own, picture)
        self._can_ask(word, own=own is not None)
        moments = self.inverter.encode(picture)
        query = self.judge.embed(picture[None])[0]
        return Flight(item.item_id, word, picture, moments, query)

    def _can_ask(self, word: str, own: bool) -> None:
        """Finds now, not after the inversion, that a word of an image's own leads to a subject unknown."""
        try:
            self.check(self.domain.subject_for(word))
        except SettingsError as error:
            if not own:
                raise
            raise WordUnusable(f"{error} (word {quote_word(word)} in the list's column 'word')") from error

    def drop(self, item_id: str) -> None:
        """Forget an image in flight, without a verdict; its neighbours' numbers do not change."""
        self._flights.pop(item_id, None)

    def step(self) -> list[Finished]:
        """A short while's work: an optimiser step of every lane, or a pass of redraws."""
        flights = list(self._flights.values())
        training = self._training(flights)
        judged = [f for f in flights if f.evaluation is not None]
        if judged and (len(training) < self.inverter.lanes or self.judge.fills_a_pass(_evaluations(judged))):
            started = time.monotonic()
            drawn = self.judge.advance(_evaluations(judged))
            took = [f for f in judged if any(f.evaluation is e for e in drawn)]
            _share(started, [(f, f.tokens) for f in took])
        elif training:
            started = time.monotonic()
            self.inverter.advance([lane for _, lane in training])
            _share(started, [(f, f.tokens) for f, _ in training])  # what is ahead is for the one in hand
            self.occupancy.training += self.inverter.lanes
        return [done for flight in flights if (done := self._settled(flight)) is not None]

    def _training(self, flights: Sequence[Flight]) -> list[tuple[Flight, Lane]]:
        """The lanes of the next pass: those in hand, the first ones first; where that leaves room, no verdict
        is pending and the settings say so, numbers of tokens that may be needed."""
        room = self.inverter.lanes
        lanes = [(f, f.lane) for f in flights if f.evaluation is None and not self._learned(f.lane)][:room]
        if self.settings.inversion.ahead and not any(flight.evaluation for flight in flights):
            for tokens in range(2, self.settings.max_tokens + 1):
                for flight in flights:
                    if len(lanes) < room and tokens > flight.tokens:
                        lane = flight.lanes.get(tokens) or self._open(flight, tokens)
                        lanes += [] if self._learned(lane) else [(flight, lane)]
        return lanes

    def _open(self, flight: Flight, tokens: int) -> Lane:
        lane = self.inverter.open(flight.image_id, flight.moments, tokens, flight.word)
        flight.lanes[tokens] = lane
        return lane

    def _learned(self, lane: Lane) -> bool:
        return lane.finished(self.settings.inversion)

    def _settled(self, flight: Flight) -> Finished | None:
        """Take an image on where its lane or its evaluation is done; its record where that was the last."""
        while True:
            if flight.evaluation is None:
                if not self._learned(lane := flight.lane):
                    return None
                vectors = lane.vectors.detach()
                flight.evaluation = Evaluation(
                    flight.image_id, flight.word, flight.query, vectors, lane.failure
                )
            if self.judge.next(flight.evaluation) is not None:
                return None
            attempt = self._attempt(flight, flight.evaluation)
            flight.attempts.append(attempt)
            flight.evaluation = None
            if attempt.passed or attempt.tokens >= self.settings.max_tokens:
                return self._finish(self._flights.pop(flight.image_id))
            if flight.tokens not in flight.lanes:
                self._open(flight, flight.tokens)

    def _attempt(self, flight: Flight, found: Evaluation) -> Attempt:
        """What was found of the number of tokens in hand; its word and tiles are kept."""
        lane = flight.lane
        shown = np.stack(found.redraws) if found.redraws else np.full_like(flight.picture[None], 128)
        flight.redraws.append(tiles(shown))
        flight.words[word_name(lane.tokens)] = found.vectors.cpu().clone()
        return Attempt(
            tokens=lane.tokens,
            distance_mean=found.distance_mean,
            distance_sem=found.distance_sem,
            redraws=len(found.redraws),
            editability=found.editability,
            editable=found.editable,
            passed=found.passed,
            inversion_steps=lane.step,
            skipped_steps=lane.scale.skipped,
            unet_samples=lane.step * self.settings.inversion.batch_size + found.unet_samples,
            seconds=flight.seconds[lane.tokens],
            failure=found.failure,
        )

    def draw(self, image_id: str, vectors: torch.Tensor, prompt: str) -> np.ndarray:
        """All redraws of a pseudo-word: uint8 (count, side, side, 3)."""
        redraw = self.settings.redraw
        noise = self.judge.noise(image_id, len(vectors), prompt, range(redraw.count))
        return self.model.redraw(prompt, vectors, noise, redraw)

    def _finish(self, flight: Flight) -> Finished:
        asked = self.settings.in_distribution.check == "editability"
        verdict = judge(
            flight.image_id,
            flight.attempts,
            max_tokens=self.settings.max_tokens,
            model=self.model.name,
            settings_digest=self.settings.digest(),
            initial_word=flight.word,
            edit_subject=self.domain.subject_for(flight.word) if asked else None,
        )
        words: dict[str, torch.Tensor] = {}
        for name, vectors in flight.words.items():
            words |= self.model.text.split_by_encoder(name, vectors)
        files = {
            "tokens.safetensors": checksum.stamp(
                safetensors.torch.save(words, {checksum.KEY: checksum.PLACEHOLDER})
            ),
            "query.webp": webp(Image.fromarray(flight.picture)),
            "redraws.webp": webp(sheet(flight.redraws)),
        }
        cost = {"unet_samples": float(sum(a.unet_samples for a in flight.attempts))}
        ahead = sum(lane.step for lane in flight.lanes.values() if lane.tokens >= flight.tokens)
        if ahead:
            cost["unet_samples_ahead"] = float(ahead * self.settings.inversion.batch_size)
        return Finished(flight.image_id, verdict.row(), files, cost, parts=len(flight.attempts))

    def parts(self, item_id: str) -> float:
        """How many numbers of tokens are done, and how much of the current one: inversion and redraws by what
        they cost, without the edit images, which few need."""
        flight = self._flights[item_id]
        inversion, redraw = self.settings.inversion, self.settings.redraw
        training = inversion.steps * inversion.batch_size * _BACKWARD
        drawing = redraw.count * self.model.unet_samples_per_redraw(redraw)
        lane = flight.lanes.get(flight.tokens)
        learnt, drawn = (lane.step / inversion.steps if lane else 0.0), 0.0
        if flight.evaluation is not None:
            learnt, drawn = 1.0, min(1.0, len(flight.evaluation.redraws) / redraw.count)
        share = (training * learnt + drawing * drawn) / (training + drawing)
        return len(flight.attempts) + min(share, 0.99)

    def stage(self, item_id: str) -> int:
        """How many numbers of tokens are learned or judged."""
        flight = self._flights[item_id]
        return 2 * len(flight.attempts) + (flight.evaluation is not None)

    def snapshot(self, item_id: str) -> bytes:
        """The whole state of an image in flight, between two steps."""
        return pack(self._flights[item_id], self.settings.digest(), self.model.digest)

    def restore(self, item: Item[Image.Image], snapshot: bytes) -> None:
        """Take an image in hand where a snapshot left it: on a CPU its verdict will be the same to the bit.

        Raises:
            ValueError: the snapshot is damaged, or of other settings, another model, image or initial word.
        """
        saved, tensors = unpack(snapshot)
        self._check(item, saved, tensors)
        flight = self._flight(item)
        if saved.word != flight.word:
            raise ValueError("the snapshot began from another initial word")
        tokens = len(saved.attempts) + 1
        lane = self.inverter.open(item.item_id, flight.moments, tokens, flight.word)
        lane.load_state_dict(lane_state(saved, tensors))
        flight.lanes[tokens], flight.seconds[tokens] = lane, saved.seconds
        flight.attempts = list(saved.attempts)
        names = [word_name(a.tokens) for a in saved.attempts]
        flight.words = {name: tensors[f"word {name}"] for name in names}
        flight.redraws = [tensors[f"redraws {k}"].numpy() for k in range(len(names))]
        self._flights[item.item_id] = flight

    def _check(self, item: Item[Image.Image], saved: Saved, tensors: dict[str, torch.Tensor]) -> None:
        if (saved.settings, saved.model) != (self.settings.digest(), self.model.digest):
            raise ValueError("the snapshot was made under other settings or another model")
        if saved.image_id != item.item_id:
            raise ValueError("the snapshot is of another image")
        tried = [a.tokens for a in saved.attempts]
        under_way = (
            tried == list(range(1, len(tried) + 1))
            and len(tried) < self.settings.max_tokens
            and not any(a.passed for a in saved.attempts)
            and len(saved.losses) == saved.step <= self.settings.inversion.steps
        )
        width = sum(self.model.text.widths)
        found = {name: (value.dtype, tuple(value.shape)) for name, value in tensors.items()}
        if not under_way or found != layout(saved, width, min(TILE, self.model.side)):
            raise ValueError("the snapshot does not hold the state of a sweep that is under way")


def _evaluations(flights: Sequence[Flight]) -> list[Evaluation]:
    return [flight.evaluation for flight in flights if flight.evaluation is not None]


def _share(started: float, work: Sequence[tuple[Flight, int]]) -> None:
    """The time since then, in equal parts to the numbers of tokens of the images that it went to."""
    seconds = (time.monotonic() - started) / len(work)
    for flight, tokens in work:
        flight.seconds[tokens] += seconds


def build_scorer(settings: AuditSettings, copies: Copies = Copies()) -> Sweep:
    """What a worker calls once, to load the model."""
    return Sweep(settings, copies)
