"""The report as one HTML page that needs nothing else: no network, no other file, no server.

File names, messages and settings come from outside. They are escaped by the template engine, shown with
their invisible characters made visible, and fenced in by a content security policy under which nothing
but the page's own script runs and nothing at all is fetched.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from originality.report import words
from originality.report.chart import chart
from originality.report.data import Detail, Reason, ReportData, Row, RunInfo
from originality.report.order import TABLE_LIMIT, Group, histogram
from originality.verdict import Attempt

__all__ = ["Detail", "ReportData", "Row", "RunInfo", "render"]

_FOLDER = Path(__file__).parent

_METRICS = {
    "elements": "element sets: one minus the mean F1 of the elements found",
    "dreamsim": "DreamSim",
    "imagenet": "ImageNet features",
}
_CHECKS = {
    "positions": "places vary",
    "editability": "in a new scene",
}
_GROUPS: dict[Group, str] = {
    "never": "Not redrawn",
    "redrawn": "Redrawn",
    "rejected": "Rejected",
    "failed": "Failed",
}


@dataclass(frozen=True)
class Item:
    """A row with its places in the orders that a reader can switch between."""

    row: Row
    original: int
    familiar: int
    name: int
    anchor: str | None
    """Id of the card that shows it whole, if there is one."""
    detail: Detail | None


@dataclass(frozen=True)
class Rule:
    """What decides that a redraw counts, as the run set it."""

    metric: str
    distance: float | None
    check: str | None
    """None where the run did not ask for one."""
    editability: float | None
    scale: float
    """Distance at the right end of every gauge."""


def render(report: ReportData) -> str:
    """The whole page.

    Images may be any number: the histogram counts all of them, the table shows up to
    ``order.TABLE_LIMIT``, and pictures are shown of those that ``order.chosen`` picks.
    """
    run = report.run
    groups = report.marks.counts()
    counts = histogram(report.marks, _integer(run.setting("max_tokens")))
    items = _items(report)
    table = items[:TABLE_LIMIT]
    listed = Counter(item.row.group for item in table)
    script = (_FOLDER / "page.js").read_text(encoding="utf-8")
    return _template().render(
        run=run,
        model=str(run.setting("model", "path") or "this model"),
        answer=words.answer(counts),
        remarks=words.remarks(groups["rejected"], groups["failed"], run.pending, run.doubts, run.notes),
        chart=chart(counts),
        counts=counts,
        total=groups.total(),
        judged=groups["never"] + groups["redrawn"],
        groups=[(key, label, groups[key], listed[key]) for key, label in _GROUPS.items() if groups[key]],
        reasons=_by_frequency(report.reasons),
        retries=_retries(report.reasons, run.output or "OUTPUT"),
        cards=[item for item in items if item.anchor],
        table=table,
        rule=_rule(run, report.details),
        settings=list(_leaves(run.settings)),
        css=Markup((_FOLDER / "page.css").read_text(encoding="utf-8")),
        script=Markup(script),
        script_digest=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )


def _items(report: ReportData) -> list[Item]:
    """All rows, most original first."""
    rows = report.rows
    familiar = {row.image_id: place for place, row in enumerate(by_familiarity(rows))}
    names = {row.image_id: place for place, row in enumerate(by_name(rows))}
    return [
        Item(
            row=row,
            original=place,
            familiar=familiar[row.image_id],
            name=names[row.image_id],
            anchor=f"image-{place + 1}" if row.image_id in report.cards else None,
            detail=report.details.get(row.image_id),
        )
        for place, row in enumerate(rows)
    ]


def _by_frequency(reasons: Mapping[Reason, int]) -> list[tuple[Reason, int]]:
    return sorted(reasons.items(), key=lambda item: (-item[1], item[0]))


def _retries(reasons: Mapping[Reason, int], output: str) -> list[str]:
    """One command a status."""
    statuses = {reason.status for reason in reasons if words.may_be_retried(reason)}
    return [words.retry_command(output, status) for status in sorted(statuses, reverse=True)]


def by_familiarity(rows: Sequence[Row]) -> list[Row]:
    """The reverse of originality for judged images; rejected and failed ones still come last."""
    judged = [row for row in rows if row.status == "judged"]
    return judged[::-1] + [row for row in rows if row.status != "judged"]


def by_name(rows: Sequence[Row]) -> list[Row]:
    """By file name, capitals aside."""
    return sorted(rows, key=lambda row: (row.name.casefold(), row.uris, row.image_id))


def _rule(run: RunInfo, details: Mapping[str, Detail]) -> Rule:
    metric = str(run.setting("distance", "metric") or "unknown")
    check = run.setting("in_distribution", "check")
    threshold = _number(run.setting("distance", "threshold"))
    distances = [a.distance_mean for d in details.values() for a in d.sweep if _known(a)]
    return Rule(
        metric=_METRICS.get(metric, metric),
        distance=threshold,
        check=None if check in (None, "none") else _CHECKS.get(check, str(check)),
        editability=_number(run.setting("in_distribution", "threshold")),
        scale=max([1.0, threshold or 0.0, *(d for d in distances if d is not None)]),
    )


def _known(attempt: Attempt) -> bool:
    return attempt.distance_mean is not None and math.isfinite(attempt.distance_mean)


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def _integer(value: Any) -> int | None:
    return value if isinstance(value, int) else None


def _leaves(tree: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, str]]:
    """Settings as dotted path and value."""
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{path}{key}.")
        else:
            yield f"{path}{key}", json.dumps(value, ensure_ascii=False, default=str)


@cache
def _template() -> Any:
    environment = Environment(
        loader=FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        data_uri=data_uri,
        visible=words.visible,
        tokens=words.tokens_phrase,
        plural=words.plural,
        advice=words.advice,
        may_be_retried=words.may_be_retried,
        decimals=_decimals,
        percent=_percent,
        when=_when,
    )
    return environment.get_template("page.html.j2")


def data_uri(image: bytes | None) -> str | None:
    """An image as a ``data:`` URI; None for anything but PNG, WebP and JPEG, SVG above all."""
    if not image:
        return None
    if image.startswith(b"\x89PNG\r\n\x1a\n"):
        kind = "png"
    elif image.startswith(b"RIFF") and image[8:12] == b"WEBP":
        kind = "webp"
    elif image.startswith(b"\xff\xd8\xff"):
        kind = "jpeg"
    else:
        return None
    return f"data:image/{kind};base64,{base64.b64encode(image).decode()}"


def _decimals(value: float | None, places: int = 2) -> str:
    if value is None or not math.isfinite(value):
        return "–"
    return f"{value:.{places}f}"


def _percent(value: float | None, scale: float) -> str:
    """A length on a gauge, as CSS."""
    if value is None or not math.isfinite(value):
        return "0%"
    return f"{100 * min(max(value / scale, 0.0), 1.0):.2f}%"


def _when(moment: datetime | None) -> str:
    if moment is None:
        return "not recorded"
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return aware.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")
