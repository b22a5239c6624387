"""What can be browsed: a line of the table and the evidence of each image, as the page and its script read
them.

The page itself holds the first images. The others lie beside it as small scripts, because a page that was
opened as a file may load scripts and pictures, and no other data. ``rows-*.js`` have what is sorted and
searched, ``evidence-*.js`` what is read when an image is shown.
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
from originality.report import words
from originality.report.data import Row, RunInfo

ROWS = 5_000
"""Images in one rows file: some 400 kB."""
EVIDENCE = 250
"""Images in one evidence file: some 75 kB. A page of twenty that is sorted by another column reads up to
twenty of them."""

_NAME = 300
"""Characters of a name or uri that are shown: a list may hold anything."""
_MESSAGE = 1_000
URIS = 3

_METRICS = {
    "elements": "element sets: one minus the mean F1 of the elements found",
    "dreamsim": "DreamSim",
    "imagenet": "ImageNet features",
}
_CHECKS = {
    "positions": "places vary",
    "editability": "in a new scene",
}


@dataclass(frozen=True)
class Rule:
    """What decides that a redraw counts, as the run set it."""

    metric: str
    distance: float | None
    """A mean distance below it passes."""
    check: str | None
    """None where the run has no check that the word stays in distribution."""
    editability: float | None
    """A score of the check from here on passes."""

    @classmethod
    def of(cls, run: RunInfo) -> Rule:
        metric = str(run.setting("distance", "metric") or "unknown")
        check = run.setting("in_distribution", "check")
        return cls(
            metric=_METRICS.get(metric, metric),
            distance=number(run.setting("distance", "threshold")),
            check=None if check in (None, "none") else _CHECKS.get(check, str(check)),
            editability=number(run.setting("in_distribution", "threshold")),
        )

    def share(self, distance: float | None) -> float:
        """Length of a gauge in percent; all of it is a distance of 1, or the threshold where that is more."""
        if distance is None or not math.isfinite(distance):
            return 0.0
        return round(100 * min(max(distance / max(1.0, self.distance or 0.0), 0.0), 1.0), 2)


class Entry(NamedTuple):
    """A line of the table. Texts are shown as they are, and sorted by."""

    id: str
    """Enough of the image_id to name the image in a link."""
    name: str
    group: str
    tokens: int
    """min_tokens; 0 where there is none."""
    tried: int
    """How many numbers of tokens the sweep tried."""
    distance: float | None
    """At the last number of tokens, with the three decimals that are shown."""
    reason: str
    """Error class; empty for a judged image."""

    @classmethod
    def of(cls, row: Row) -> Entry:
        return cls(
            id=short(row.image_id),
            name=_shown(row.name, _NAME),
            group=row.group,
            tokens=row.min_tokens or 0,
            tried=row.tokens_tried,
            distance=None if row.last_distance is None else round(row.last_distance, 3),
            reason=_shown(row.error_class or "", _NAME),
        )


class Line(NamedTuple):
    """One number of tokens that was tried, in words and lengths."""

    tokens: int
    passed: bool
    distance: str
    near: bool | None
    """Whether the distance is below the threshold; None where either is not known."""
    share: float
    """Length of the distance's gauge in percent."""
    score: str
    """Of the check that the word stays in distribution."""
    editable: bool | None
    tiles: int
    """Redraws in this row of the sheet."""
    failure: str

    @classmethod
    def of(cls, attempt: Attempt, rule: Rule) -> Line:
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
    """Why an image got its verdict, or none."""

    image_id: str
    uris: tuple[str, ...]
    files: int
    """Inputs with these bytes; uris are the first of them."""
    lines: tuple[Line, ...]
    message: str
    advice: str
    """What to do about an image that was not judged."""
    again: bool
    """Whether a retry can bring such an image a verdict."""
    note: str
    """What else is to be known of the image."""
    folder: str
    """Of its pictures, within the run."""

    @classmethod
    def of(cls, row: Row, sweep: Sequence[Attempt], rule: Rule) -> Evidence:
        reason = row.reason
        return cls(
            image_id=row.image_id,
            uris=tuple(_shown(uri, _NAME) for uri in row.uris[:URIS]),
            files=row.files,
            lines=tuple(Line.of(attempt, rule) for attempt in sweep),
            message=_shown(row.error_message or "no reason was recorded", _MESSAGE) if reason else "",
            advice=words.advice(reason) if reason else "",
            again=reason is not None and words.may_be_retried(reason),
            note=_shown(row.note or "", _MESSAGE),
            folder=row.folder,
        )


@dataclass(frozen=True)
class Listing:
    """All images that can be browsed, most original first, each as JSON."""

    rows: Sequence[str] = ()
    evidence: Sequence[str] = ()

    def __len__(self) -> int:
        return len(self.rows)

    @cached_property
    def generation(self) -> str:
        """Names the files beside a page, so that the page of another report never reads them. It cannot be
        known before the run ended, so it also is what lets the page load them and nothing else."""
        digest = hashlib.sha256()
        for text in (*self.rows, *self.evidence):
            digest.update(text.encode())
        return digest.hexdigest()[:32]

    def files(self) -> Iterator[tuple[str, bytes]]:
        """Name and content of each file that lies beside the page."""
        for kind, entries, size in (("rows", self.rows, ROWS), ("evidence", self.evidence, EVIDENCE)):
            for number, start in enumerate(range(0, len(entries), size)):
                name = f"{kind}-{self.generation}-{number}"
                body = ",\n".join(entries[start : start + size])
                yield f"{name}.js", f'reportPart("{name}",[\n{body}\n]);\n'.encode("ascii")


def script_json(value: Any) -> str:
    """JSON that is safe anywhere in a script: plain ASCII, and nothing in it that HTML knows."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def short(image_id: str) -> str:
    """The first 48 bits of the digest, with what stands before it."""
    prefix, dash, digest = image_id.rpartition("-")
    return f"{prefix}{dash}{digest[:12]}"


def decimals(value: float | None, places: int = 2) -> str:
    if value is None or not math.isfinite(value):
        return "–"
    return f"{value:.{places}f}"


def number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def _shown(text: str, limit: int) -> str:
    """Made visible, and cut in the middle where it is too long to read."""
    if len(text) > limit:
        text = f"{text[: limit // 2]}…{text[-limit // 2 :]}"
    return words.visible(text)
