"""The page and the figure of the coverage of every interval."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.population.populations import MOST, SIZE, STRATA, populations

Row = dict[str, Any]
OURS = {
    "simple": "a simple sample",
    "post-stratified": "the same, weighed by strata where the sample is large enough",
    "proportional": "stratified, in proportion to the strata",
    "equal": "stratified, as many of each",
    "neyman": "stratified by the spread in a pilot, a quarter of the sample",
    "good proxy": "simple, with a proxy of correlation 0.9",
    "fair proxy": "simple, with a proxy of correlation 0.5",
    "worthless proxy": "simple, with a proxy of correlation 0",
    "proportional, good proxy": "stratified, with a proxy of correlation 0.9",
}
FOILS = {"Student's t": "means", "Wilson": "shares"}
BAND = (0.93, 0.97)


def page(rows: Sequence[Row], draws: int) -> str:
    """Text of the page (README.md)."""
    kinds = "\n".join(f"| {of.name} | {of.says} |" for of in populations())
    return f"""# Estimates for a collection

{_paragraph(_CLAIM)}

{_paragraph(_answer(rows, draws))}

{_paragraph(_costs(rows))}

![How often intervals hold the true value](coverage.png)

{_paragraph(_CAVEAT)}

{_paragraph(_COMMAND)}

| collection | what it is |
|---|---|
{kinds}

## By the way to sample

{_paragraph(_BY_DESIGN)}

{_by_design(rows)}

## Samples of 100 images

Share of intervals that hold the truth, and their mean width.

{_by_population(rows, "mean score")}

{_by_population(rows, "share never")}
"""


_CLAIM = """**Claim.** The intervals of `originality estimate-population` hold what they promise, whatever
the
collection looks like: of samples drawn as an audit draws them, about 95 % of the intervals or more hold
the true value."""
_CAVEAT = f"""**Caveat.** `equal` is for comparing groups: for the collection as a whole its intervals are
wider than
a simple sample's. The collections have {SIZE:,} inputs in strata of {", ".join(map(str, STRATA[:-1]))} and
{STRATA[-1]}; a proxy's noise is normal. How sure each verdict is, is not part of this: a score stands for
itself."""
_COMMAND = """`make population` draws the samples (some ten minutes of one core; it resumes) and writes
[results.json](results.json), the figure and this page. The sampling is that of an audit,
[sampling.py](../../cluster/inputs/sampling.py); the estimates are those of the command,
[stratified.py](../../originality/population/stratified.py)."""
_BY_DESIGN = f"""Lowest and highest share of intervals that hold the truth, and mean width relative to a
simple sample
of as many images, over all collections and both quantities (the mean score, and the share of images that
are never
redrawn with {MOST} tokens)."""


def _answer(rows: Sequence[Row], draws: int) -> str:
    ours = [row for row in rows if row["design"] in OURS]
    covers = [row["coverage"] for row in ours]
    enough = sum(BAND[0] <= cover for cover in covers)
    inside = sum(BAND[0] <= cover <= BAND[1] for cover in covers)
    foils = {
        design: min((row for row in rows if row["design"] == design), key=lambda row: row["coverage"])
        for design in FOILS
    }
    student, wilson = (
        f"{_percent(row['coverage'])} (collection {row['population']}, {row['sample']} images)"
        for row in foils.values()
    )
    return f"""**Answer.** Of {draws:,} samples of each of {len(populations())} collections of known truth,
between
{_percent(min(covers))} and {_percent(max(covers))} of the intervals hold it, over {len(ours)} combinations of
collection, sample
size, way to sample and quantity: {enough} have 93 % or more, {inside} from 93 to 97 %. The others are
conservative: exact
intervals cannot come closer where an event is rare or a sample small, and a stratum of which little is
known is
not trusted. Student's t falls to {student}, Wilson's interval to {wilson}."""


def _costs(rows: Sequence[Row]) -> str:
    simple = _simple_widths(rows)

    def ratio(row: Row) -> float:
        return row["width"] / simple[_key(row)]

    helped = [row for row in rows if row["design"] in OURS and row["design"] not in ("simple", "equal")]
    widest = max(helped, key=ratio)
    proxy = [ratio(row) for row in helped if row["design"] == "good proxy"]
    wanted = ("proportional", "grouped", "mean score")
    strata = [ratio(row) for row in helped if (row["design"], row["population"], row["quantity"]) == wanted]
    return f"""Strata and proxies cost next to nothing where they do not help: their mean width is at most
{_percent(ratio(widest) - 1)} above that of a simple sample ({widest["design"]}, {widest["population"]},
{widest["sample"]} images; the aim is 2 %). Where they help, it is {min(proxy):.2f} to {max(proxy):.2f} of
it with a
good proxy, and {min(strata):.2f} to {max(strata):.2f} with strata that differ."""


def _paragraph(text: str) -> str:
    return textwrap.fill(
        " ".join(text.split()).replace(" %", "\u00a0%"), 120, break_long_words=False, break_on_hyphens=False
    ).replace("\u00a0", " ")


def _by_design(rows: Sequence[Row]) -> str:
    sizes = sorted({row["sample"] for row in rows})
    simple = _simple_widths(rows)
    lines = [
        "| " + " | ".join(["sample", *(f"{size} images: coverage | width" for size in sizes)]) + " |",
        "|---" * (1 + 2 * len(sizes)) + "|",
    ]
    for design, says in {**OURS, **FOILS}.items():
        cells = [f"{design}: {says}"]
        for size in sizes:
            mine = [row for row in rows if (row["design"], row["sample"]) == (design, size)]
            covers = [row["coverage"] for row in mine]
            ratios = [row["width"] / simple[_key(row)] for row in mine]
            cells += [
                f"{_percent(min(covers))} to {_percent(max(covers))}",
                f"{min(ratios):.2f} to {max(ratios):.2f}",
            ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _by_population(rows: Sequence[Row], quantity: str) -> str:
    names = [population.name for population in populations()]
    mine = [row for row in rows if row["sample"] == 100 and row["quantity"] == quantity]
    truth = {row["population"]: row["truth"] for row in mine}
    shown = [f"{name}, truth {truth[name]:.3g}" for name in names]
    lines = [f"| {quantity} | {' | '.join(shown)} |", "|---" * (1 + len(names)) + "|"]
    for design in (*OURS, *FOILS):
        of = {row["population"]: row for row in mine if row["design"] == design}
        if of:
            cells = (f"{_percent(of[name]['coverage'])}, {of[name]['width']:.3f}" for name in names)
            lines.append(f"| {design} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _key(row: Row) -> tuple[Any, ...]:
    return row["population"], row["sample"], row["quantity"]


def _simple_widths(rows: Sequence[Row]) -> dict[tuple[Any, ...], float]:
    return {_key(row): row["width"] for row in rows if row["design"] == "simple"}


def plot(rows: Sequence[Row], file: Path) -> None:
    """Plot the coverage of each way to sample: a point for each collection, sample size and quantity."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    designs = [*OURS, *FOILS]
    figure, axis = plt.subplots(figsize=(7.5, 4.6), layout="constrained")
    axis.axvspan(*BAND, color="#dddddd", linewidth=0)
    axis.axvline(0.95, color="#888888", linewidth=1)
    colours = {50: "#d55e00", 100: "#0072b2", 400: "#009e73"}
    for place, design in enumerate(designs):
        for shift, (size, colour) in enumerate(colours.items()):
            of = [row["coverage"] for row in rows if (row["design"], row["sample"]) == (design, size)]
            axis.plot(of, [place + (shift - 1) * 0.2] * len(of), "o", color=colour, markersize=4, alpha=0.7)
    for size, colour in colours.items():
        axis.plot([], [], "o", color=colour, label=f"{size} images")
    axis.set_yticks(range(len(designs)), designs)
    axis.invert_yaxis()
    axis.set(xlim=(0.2, 1.01), xlabel="share of intervals that hold the true value")
    axis.legend(loc="upper left", frameon=False)
    axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(file, dpi=130)
    plt.close(figure)


def write_page(found: dict[str, Any], file: Path) -> None:
    """Write the page of the results."""
    file.write_text(page(found["rows"], found["of"]["draws"]), encoding="utf-8")
