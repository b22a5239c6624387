"""The sweep: m = 1, 2, ... until the image is redrawn and in distribution (paper Section 3.1, 4).

:class:`Sweep` is the scorer that the engine drives. It holds up to ``lanes`` images in flight, each at
its own number of tokens; an image whose inversion is done is redrawn and measured at once, and either
leaves with its verdict or goes on with one token more.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import safetensors.torch
import torch
from PIL import Image

from originality.conditioning import single_token, tokenise
from originality.diffusion import LatentDiffusion, Moments, describe, model_digest, sheet, torch_device
from originality.editability import load_check
from originality.inversion import Inverter, Lane
from originality.prompts import DOMAINS
from originality.randomness import keyed_generator
from originality.scoring import Finished, Item
from originality.settings import AuditSettings
from originality.similarity import load_distance
from originality.verdict import Attempt, judge, passes


@dataclass
class Flight:
    """One image in flight."""

    image_id: str
    picture: np.ndarray
    """uint8 (side, side, 3), the image as the model sees it."""
    moments: Moments
    query: object
    """The image in the metric's own terms, computed once."""
    lane: Lane
    attempts: list[Attempt] = field(default_factory=list)
    words: dict[str, torch.Tensor] = field(default_factory=dict)
    """The pseudo-word of every m tried, by its name in the tokens file."""
    redraws: list[np.ndarray] = field(default_factory=list)
    seconds: float = 0.0


def word_name(tokens: int) -> str:
    """Name of the pseudo-word of ``tokens`` tokens in tokens.safetensors.

    In lower case: CLIP tokenizers lower their input, and would not know "<S1>" again.
    """
    return f"<s{tokens}>"


class Sweep:
    """Judges images on one loaded model. Implements originality.scoring.Scorer."""

    def __init__(self, settings: AuditSettings) -> None:
        self.settings = settings
        self.model = LatentDiffusion(settings.model)
        self.domain = DOMAINS[settings.domain]
        self.inverter = Inverter(self.model, self.domain, settings.inversion, settings.seed)
        self.distance = load_distance(settings.distance, self.model.device)
        self.check = load_check(settings.in_distribution, self.domain.edit_subject)
        blank = np.full((1, self.model.side, self.model.side, 3), 255, np.uint8)
        self.distance.embed(blank)  # a metric that cannot read the model's images says so here
        self.capacity = settings.inversion.lanes
        self._flights: dict[str, Flight] = {}

    @property
    def progress(self) -> str:
        """What is in hand, in a few words."""
        return ", ".join(
            f"{f.image_id[:6]} m={f.lane.tokens} {f.lane.step}/{self.settings.inversion.steps}"
            for f in list(self._flights.values())
        )

    def admit(self, item: Item) -> None:
        """Take an image in hand."""
        self._flights[item.item_id] = self._flight(item, self._first_lane)

    def _first_lane(self, image_id: str, moments: Moments) -> Lane:
        return self.inverter.open(image_id, moments, 1)

    def _flight(self, item: Item, lane_of: Callable[[str, Moments], Lane]) -> Flight:
        picture = self.model.fit(item.image)
        moments = self.model.encode(picture)
        query = self.distance.embed(picture[None])[0]
        return Flight(item.item_id, picture, moments, query, lane_of(item.item_id, moments))

    def step(self) -> list[Finished]:
        """One optimiser step of every image in flight; those whose inversion ends are measured."""
        flights = list(self._flights.values())
        if not flights:
            return []
        started = time.monotonic()
        self.inverter.advance([f.lane for f in flights])
        share = (time.monotonic() - started) / len(flights)
        finished = []
        for flight in flights:
            flight.seconds += share
            if not flight.lane.finished(self.settings.inversion):
                continue
            attempt = self._measure(flight)
            flight.attempts.append(attempt)
            if attempt.passed or attempt.tokens >= self.settings.max_tokens:
                finished.append(self._finish(self._flights.pop(flight.image_id)))
            else:
                flight.lane = self.inverter.open(flight.image_id, flight.moments, attempt.tokens + 1)
                flight.seconds = 0.0
        return finished

    def _measure(self, flight: Flight) -> Attempt:
        """Redraw with the learned word and decide whether it passes."""
        started, lane, settings = time.monotonic(), flight.lane, self.settings
        vectors = lane.vectors.detach()
        samples = lane.step * settings.inversion.batch_size
        mean = sem = score = editable = None
        count, failure = 0, lane.failure
        if failure is None:
            redraws = self.draw(flight.image_id, vectors, settings.redraw.prompt)
            samples += self.model.samples_of_redraw(settings.redraw)
            distances = self.distance.between(flight.query, self.distance.embed(redraws))
            count, mean = len(distances), float(np.mean(distances))
            sem = float(np.std(distances, ddof=1) / math.sqrt(count))
            if not math.isfinite(mean):
                failure, mean, sem = f"the distance of the redraws is {mean}", None, None
            elif self.check is not None:
                edits = None
                if self.check.wants_edits:
                    edits = self.draw(flight.image_id, vectors, self.domain.edit_prompt)
                    samples += self.model.samples_of_redraw(settings.redraw)
                score = self.check.score(redraws, edits)
                editable = None if score is None else score >= settings.in_distribution.threshold
            flight.redraws.append(redraws)
        else:
            flight.redraws.append(np.full_like(flight.picture[None], 128))
        flight.words[word_name(lane.tokens)] = vectors.cpu().clone()
        return Attempt(
            tokens=lane.tokens,
            distance_mean=mean,
            distance_sem=sem,
            redraws=count,
            editability=score,
            editable=editable,
            passed=failure is None and passes(mean, settings.distance.threshold, editable),
            inversion_steps=lane.step,
            unet_samples=samples,
            seconds=flight.seconds + time.monotonic() - started,
            failure=failure,
        )

    def draw(self, image_id: str, vectors: torch.Tensor, prompt: str) -> np.ndarray:
        """The redraws of a pseudo-word: uint8 (count, side, side, 3), each from its own noise.

        The noise depends on (seed, image, m, number of the redraw) alone.
        """
        noise = torch.stack(
            [
                torch.randn(
                    self.model.latent_shape,
                    generator=keyed_generator(self.settings.seed, image_id, len(vectors), prompt, k),
                )
                for k in range(self.settings.redraw.count)
            ]
        )
        return self.model.redraw(prompt, vectors, noise, self.settings.redraw)

    def _finish(self, flight: Flight) -> Finished:
        verdict = judge(
            flight.image_id,
            flight.attempts,
            max_tokens=self.settings.max_tokens,
            model=self.model.name,
            settings_digest=self.settings.digest(),
        )
        files = {
            "tokens.safetensors": safetensors.torch.save(flight.words),
            "query.webp": _webp(Image.fromarray(flight.picture)),
            "redraws.webp": _webp(sheet(flight.redraws)),
        }
        return Finished(flight.image_id, verdict.row(), files)

    def snapshot(self, item_id: str) -> bytes:
        """The whole state of an image in flight (safetensors with JSON in its header)."""
        flight = self._flights[item_id]
        lane = flight.lane
        tensors = {f"word {name}": vectors for name, vectors in flight.words.items()}
        tensors["vectors"] = lane.vectors.detach().clone()
        for key, value in lane.optimiser.state.get(lane.vectors, {}).items():
            tensors[f"optimiser {key}"] = torch.as_tensor(value).clone()
        for k, redraws in enumerate(flight.redraws):
            tensors[f"redraws {k}"] = torch.from_numpy(redraws[:8].copy())
        notes = {
            "tokens": lane.tokens,
            "step": lane.step,
            "losses": lane.losses,
            "failure": lane.failure,
            "seconds": flight.seconds,
            "attempts": [a.model_dump(mode="json") for a in flight.attempts],
            "settings": self.settings.digest(),
            "model": self.model.digest,
        }
        return safetensors.torch.save(tensors, {"state": json.dumps(notes)})

    def restore(self, item: Item, snapshot: bytes) -> None:
        """Take an image in hand where a snapshot left it: its verdict will be the same to the bit.

        Raises:
            ValueError: the snapshot was made under other settings or another model.
        """
        tensors = safetensors.torch.load(snapshot)
        header = json.loads(snapshot[8 : 8 + int.from_bytes(snapshot[:8], "little")])
        notes = json.loads(header["__metadata__"]["state"])
        if (notes["settings"], notes["model"]) != (self.settings.digest(), self.model.digest):
            raise ValueError(f"the snapshot of {item.item_id} is of other settings or another model")

        def lane_of(image_id: str, moments: Moments) -> Lane:
            lane = self.inverter.open(image_id, moments, notes["tokens"])
            with torch.no_grad():
                lane.vectors.copy_(tensors["vectors"])
            state = {
                key.removeprefix("optimiser "): value
                for key, value in tensors.items()
                if key.startswith("optimiser ")
            }
            if state:
                lane.optimiser.state[lane.vectors] = state
            lane.step, lane.losses = notes["step"], notes["losses"]
            lane.failure = notes["failure"]
            return lane

        flight = self._flight(item, lane_of)
        flight.seconds = notes["seconds"]
        flight.attempts = [Attempt.model_validate(a) for a in notes["attempts"]]
        flight.words = {
            key.removeprefix("word "): value for key, value in tensors.items() if key.startswith("word ")
        }
        flight.redraws = [tensors[f"redraws {k}"].numpy() for k in range(len(flight.attempts))]
        self._flights[item.item_id] = flight


def preflight(settings: AuditSettings) -> dict[str, str]:
    """Find what would stop every image, before anything is written, without loading the model.

    Returns:
        The digests that decide a verdict beside the settings: "model_digest" of the model's weights, and
        "judge_digest" of the weights of metric and check.

    Raises:
        SettingsError: with the fix.
    """
    if not os.environ.get("RAY_ADDRESS"):  # a cluster's GPUs are elsewhere
        torch_device(settings.model)
    about = describe(settings.model)
    domain = DOMAINS[settings.domain]
    single_token(about.tokenizer, domain.initial_word)
    tokenise(about.tokenizer, [*domain.templates, settings.redraw.prompt], settings.max_tokens)
    distance = load_distance(settings.distance)
    distance.embed(np.full((1, about.side, about.side, 3), 255, np.uint8))
    check = load_check(settings.in_distribution, domain.edit_subject)
    judges = f"{distance.digest()} {check.digest() if check else ''}"
    return {
        "model_digest": model_digest(settings.model),
        "judge_digest": hashlib.sha256(judges.encode()).hexdigest()[:16],
    }


def build_scorer(settings: AuditSettings) -> Sweep:
    """What a worker calls once, to load the model."""
    return Sweep(settings)


def _webp(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", lossless=True)
    return buffer.getvalue()
