"""Data of the report: the run, one row per image, and pictures of the first images."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, NamedTuple

from originality.evaluation.verdict import Verdict
from originality.report.order import Group, group_of


class Reason(NamedTuple):
    """Reason why an image was not judged."""

    status: Literal["rejected", "failed"]
    error_class: str
    """Empty if none was recorded."""


@dataclass(frozen=True, slots=True)
class Row:
    """One image: its verdict and its inputs."""

    image_id: str
    name: str
    """Path within the collection of the first input with these bytes. Names come from outside and may be
    hostile: escape them."""
    uris: tuple[str, ...]
    """Inputs with these bytes; only the first few if there are many."""
    status: Literal["judged", "rejected", "failed"]
    min_tokens: int | None = None
    max_tokens: int | None = None
    tokens_tried: int = 0
    """Length of the sweep: how many numbers of tokens were tried."""
    last_distance: float | None = None
    """Mean distance at the last number of tokens tried. Orders images with equal min_tokens."""
    score: float | None = None
    """Expected number of tokens with fresh redraws; None if not judged, or by an older version."""
    score_low: float | None = None
    score_high: float | None = None
    confidence: float | None = None
    """Probability that min tokens come out the same with fresh redraws."""
    redrawn_at: int | None = None
    """Smallest number of tokens whose distance passed, whatever the in-distribution check said."""
    reference_distance: float | None = None
    """Mean distance to draws from the plain prompt; None if it was not measured."""
    error_class: str | None = None
    error_message: str | None = None
    files: int = 1
    """Number of inputs with these bytes."""
    note: str | None = None
    """Further remark, such as that the file is truncated."""
    folder: str = ""
    """Folder of its pictures, within the run folder."""

    @property
    def group(self) -> Group:
        """Group of the report's overview that this image belongs to."""
        return group_of(self.status, self.min_tokens)

    @property
    def reason(self) -> Reason | None:
        """None for a judged image."""
        return None if self.status == "judged" else Reason(self.status, self.error_class or "")


@dataclass(frozen=True)
class Pictures:
    """Pictures of one image that the page embeds."""

    query: bytes | None = None
    """The image itself, shrunk: PNG, WebP or JPEG. None if it is missing."""
    redraws: Mapping[int, bytes] = field(default_factory=dict)
    """By number of tokens: a strip of the first redraws side by side, as square tiles."""


class Estimate(NamedTuple):
    """One line about the whole collection, as the page shows it."""

    label: str
    value: str
    low: str
    high: str


@dataclass(frozen=True)
class Estimates:
    """What a random sample says of the whole collection, with 95 % intervals."""

    sample: str
    """Of what it is a sample, such as "a random sample of 100 of 5000 inputs"."""
    rows: tuple[Estimate, ...]
    rejected: int = 0
    """Inputs of the sample that cannot be judged: the estimates are of those that can."""
    failed: int = 0
    """Inputs of the sample that failed: the estimates leave them out."""
    more_to_halve: int = 0
    """Further images that would halve the intervals."""


@dataclass(frozen=True)
class GroupRow:
    """Counts of the inputs with one value of a column."""

    value: str | None
    """As text; None for inputs without one. Hostile, as it comes from a list."""
    inputs: int
    judged: int
    min_tokens: Mapping[str, int]
    """Inputs by number of tokens, "+" for never."""
    mean_score: float | None = None


@dataclass(frozen=True)
class Groups:
    """Counts by the values of one column of the collection's list."""

    column: str
    rows: tuple[GroupRow, ...]
    """The largest groups first."""
    more: int = 0
    """Groups that are not among the rows."""

    @property
    def tokens(self) -> list[str]:
        """The numbers of tokens that occur, rising, "+" last."""
        return sorted({needed for row in self.rows for needed in row.min_tokens}, key=lambda n: (n == "+", n))


@dataclass(frozen=True)
class RunInfo:
    """Facts about the run."""

    settings: Mapping[str, Any] = field(default_factory=dict)
    """An AuditSettings as plain values. Read leniently, so that reports of older runs still work."""
    digests: Mapping[str, str] = field(default_factory=dict)
    """Digests by name, such as of settings and model weights; also the code version."""
    started: datetime | None = None
    finished: datetime | None = None
    collection: str = ""
    output: str = ""
    """Path or URL of the run folder."""
    files: int | None = None
    """Number of inputs, duplicates included."""
    skipped: int = 0
    """Number of skipped files of the collection, usually because of their extension."""
    skipped_kinds: str = ""
    """Skipped files by kind, such as "8 .txt, 3 .json"."""
    pending: int = 0
    """Images without a verdict: the run was interrupted or is in progress."""
    doubts: tuple[str, ...] = ()
    """Differences between this run and the one that the thresholds were calibrated for."""
    notes: tuple[str, ...] = ()
    """Warnings to read before the findings, as sentences."""
    estimates: Estimates | None = None
    """Of the whole collection, if the run is a random sample of it."""
    groups: Groups | None = None
    """Counts by a column, if that was asked for."""

    def setting(self, *path: str) -> Any:
        """A nested setting, or None if the run did not record it."""
        value: Any = self.settings
        for key in path:
            value = value.get(key) if isinstance(value, Mapping) else None
        return value


def row_of(verdict: Verdict, name: str, uris: Sequence[str], files: int | None = None) -> Row:
    """A verdict as a row of the report.

    Args:
        name: path of the first input with this image_id, within the collection.
        uris: inputs with this image_id, or the first of them.
        files: number of inputs with this image_id; None: the number of ``uris``.
    """
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
        score=verdict.score,
        score_low=verdict.score_low,
        score_high=verdict.score_high,
        confidence=verdict.confidence,
        redrawn_at=verdict.redrawn_at,
        reference_distance=verdict.reference_distance,
        error_class=verdict.error_class,
        error_message=verdict.error_message,
        files=len(uris) if files is None else files,
        note=verdict.note,
        folder=verdict.artefacts or "",
    )
