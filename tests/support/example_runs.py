"""Made-up runs for tests of the report: small drawn pictures, and hostile names."""

from __future__ import annotations

import io
from datetime import UTC, datetime

from PIL import Image, ImageDraw

from originality.evaluation.confidence import PassRule
from originality.evaluation.verdict import Attempt, Verdict, judge
from originality.report.data import Pictures, RunInfo, row_of
from originality.report.page import ReportData
from originality.settings.presets import load_settings

TILE, TILES = 64, 8
RULE = PassRule(threshold=0.3, share=0.5, count=20)

HOSTILE = (
    "<script>document.title='owned'</script>.png",
    "\"onerror='window.owned=1' x=\".png",
    "{{ 7 * 7 }} & <b>bold</b>.png",
    "invoice\u202egnp.exe",
    "naïve 图像 🐈.png",
    "not-utf8-\udcff.png",
)

PROBLEMS = (
    ("failed", "missing", 5),
    ("rejected", "truncated", 60),
    ("failed", "InversionFailed", 1),
    ("rejected", "not-an-image", 3),
    ("failed", "SomeErrorOfTheScorerThatHasAVeryLongNameIndeed", 2),
)
"""Status, error class, images."""


def picture(seed: int, tiles: int = 1) -> bytes:
    """A WebP strip of square tiles, each with two shapes at different positions."""
    image = Image.new("RGB", (TILE * tiles, TILE), "white")
    draw = ImageDraw.Draw(image)
    for tile in range(tiles):
        x, y = TILE * tile + 4 + (seed * 7 + tile * 11) % 24, 4 + (seed * 5 + tile * 17) % 28
        draw.ellipse((x, y, x + 20, y + 20), fill=(222, 45, 38))
        draw.rectangle((x + 18, y + 14, x + 30, y + 26), outline=(40, 90, 205), width=2)
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", lossless=True)
    return buffer.getvalue()


def attempt(tokens: int, distance: float | None, passed: bool, failure: str | None = None) -> Attempt:
    return Attempt(
        tokens=tokens,
        distance_mean=distance,
        distance_sem=None if distance is None else 0.021,
        redraws=0 if failure else 20,
        editability=None if failure else 0.87,
        editable=None if failure else True,
        passed=passed,
        inversion_steps=250,
        unet_samples=2000,
        seconds=8.5,
        failure=failure,
    )


def judged(image_id: str, tokens: int | None, last: float = 0.1, limit: int = 5) -> Verdict:
    """An image whose distance falls evenly to ``last`` over the attempts of its sweep."""
    tried = tokens or limit
    sweep = [attempt(m, last + 0.1 * (tried - m), passed=m == tokens) for m in range(1, tried + 1)]
    return judge(image_id, sweep, max_tokens=limit, model="shapes", settings_digest="d", rule=RULE)


def problem(image_id: str, status: str, error_class: str, message: str) -> Verdict:
    return Verdict.model_validate(
        {
            "image_id": image_id,
            "status": status,
            "error_class": error_class,
            "error_message": message,
        }
    )


def report(named: list[tuple[str, Verdict]], *, pictures: bool = True, pending: int = 0) -> ReportData:
    """A report of named verdicts, each shown with its pictures."""
    rows = [row_of(verdict, name, [f"/data/{name}"]) for name, verdict in named]
    sweeps = {verdict.image_id: verdict.sweep for _, verdict in named}
    kept = {
        verdict.image_id: Pictures(
            query=picture(seed),
            redraws={a.tokens: picture(seed + a.tokens, TILES) for a in verdict.sweep},
        )
        for seed, (_, verdict) in enumerate(named if pictures else [])
    }
    settings = load_settings("laptop")
    run = RunInfo(
        settings=settings.model_dump(mode="json"),
        digests={"settings": settings.digest(), "model": "ab" * 32, "code": "0.1.0"},
        started=datetime(2026, 11, 22, 9, 30, tzinfo=UTC),
        finished=datetime(2026, 11, 22, 9, 35, tzinfo=UTC),
        collection="/data",
        output="/runs/one",
        files=len(rows) + pending,
        pending=pending,
    )
    return ReportData.of_rows(run, rows, sweeps, kept)


def nine() -> ReportData:
    """A run like that of ``make audit``, with a rejected and a failed image in addition."""
    tokens = (1, 1, 1, 2, 2, 3, 5, None, None)
    last = (0.04, 0.09, 0.13, 0.21, 0.18, 0.24, 0.2, 0.41, 0.62)
    kinds = ("familiar", "rare", "unseen")
    named = [
        (f"{kinds[i // 3]}-{i % 3 + 1}.png", judged(f"{i:02d}" * 32, t, d))
        for i, (t, d) in enumerate(zip(tokens, last, strict=True))
    ]
    named.append(("cut-off.jpg", problem("aa" * 32, "rejected", "truncated", "image file is truncated")))
    named.append(("quarantine.png", problem("bb" * 32, "failed", "WorkerDied", "three workers died with it")))
    return report(named, pending=1)


def many_problems() -> ReportData:
    """A run with one judged image and many that were not judged."""
    named = [("a.png", judged("a" * 64, 1))]
    for status, error_class, count in PROBLEMS:
        names = [f"{error_class}-{i}" for i in range(count)]
        named += [(f"{name}.png", problem(name, status, error_class, "no")) for name in names]
    return report(named)


def hostile() -> ReportData:
    """A run whose names, messages and settings would inject markup into a page that trusted them."""
    named = [(name, judged(f"{i:02d}" * 32, i % 5 + 1)) for i, name in enumerate(HOSTILE)]
    message = "</script><img src=https://evil.example/x.png onerror=alert(1)>"
    named.append(("bad.png", problem("cc" * 32, "rejected", "<i>corrupt</i>", message)))
    return report(named)


def varied() -> ReportData:
    """A run with one image of every kind that a card shows differently."""
    named = [(name, judged(f"{i:02d}" * 32, (i % 5) + 1)) for i, name in enumerate(HOSTILE)]
    noted = judged("d" * 64, None).model_copy(update={"note": "the file lacks its end"})
    named.append(("never.png", noted))
    failed = attempt(2, None, False, failure="the loss of step 12 is <nan>")
    no_check = attempt(1, 0.5, False).model_copy(update={"editability": None, "editable": None})
    odd = judged("e" * 64, None, limit=1).model_copy(update={"sweep": (no_check, failed)})
    named.append(("odd.png", odd))
    named.append(("unknown.png", judged("f" * 64, None).model_copy(update={"sweep": ()})))
    for number, (status, error_class, _) in enumerate(PROBLEMS):
        named.append(
            (f"{error_class}.png", problem(f"unread-{number:012x}{0:052x}", status, error_class, "<b>no</b>"))
        )
    return report(named)
