"""What the report is made of: marks of every image, rows for the table, details for the few shown whole.

They are apart because a run may hold millions of images: the histogram and the ordering need 13 bytes of
each, names are read for those in the table, and pictures for those that
:func:`originality.report.order.chosen` picks.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, NamedTuple

import numpy as np

from originality.report.order import TABLE_LIMIT, Group, Marks, by_originality, chosen, group_of
from originality.verdict import Attempt, Verdict


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
    """Every input that has these bytes."""
    status: Literal["judged", "rejected", "failed"]
    min_tokens: int | None = None
    max_tokens: int | None = None
    tokens_tried: int = 0
    """How many numbers of tokens the sweep tried."""
    last_distance: float | None = None
    """Mean distance at the last number of tokens tried; orders images with equal min_tokens."""
    error_class: str | None = None
    error_message: str | None = None

    @property
    def group(self) -> Group:
        return group_of(self.status, self.min_tokens)

    @property
    def reason(self) -> Reason | None:
        """None for a judged image."""
        return None if self.status == "judged" else Reason(self.status, self.error_class or "")


@dataclass(frozen=True)
class Detail:
    """Why an image got its verdict: the sweep, and the pictures that were kept."""

    sweep: tuple[Attempt, ...] = ()
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


@dataclass(frozen=True)
class ReportData:
    """All that :func:`originality.report.page.render` needs."""

    run: RunInfo
    marks: Marks
    """Of all images."""
    reasons: Mapping[Reason, int]
    """How many of all images were not judged, by reason."""
    rows: Sequence[Row] = ()
    """Of those that are shown, most original first: the table's, and those behind it that are shown whole."""
    cards: frozenset[str] = frozenset()
    """image_ids of those that are shown whole."""
    details: Mapping[str, Detail] = field(default_factory=dict)
    """image_id -> detail, for those that are shown whole. One without it is shown as such."""

    @classmethod
    def of_rows(cls, run: RunInfo, rows: Sequence[Row], details: Mapping[str, Detail]) -> ReportData:
        """Of a run so small that there is a row of every image."""
        marks = Marks.of([(row.group, row.min_tokens, row.last_distance) for row in rows])
        reasons = Counter(row.reason for row in rows if row.reason)
        order, cards = shown(marks)
        whole = frozenset(rows[i].image_id for i in cards)
        return cls(run, marks, reasons, [rows[i] for i in order], whole, details)


def shown(marks: Marks) -> tuple[np.ndarray, np.ndarray]:
    """Places of the images that the page shows, most original first, and of those that it shows whole."""
    order = by_originality(marks)
    whole = chosen(marks.judged, len(order) - marks.judged)
    listed = np.arange(min(TABLE_LIMIT, len(order)))
    return order[np.union1d(listed, whole).astype(int)], order[whole]


def row_of(verdict: Verdict, name: str, uris: Sequence[str]) -> Row:
    """The light row of a verdict, joined with the inputs that share its image_id."""
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
    )
