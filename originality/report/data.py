"""What the report is made of: light rows for every image, details for the few that are shown whole.

The two are apart because a run may hold millions of images: the histogram and the ordering need a row of
each, but pictures and sweeps need only be read for those that :func:`originality.report.order.chosen`
picks.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from originality.verdict import Attempt, Verdict

Group = Literal["never", "redrawn", "rejected", "failed"]
"""What a reader filters by: "never" is judged and censored, "redrawn" judged with a number of tokens."""


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
        if self.status == "judged":
            return "never" if self.min_tokens is None else "redrawn"
        return self.status


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
    """Files of the collection that were passed over because their extension is no image's."""
    pending: int = 0
    """Images without a verdict: the run was interrupted, or is still under way."""

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
    rows: Sequence[Row] = ()
    details: Mapping[str, Detail] = field(default_factory=dict)
    """image_id -> detail, for the chosen images. A chosen image without one is shown as such."""


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
