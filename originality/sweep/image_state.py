"""State of one image during its sweep, and the snapshots from which another process continues it."""

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
class ImageState:
    """One admitted image, until its record is finished."""

    image_id: str
    word: str
    """Initial word of every pseudo-token."""
    picture: np.ndarray
    """uint8 (side, side, 3), the image as the model sees it."""
    moments: Moments
    query: object
    """The image's embedding by the distance metric, computed once."""
    lanes: dict[int, Lane] = field(default_factory=dict)
    """By number of tokens: the current one, and those trained ahead of it."""
    evaluation: Evaluation | None = None
    """Of the current number of tokens, once its word is learned."""
    attempts: list[Attempt] = field(default_factory=list)
    words: dict[str, Tensor] = field(default_factory=dict)
    """The learned pseudo-word of every m tried, by its name in tokens.safetensors."""
    redraws: list[np.ndarray] = field(default_factory=list)
    """The redraws of every m tried, as the sheet shows them: uint8 (n, tile, tile, 3)."""
    seconds: dict[int, float] = field(default_factory=lambda: defaultdict(float))
    """Time spent on each number of tokens."""

    @property
    def tokens(self) -> int:
        """The current number of tokens: the first that has no attempt yet."""
        return len(self.attempts) + 1

    @property
    def lane(self) -> Lane:
        """The lane of the current number of tokens."""
        return self.lanes[self.tokens]

    def progress(self, steps: int, redraws: int) -> str:
        """Progress of the current number of tokens, of so many inversion steps and redraws.

        Another thread may call this at any moment, also between two lanes.
        """
        evaluation, lane = self.evaluation, self.lanes.get(self.tokens)
        if evaluation is None:
            return f"step {lane.step if lane else 0}/{steps}"
        if evaluation.near is None:
            return f"redraws {len(evaluation.redraws)}/{redraws}"
        return f"edit images {evaluation.edits}/{redraws}"


class SnapshotFields(BaseModel):
    """The JSON part of a snapshot, beside its tensors."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    image_id: str
    word: str
    """The initial word."""
    settings: str
    """Digest of the audit's settings."""
    model: str
    """Digest of the model's weights."""
    step: int = Field(ge=0)
    losses: list[float]
    loss_scale: float = Field(gt=0)
    good_steps: int = Field(ge=0)
    skipped_steps: int = Field(ge=0)
    seconds: float
    attempts: tuple[Attempt, ...]

    def is_unfinished(self, max_tokens: int, steps: int) -> bool:
        """Whether a sweep with these settings can be in this state."""
        tried = [attempt.tokens for attempt in self.attempts]
        return (
            tried == list(range(1, len(tried) + 1))
            and len(tried) < max_tokens
            and not any(attempt.passed for attempt in self.attempts)
            and len(self.losses) == self.step <= steps
        )


def word_name(tokens: int) -> str:
    """Name of the pseudo-word of ``tokens`` tokens in tokens.safetensors.

    In lower case, because CLIP tokenizers lower their input and would not recognise "<S1>".
    """
    return f"<s{tokens}>"


def pack(image: ImageState, settings: str, model: str) -> bytes:
    """Snapshot of an image between two steps, under settings and a model of these digests.

    Restored, it leads to the same record, on the same kind of machine to the last bit, because it holds all
    that is not a function of the image and the settings. Not in it, and computed again to the same numbers:

    - the image's moments and its embedding by the metric, which follow from the image;
    - lanes trained ahead, whose steps depend on their own keys alone;
    - redraws of a word that is being judged, each of which has its own key: the rounds are repeated in the
      same order, and early stopping sees the same distances.
    """
    lane = image.lane.state_dict()
    tensors = {f"word {name}": vectors for name, vectors in image.words.items()}
    tensors["vectors"] = lane["vectors"]
    tensors |= {f"{_OPTIMISER}{name}": value for name, value in lane["optimiser"].items()}
    for k, redraws in enumerate(image.redraws):
        tensors[f"redraws {k}"] = torch.from_numpy(redraws)
    fields = SnapshotFields(
        image_id=image.image_id,
        word=image.word,
        settings=settings,
        model=model,
        step=lane["step"],
        losses=lane["losses"],
        loss_scale=lane["loss_scale"],
        good_steps=lane["good_steps"],
        skipped_steps=lane["skipped_steps"],
        seconds=image.seconds[image.tokens],
        attempts=tuple(image.attempts),
    )
    return encode(fields.model_dump(mode="json"), tensors)


def encode(fields: object, tensors: Mapping[str, Tensor]) -> bytes:
    """Bytes of a snapshot of plain JSON values and tensors: safetensors, the JSON text among them."""
    text = torch.frombuffer(bytearray(json.dumps(fields).encode()), dtype=torch.uint8)
    body = safetensors.torch.save({**tensors, "said": text})
    return write_snapshot(FORMAT, lambda file: file.write(body))


def unpack(snapshot: bytes) -> tuple[SnapshotFields, dict[str, Tensor]]:
    """Fields and tensors of a snapshot that :func:`pack` made.

    Raises:
        ValueError: the snapshot is not a sweep's, from a different version, or damaged.
    """
    file = read_snapshot(FORMAT, snapshot)
    try:
        tensors = safetensors.torch.load(file.read())
        return SnapshotFields.model_validate(json.loads(bytes(tensors.pop("said").numpy()))), tensors
    except Exception as error:
        # The checksum matches, so the bytes are as they were written, but not by pack(). Parsers raise
        # errors of every class at such input.
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise ValueError(f"the snapshot cannot be read ({reason})") from error


def lane_state(fields: SnapshotFields, tensors: Mapping[str, Tensor]) -> LaneState:
    """The state of the snapshot's lane, for :meth:`Lane.load_state_dict`."""
    return {
        "vectors": tensors["vectors"],
        "optimiser": {
            name.removeprefix(_OPTIMISER): value
            for name, value in tensors.items()
            if name.startswith(_OPTIMISER)
        },
        "step": fields.step,
        "losses": fields.losses,
        "loss_scale": fields.loss_scale,
        "good_steps": fields.good_steps,
        "skipped_steps": fields.skipped_steps,
    }


def expected_tensors(
    fields: SnapshotFields, width: int, tile: int
) -> dict[str, tuple[torch.dtype, tuple[int, ...]]]:
    """Type and shape of every tensor that a snapshot with these fields must hold.

    Args:
        width: of a token embedding.
        tile: side of a redraw on the sheet, in pixels.
    """
    tokens = len(fields.attempts) + 1
    shapes: dict[str, tuple[int, ...]] = {"vectors": (tokens, width)}
    if fields.losses or fields.skipped_steps:
        shapes |= {f"{_OPTIMISER}{name}": (tokens, width) for name in ADAMW_MEANS}
        shapes[f"{_OPTIMISER}step"] = ()
    shapes |= {f"word {word_name(a.tokens)}": (a.tokens, width) for a in fields.attempts}
    pictures = {
        f"redraws {k}": (torch.uint8, (min(COLUMNS, a.redraws or 1), tile, tile, 3))
        for k, a in enumerate(fields.attempts)
    }
    return {name: (torch.float32, shape) for name, shape in shapes.items()} | pictures
