"""Images that can be browsed: table line and evidence of each, in the form that the page and its script read.

The page itself holds the first images. The others are in small script files beside it, because a page opened
from a file may load scripts and pictures but no other data. ``rows-*.js`` hold what is sorted and searched,
``evidence-*.js`` what is loaded when an image is shown.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

from originality.evaluation.redraw_sheet import COLUMNS
from originality.evaluation.verdict import Attempt
from originality.report import phrases
from originality.report.data import Row, RunInfo

ROWS = 5_000
"""Images in one rows file: about 400 kB."""
EVIDENCE = 250
"""Images in one evidence file: about 75 kB. A page of twenty images sorted by a different column loads up to
twenty files."""

_NAME = 300
"""Most characters of a name or URI that are shown, as lists may hold anything."""
_MESSAGE = 1_000
"""Most characters of a message that are shown."""
URIS = 3
"""Most URIs of an image that are shown."""

_METRICS = {
    "elements": "element sets: one minus the mean F1 of the elements found",
    "dreamsim": "DreamSim",
    "imagenet": "ImageNet features",
}
_CHECKS = {
    "positions": "variety of positions",
    "editability": "subject in edit prompts",
}
"""Name of the in-distribution score, by the setting in_distribution.check."""


@dataclass(frozen=True)
class Rule:
    """Rule by which a number of tokens passes, from the run's settings."""

    metric: str
    distance: float | None
    """Threshold: a smaller mean distance passes."""
    check: str | None
    """Name of the in-distribution score; None if the run has no such check."""
    editability: float | None
    """Threshold: an in-distribution score of at least this passes."""

    @classmethod
    def of(cls, run: RunInfo) -> Rule:
        """The rule that a run's settings state; "unknown" where an old run does not."""
        metric = str(run.setting("distance", "metric") or "unknown")
        check = run.setting("in_distribution", "check")
        return cls(
            metric=_METRICS.get(metric, metric),
            distance=number(run.setting("distance", "threshold")),
            check=None if check in (None, "none") else _CHECKS.get(check, str(check)),
            editability=number(run.setting("in_distribution", "threshold")),
        )

    def share(self, distance: float | None) -> float:
        """Length of a distance's gauge in percent. 100 is a distance of 1, or the threshold if larger."""
        if distance is None or not math.isfinite(distance):
            return 0.0
        return round(100 * min(max(distance / max(1.0, self.distance or 0.0), 0.0), 1.0), 2)


class Entry(NamedTuple):
    """A line of the table. Its texts are shown unchanged and used for sorting."""

    id: str
    """Short image_id, used in links."""
    name: str
    group: str
    tokens: int
    """Min tokens; 0 if censored or not judged."""
    tried: int
    """Length of the sweep."""
    distance: float | None
    """Mean distance at the last number of tokens, rounded to the three decimals that are shown."""
    score: float | None
    """Rounded to the two decimals that are shown."""
    confidence: int | None
    """In percent, rounded down: 100 would promise too much."""
    reason: str
    """Error class; empty for a judged image."""

    @classmethod
    def of(cls, row: Row) -> Entry:
        """The entry of a row."""
        return cls(
            id=short(row.image_id),
            name=_shown(row.name, _NAME),
            group=row.group,
            tokens=row.min_tokens or 0,
            tried=row.tokens_tried,
            distance=None if row.last_distance is None else round(row.last_distance, 3),
            score=None if row.score is None else round(row.score, 2),
            confidence=None if row.confidence is None else phrases.percent(row.confidence),
            reason=_shown(row.error_class or "", _NAME),
        )


class Line(NamedTuple):
    """One number of tokens of a sweep, as texts and lengths to show."""

    tokens: int
    passed: bool
    distance: str
    near: bool | None
    """Whether the distance is below the threshold; None if either is unknown."""
    share: float
    """Length of the distance's gauge in percent."""
    score: str
    """In-distribution score."""
    editable: bool | None
    """Whether the in-distribution score passes; None if not measured."""
    tiles: int
    """Number of redraws in this row of the sheet."""
    failure: str
    """Why this number of tokens was not measured; empty if it was."""

    @classmethod
    def of(cls, attempt: Attempt, rule: Rule) -> Line:
        """The line of an attempt."""
        mean, sem = number(attempt.distance_mean), number(attempt.distance_sem)
        return cls(
            tokens=attempt.tokens,
            passed=attempt.passed,
            distance=decimals(mean, 3) + ("" if sem is None else f" ± {decimals(sem, 3)}"),
            near=None if mean is None or rule.distance is None else mean < rule.distance,
            share=rule.share(mean),
            score=decimals(attempt.editability),
            editable=attempt.editable,
            tiles=min(attempt.redraws, COLUMNS),
            failure=_shown(attempt.failure or "", _MESSAGE),
        )


class Evidence(NamedTuple):
    """Details of an image: its sweep, or why it was not judged."""

    image_id: str
    uris: tuple[str, ...]
    files: int
    """Number of inputs with these bytes; ``uris`` are the first of them."""
    sure: str
    """How sure the verdict is, as sentences; empty if that is not known."""
    lines: tuple[Line, ...]
    message: str
    """Error message; empty if judged."""
    advice: str
    """What to do if the image was not judged."""
    again: bool
    """Whether a retry can succeed."""
    note: str
    """Further remark on the image."""
    folder: str
    """Folder of its pictures, within the run folder."""

    @classmethod
    def of(cls, row: Row, sweep: Sequence[Attempt], rule: Rule) -> Evidence:
        """The evidence for a row, from the attempts of its sweep."""
        reason = row.reason
        return cls(
            image_id=row.image_id,
            uris=tuple(_shown(uri, _NAME) for uri in row.uris[:URIS]),
            files=row.files,
            sure=phrases.sure(row),
            lines=tuple(Line.of(attempt, rule) for attempt in sweep),
            message=_shown(row.error_message or "no reason recorded", _MESSAGE) if reason else "",
            advice=phrases.advice(reason) if reason else "",
            again=reason is not None and phrases.may_be_retried(reason),
            note=_shown(row.note or "", _MESSAGE),
            folder=row.folder,
        )


@dataclass(frozen=True)
class Listing:
    """Table lines and evidence of all images that can be browsed, most original first, each as JSON."""

    rows: Sequence[str] = ()
    evidence: Sequence[str] = ()

    def __len__(self) -> int:
        return len(self.rows)

    @cached_property
    def generation(self) -> str:
        """Digest of the content, in the names of the files beside the page.

        The page of a different report therefore never loads them. As it cannot be guessed before the report
        is written, it also serves as the nonce by which the page may load these scripts and no others.
        """
        digest = hashlib.sha256()
        for text in (*self.rows, *self.evidence):
            digest.update(text.encode())
        return digest.hexdigest()[:32]

    def files(self) -> Iterator[tuple[str, bytes]]:
        """Name and content of each file beside the page."""
        for kind, entries, size in (("rows", self.rows, ROWS), ("evidence", self.evidence, EVIDENCE)):
            for number, start in enumerate(range(0, len(entries), size)):
                name = f"{kind}-{self.generation}-{number}"
                body = ",\n".join(entries[start : start + size])
                yield f"{name}.js", f'reportPart("{name}",[\n{body}\n]);\n'.encode("ascii")


def script_json(value: Any) -> str:
    """JSON that is safe inside a script element: ASCII only, without <, > and &."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def short(image_id: str) -> str:
    """The first 48 bits of an image_id's digest, with its prefix."""
    prefix, dash, digest = image_id.rpartition("-")
    return f"{prefix}{dash}{digest[:12]}"


def decimals(value: float | None, places: int = 2) -> str:
    """A number with this many decimals; a dash for None and for values that are not finite."""
    if value is None or not math.isfinite(value):
        return "–"
    return f"{value:.{places}f}"


def number(value: Any) -> float | None:
    """A finite float; None for anything else."""
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def _shown(text: str, limit: int) -> str:
    """A text with invisible characters replaced, shortened in the middle if it is too long."""
    if len(text) > limit:
        text = f"{text[: limit // 2]}…{text[-limit // 2 :]}"
    return phrases.visible(text)
