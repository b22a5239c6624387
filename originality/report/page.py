"""Render the report as an HTML page that needs no network and no server.

The page holds the summary, the figures and the first images, or all of them if they are few. The others are
in small files beside it (:mod:`originality.report.listing`), which its script loads when they are shown.

File names, messages and settings come from outside. The template engine escapes them, invisible characters
are replaced by visible codes, and a content security policy allows only the page's own script and the files
that belong to it; nothing is fetched from anywhere else.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from originality.contract.config import leaves
from originality.evaluation.verdict import Attempt
from originality.report import phrases
from originality.report.chart import chart
from originality.report.data import Pictures, Reason, Row, RunInfo
from originality.report.listing import EVIDENCE, ROWS, Entry, Evidence, Listing, Rule, decimals, script_json
from originality.report.order import FIRST, WHOLE, Group, Marks, histogram, listed

_FOLDER = Path(__file__).parent
_SCRIPTS = ("cards.js", "page.js")

_GROUPS: dict[Group, str] = {
    "never": "Not redrawn",
    "redrawn": "Redrawn",
    "rejected": "Rejected",
    "failed": "Failed",
}
_REASONS = 50
"""Most reasons that the page lists, the most frequent first."""


class Card(NamedTuple):
    """An image that the page itself shows with all details."""

    entry: Entry
    evidence: Evidence
    pictures: Pictures


@dataclass(frozen=True)
class ReportData:
    """All data of a report."""

    run: RunInfo
    marks: Marks
    """Marks of all images."""
    reasons: Mapping[Reason, int] = field(default_factory=dict)
    """Number of images that were not judged, by reason; of all images."""
    listing: Listing = field(default_factory=Listing)
    """Images that can be browsed."""
    cards: Sequence[Card] = ()
    """The first images of the listing, :func:`held` of them."""
    listed: Mapping[Group, int] = field(default_factory=dict)
    """Number of images that can be browsed, by group."""

    @classmethod
    def of_rows(
        cls,
        run: RunInfo,
        rows: Sequence[Row],
        sweeps: Mapping[str, Sequence[Attempt]],
        pictures: Mapping[str, Pictures],
    ) -> ReportData:
        """Data of a small run, from one row per image. ``sweeps`` and ``pictures`` are by image_id."""
        marks = Marks.of([(row.group, row.min_tokens, row.last_distance) for row in rows])
        reasons = Counter(row.reason for row in rows if row.reason)
        order, rule = listed(marks), Rule.of(run)
        shown = [(rows[i], Evidence.of(rows[i], sweeps.get(rows[i].image_id, ()), rule)) for i in order]
        entries = [Entry.of(row) for row, _ in shown]
        cards = [
            Card(entry, evidence, pictures.get(row.image_id, Pictures()))
            for entry, (row, evidence) in zip(entries[: held(len(rows))], shown, strict=False)
        ]
        listing = Listing([script_json(e) for e in entries], [script_json(e) for _, e in shown])
        return cls(run, marks, reasons, listing, cards, marks.take(order).counts())


def held(total: int) -> int:
    """Number of images that the page itself holds."""
    return total if total <= WHOLE else FIRST


def render(report: ReportData) -> str:
    """Render the page. Beyond the images it holds, its size does not grow with their number."""
    run = report.run
    groups = report.marks.counts()
    counts = histogram(report.marks, _integer(run.setting("max_tokens")))
    script = "\n".join((_FOLDER / name).read_text(encoding="utf-8") for name in _SCRIPTS)
    rule = Rule.of(run)
    beside = len(report.listing) > len(report.cards)
    reasons = _by_frequency(report.reasons)
    return _template().render(
        run=run,
        model=str(run.setting("model", "path") or "this model"),
        answer=phrases.answer(counts),
        remarks=phrases.remarks(groups["rejected"], groups["failed"], run.pending, run.doubts, run.notes),
        chart=chart(counts),
        counts=counts,
        total=groups.total(),
        judged=groups["never"] + groups["redrawn"],
        groups=[(key, label, groups[key]) for key, label in _GROUPS.items() if groups[key]],
        listed=report.listed,
        reasons=reasons[:_REASONS],
        more_reasons=max(0, len(reasons) - _REASONS),
        retries=_retries(report.reasons, run.output or "OUTPUT"),
        cards=report.cards,
        beside=beside,
        listing=len(report.listing),
        config=_config(report, rule, beside),
        rule=rule,
        aim=rule.share(rule.distance),
        settings=[(path, _as_json(value)) for path, value in leaves(run.settings)],
        css=Markup((_FOLDER / "page.css").read_text(encoding="utf-8")),
        script=Markup(script),
        script_digest=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        nonce=report.listing.generation if beside else None,
    )


def _config(report: ReportData, rule: Rule, beside: bool) -> str:
    """Configuration of the page's script, as JSON."""
    total = report.marks.counts().total()
    return json.dumps(
        {
            "generation": report.listing.generation,
            "total": total,
            "listed": len(report.listing),
            "held": len(report.cards),
            # A page without files beside it sorts and searches the rows that it holds.
            "rows": None if beside else [card.entry for card in report.cards],
            "perRowsFile": ROWS,
            "perEvidenceFile": EVIDENCE,
            "threshold": None if rule.distance is None else decimals(rule.distance),
            "aim": rule.share(rule.distance),
            "check": rule.check,
            "checkFrom": None if rule.editability is None else decimals(rule.editability),
        }
    )


def _by_frequency(reasons: Mapping[Reason, int]) -> list[tuple[Reason, int]]:
    return sorted(reasons.items(), key=lambda item: (-item[1], item[0]))


def _retries(reasons: Mapping[Reason, int], output: str) -> list[str]:
    """Commands that queue images again, one per status."""
    statuses = {reason.status for reason in reasons if phrases.may_be_retried(reason)}
    return [phrases.retry_command(output, status) for status in sorted(statuses, reverse=True)]


def _as_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)


def _integer(value: Any) -> int | None:
    return value if isinstance(value, int) else None


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
        visible=phrases.visible,
        tokens=phrases.tokens_phrase,
        plural=phrases.plural,
        advice=phrases.advice,
        may_be_retried=phrases.may_be_retried,
        decimals=decimals,
        when=_when,
    )
    return environment.get_template("page.html.j2")


def data_uri(image: bytes | None) -> str | None:
    """An image as a ``data:`` URI; None for formats other than PNG, WebP and JPEG: SVG may hold scripts."""
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


def _when(moment: datetime | None) -> str:
    if moment is None:
        return "not recorded"
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return aware.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")
