"""One image on its way through the sweep, and its state as bytes from which another process goes on."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import safetensors.torch
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from originality.contract.snapshot_file import read_snapshot, write_snapshot
from originality.evaluation.judge import Evaluation
from originality.evaluation.redraw_sheet import COLUMNS
from originality.evaluation.verdict import Attempt
from originality.inversion.lane import ADAMW_MEANS, Lane, LaneState
from originality.model.diffusion import Moments

FORMAT = b"originality sweep 3\n"
"""First bytes of a snapshot; the number is the format's version."""

_OPTIMISER = "optimiser "
"""Prefix of the tensors of a lane's optimiser."""


@dataclass
class Flight:
    """One image in flight."""

    image_id: str
    word: str
    """Every pseudo-token started from it."""
    picture: np.ndarray
    """uint8 (side, side, 3), the image as the model sees it."""
    moments: Moments
    query: object
    """The image in the metric's own terms, computed once."""
    lanes: dict[int, Lane] = field(default_factory=dict)
    """By number of tokens: of the one in hand, and of those ahead of it."""
    evaluation: Evaluation | None = None
    """Of the number of tokens that is being judged."""
    attempts: list[Attempt] = field(default_factory=list)
    words: dict[str, Tensor] = field(default_factory=dict)
    """The pseudo-word of every m tried, by its name in the tokens file."""
    redraws: list[np.ndarray] = field(default_factory=list)
    """The tiles of every m tried, uint8 (n, tile, tile, 3): what the sheet shows."""
    seconds: dict[int, float] = field(default_factory=lambda: defaultdict(float))
    """Spent so far on each number of tokens."""

    @property
    def tokens(self) -> int:
        """The number of tokens in hand."""
        return len(self.attempts) + 1

    @property
    def lane(self) -> Lane:
        """Of the number of tokens in hand."""
        return self.lanes[self.tokens]

    def doing(self, steps: int, redraws: int) -> str:
        """How far the current number of tokens is, of so many inversion steps and redraws. Another thread may
        ask, also between two lanes."""
        evaluation, lane = self.evaluation, self.lanes.get(self.tokens)
        if evaluation is None:
            return f"step {lane.step if lane else 0}/{steps}"
        if evaluation.near is None:
            return f"drawn {len(evaluation.redraws)}/{redraws}"
        return f"edits drawn {evaluation.edits}/{redraws}"


class Saved(BaseModel):
    """What a snapshot says beside its tensors."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    image_id: str
    word: str
    """The initial one."""
    settings: str
    """Digest."""
    model: str
    """Digest."""
    step: int = Field(ge=0)
    losses: list[float]
    loss_scale: float = Field(gt=0)
    good_steps: int = Field(ge=0)
    skipped_steps: int = Field(ge=0)
    seconds: float
    attempts: tuple[Attempt, ...]


def word_name(tokens: int) -> str:
    """Name of the pseudo-word of ``tokens`` tokens in tokens.safetensors.

    In lower case: CLIP tokenizers lower their input, and would not know "<S1>" again.
    """
    return f"<s{tokens}>"


def pack(flight: Flight, settings: str, model: str) -> bytes:
    """The state of a flight that is between two steps, under settings and a model of these digests.

    What follows from the image itself is left out: its moments and the metric's view of it. So are lanes
    that are ahead and what is drawn of a word under judgement: they come out the same again.
    """
    lane = flight.lane.state_dict()
    tensors = {f"word {name}": vectors for name, vectors in flight.words.items()}
    tensors["vectors"] = lane["vectors"]
    tensors |= {f"{_OPTIMISER}{name}": value for name, value in lane["optimiser"].items()}
    for k, redraws in enumerate(flight.redraws):
        tensors[f"redraws {k}"] = torch.from_numpy(redraws)
    saved = Saved(
        image_id=flight.image_id,
        word=flight.word,
        settings=settings,
        model=model,
        step=lane["step"],
        losses=lane["losses"],
        loss_scale=lane["loss_scale"],
        good_steps=lane["good_steps"],
        skipped_steps=lane["skipped_steps"],
        seconds=flight.seconds[flight.tokens],
        attempts=tuple(flight.attempts),
    )
    return seal(saved.model_dump(mode="json"), tensors)


def seal(said: object, tensors: Mapping[str, Tensor]) -> bytes:
    """A snapshot of plain JSON values and tensors, as safetensors."""
    text = torch.frombuffer(bytearray(json.dumps(said).encode()), dtype=torch.uint8)
    body = safetensors.torch.save({**tensors, "said": text})
    return write_snapshot(FORMAT, lambda file: file.write(body))


def unpack(snapshot: bytes) -> tuple[Saved, dict[str, Tensor]]:
    """What :func:`pack` put together.

    Raises:
        ValueError: the snapshot is not a sweep's, from a different version, or damaged.
    """
    file = read_snapshot(FORMAT, snapshot)
    try:
        tensors = safetensors.torch.load(file.read())
        return Saved.model_validate(json.loads(bytes(tensors.pop("said").numpy()))), tensors
    except Exception as error:
        # The checksum holds, so the bytes are as they were written, but not by pack(). Parsers raise errors
        # of every class at such input.
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise ValueError(f"the snapshot cannot be read ({reason})") from error


def lane_state(saved: Saved, tensors: Mapping[str, Tensor]) -> LaneState:
    """The state of the snapshot's lane, for :meth:`Lane.load_state_dict`."""
    return {
        "vectors": tensors["vectors"],
        "optimiser": {
            name.removeprefix(_OPTIMISER): value
            for name, value in tensors.items()
            if name.startswith(_OPTIMISER)
        },
        "step": saved.step,
        "losses": saved.losses,
        "loss_scale": saved.loss_scale,
        "good_steps": saved.good_steps,
        "skipped_steps": saved.skipped_steps,
    }


def layout(saved: Saved, width: int, tile: int) -> dict[str, tuple[torch.dtype, tuple[int, ...]]]:
    """Type and shape of every tensor beside what a snapshot says, for vectors of ``width`` numbers."""
    tokens = len(saved.attempts) + 1
    shapes: dict[str, tuple[int, ...]] = {"vectors": (tokens, width)}
    if saved.losses or saved.skipped_steps:
        shapes |= {f"{_OPTIMISER}{name}": (tokens, width) for name in ADAMW_MEANS}
        shapes[f"{_OPTIMISER}step"] = ()
    shapes |= {f"word {word_name(a.tokens)}": (a.tokens, width) for a in saved.attempts}
    pictures = {
        f"redraws {k}": (torch.uint8, (min(COLUMNS, a.redraws or 1), tile, tile, 3))
        for k, a in enumerate(saved.attempts)
    }
    return {name: (torch.float32, shape) for name, shape in shapes.items()} | pictures
