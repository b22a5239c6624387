"""What the report is made of: the run, one row an image, and the pictures of the first ones."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, NamedTuple

from originality.evaluation.verdict import Verdict
from originality.report.order import Group, group_of


class Reason(NamedTuple):
    """Why images were not judged."""

    status: Literal["rejected", "failed"]
    error_class: str
    """Empty where none was recorded."""


@dataclass(frozen=True, slots=True)
class Row:
    """One image in a line."""

    image_id: str
    name: str
    """Path within the collection of the first input that has these bytes. Names come from outside
    and are hostile until escaped."""
    uris: tuple[str, ...]
    """Inputs that have these bytes, the first few where there are many."""
    status: Literal["judged", "rejected", "failed"]
    min_tokens: int | None = None
    max_tokens: int | None = None
    tokens_tried: int = 0
    """How many numbers of tokens the sweep tried."""
    last_distance: float | None = None
    """Mean distance at the last number of tokens tried; orders images with equal min_tokens."""
    error_class: str | None = None
    error_message: str | None = None
    files: int = 1
    """How many inputs have these bytes."""
    note: str | None = None
    """What else is to be known of the image, e.g. that its file lacks its end."""
    folder: str = ""
    """Of its pictures, within the run."""

    @property
    def group(self) -> Group:
        return group_of(self.status, self.min_tokens)

    @property
    def reason(self) -> Reason | None:
        """None for a judged image."""
        return None if self.status == "judged" else Reason(self.status, self.error_class or "")


@dataclass(frozen=True)
class Pictures:
    """The pictures of one image that were kept."""

    query: bytes | None = None
    """The image itself, small: PNG, WebP or JPEG. None where the artefact is missing."""
    redraws: Mapping[int, bytes] = field(default_factory=dict)
    """Number of tokens -> a strip of the first redraws side by side, square tiles."""


@dataclass(frozen=True)
class RunInfo:
    """The run as a whole."""

    settings: Mapping[str, Any] = field(default_factory=dict)
    """An AuditSettings as plain values; read leniently, for a report of an older run must still open."""
    digests: Mapping[str, str] = field(default_factory=dict)
    """Name -> digest, e.g. of settings, model weights and code version."""
    started: datetime | None = None
    finished: datetime | None = None
    collection: str = ""
    output: str = ""
    """The run folder, to say where the whole table is."""
    files: int | None = None
    """Inputs, duplicates included."""
    skipped: int = 0
    """Files of the collection that were left out, for their extension as a rule."""
    skipped_kinds: str = ""
    """How many of which kind: "8 .txt, 3 .json"."""
    pending: int = 0
    """Images without a verdict: the run was interrupted, or is still under way."""
    doubts: tuple[str, ...] = ()
    """Why the thresholds' calibration does not speak for this run."""
    notes: tuple[str, ...] = ()
    """What else a reader must know before the findings: whole sentences."""

    def setting(self, *path: str) -> Any:
        """A nested setting, or None where the run did not record it."""
        value: Any = self.settings
        for key in path:
            value = value.get(key) if isinstance(value, Mapping) else None
        return value


def row_of(verdict: Verdict, name: str, uris: Sequence[str], files: int | None = None) -> Row:
    """The row of a verdict, joined with the inputs that share its image_id. ``files``: how many those are,
    where ``uris`` are not all of them."""
    last = max(verdict.sweep, key=lambda attempt: attempt.tokens, default=None)
    distance = last.distance_mean if last else None
    if distance is not None and not math.isfinite(distance):
        distance = None
    return Row(
        image_id=verdict.image_id,
        name=name,
        uris=tuple(uris),
        status=verdict.status,
        min_tokens=verdict.min_tokens,
        max_tokens=verdict.max_tokens,
        tokens_tried=len(verdict.sweep),
        last_distance=distance,
        error_class=verdict.error_class,
        error_message=verdict.error_message,
        files=len(uris) if files is None else files,
        note=verdict.note,
        folder=verdict.folder,
    )
