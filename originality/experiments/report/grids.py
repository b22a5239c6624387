"""The page's figures that are assembled from stored pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from originality.evaluation.redraw_sheet import COLUMNS, RedrawSheet
from originality.experiments.report import diversity_report, figures, frequency_report
from originality.experiments.tasks.measure_elements import sheet_of, strip_of
from originality.experiments.tasks.measure_pairs import GROUPS, SHOWN


def _sheet(start: Path) -> tuple[Image.Image, RedrawSheet]:
    """A query image at the size of its redraws, and the sheet of these (a row for each number of tokens)."""
    redraws = RedrawSheet(Image.open(f"{start}-redraws.webp").convert("RGB"))
    size = redraws.side, redraws.side
    return Image.open(f"{start}-query.webp").convert("RGB").resize(size), redraws


def _tokens(m: int) -> str:
    return f"{m} token{'s' if m > 1 else ''}"


def reconstructions(folder: Path, file: Path) -> None:
    """Draw Figure 5: query images, and two redraws at each number of tokens."""
    rows: list[tuple[str, Sequence[Image.Image]]] = []
    tokens = 0
    for group in GROUPS:
        for number in range(SHOWN):
            start = folder / f"{group.replace(' ', '-')}-{number}"
            query, redraws = _sheet(start)
            tokens = redraws.rows
            cells = [redraws.tile(m, k) for m in range(tokens) for k in range(2)]
            rows.append((f"{group} {number + 1}", [query, *cells]))
    heads = ["query"]
    for m in range(1, tokens + 1):
        heads += [_tokens(m), ""]
    page = figures.labelled_rows(rows, heads)
    file.parent.mkdir(parents=True, exist_ok=True)
    page.save(file, optimize=True)


def first_near(record: Mapping[str, Any], folder: Path, threshold: float, file: Path) -> None:
    """Draw Figure 11: common query images, and redraws of the first near word or, if none, of one token."""
    rows: list[tuple[str, Sequence[Image.Image]]] = []
    for number in range(SHOWN):
        start = folder / record["name"] / f"{GROUPS[0].replace(' ', '-')}-{number}"
        query, redraws = _sheet(start)
        sweep = next(
            row["sweep"] for row in record["rows"] if (row["group"], row["number"]) == (GROUPS[0], number)
        )
        near = frequency_report.first_near(sweep, threshold)
        m = near or 1
        tiles = [redraws.tile(m - 1, k) for k in range(COLUMNS)]
        label = f"{GROUPS[0]} {number + 1}, {_tokens(m)}"
        rows.append((label if near else f"{label} (not near)", [query, *tiles]))
    page = figures.labelled_rows(rows, ["query", "eight seeds", *[""] * 7], label=230)
    page.save(file, optimize=True)


def samples(folder: Path, of: Sequence[Mapping[str, Any]], file: Path) -> None:
    """Draw Figure 13: images of each model from each prompt."""
    rows: list[tuple[str, Sequence[Image.Image]]] = []
    for record in of:
        sheets = [Image.open(folder / record["name"] / sheet_of(p["prompt"])) for p in record["prompts"]]
        tops = [s.convert("RGB").crop((0, 0, s.width, s.height // 2)) for s in sheets]
        control = ", own" if diversity_report.is_control(record) else ""
        names = "".join(f"\n{k}: {name}" for k, name in enumerate(record["measure"]["wanted"], 1))
        rows.append((f"{diversity_report.diversity_of(record)} elements{control}{names}", tops))
    heads = ["empty prompt", "missing element 1", "missing element 2"]
    figures.labelled_rows(rows, heads, label=220).save(file, optimize=True)


def strips(folder: Path, of: Sequence[Mapping[str, Any]], file: Path) -> bool:
    """Draw Figure 12: missing elements as drawn, a row each for the empty prompt and for the element's name.

    Returns:
        Whether any missing element was drawn; if none was, no file is written.
    """
    rows: list[tuple[str, Sequence[Image.Image]]] = []
    for record in of:
        number = diversity_report.diversity_of(record)
        for name in record["measure"]["wanted"]:
            for prompted, prompt_kind in ((False, "empty prompt"), (True, "by its name")):
                strip = folder / record["name"] / strip_of(name, prompted)
                if strip.exists():
                    rows.append((f"{number}: {name}, {prompt_kind}", [Image.open(strip).convert("RGB")]))
    if rows:
        figures.labelled_rows(rows, ["as drawn"], label=260).save(file, optimize=True)
    return bool(rows)
