"""Write the benchmark's summary: JSON, a table and a figure, and the counts that cost estimates use."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib

from originality.bench import confidence
from originality.bench.summary import UNDER_ITS_SEED, measured_in, summarise
from originality.bench.variants import FAST, PAPER, REDUCED, VARIANTS
from originality.cost import measured_counts

matplotlib.use("Agg")


def table(summary: dict[str, Any]) -> str:
    """Cost and agreement of the variants on the images that ``paper`` judged, as a Markdown table."""
    lines = [
        "| variant | runs x images | numbers of tokens tried | steps each | redraws each "
        "| UNet samples forward and back | forward alone | UNet TFLOP "
        "| places for one needed, training and drawing "
        "| same min tokens as paper | as reduced | as fast | under the same seed |",
        "|---" * 13 + "|",
    ]
    for name, of in summary["variants"].items():
        if (own := of.get("on the images of paper")) is None:
            continue
        filled = of["all images"]["places for one needed"]
        cells = [
            f"{name}: {of['says']}",
            f"{len(of['all images']['images'])} x {own['images']}",
            f"{own['numbers of tokens']:.2f}",
            f"{own['steps a number of tokens']:.0f}",
            f"{own['redraws a number of tokens']:.1f}",
            f"{own['UNet samples forward and back']:,.0f}",
            f"{own['UNet samples forward']:,.0f}",
            f"{own['UNet TFLOP']:.3g}",
            f"{filled['training']:.2f}, {filled['drawing']:.2f}",
            *(_share(own.get("agrees with " + ("itself" if name == o else o))) for o in _REFERENCES),
            f"{own[UNDER_ITS_SEED]:.0%}" if UNDER_ITS_SEED in own else "",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


_REFERENCES = (PAPER.name, REDUCED.name, FAST.name)


def _share(found: Sequence[float] | None) -> str:
    return "" if found is None else f"{found[1]:.0%} [{found[0]:.0%}, {found[2]:.0%}]"


def plot(summary: dict[str, Any], file: Path) -> None:
    """Plot each variant's cost of an image, and the share of images with the same min tokens as ``paper``."""
    import matplotlib.pyplot as plt

    compared = {
        name: "agrees with itself" if name == PAPER.name else "agrees with paper" for name in VARIANTS
    }
    all_own = {name: of.get("on the images of paper", {}) for name, of in summary["variants"].items()}
    shown = {name: own for name, own in all_own.items() if compared[name] in own}
    names = list(shown)
    figure, (left, right) = plt.subplots(
        1, 2, figsize=(9, 0.5 * len(names) + 1.5), sharey=True, layout="constrained"
    )
    spent = [own["UNet TFLOP"] for own in shown.values()]
    left.plot(spent, names, "o", color="#0072b2")
    for name, value in zip(names, spent, strict=True):
        left.annotate(f"{value:.3g}", (value, name), (8, 0), textcoords="offset points", va="center")
    left.set_xscale("log")
    left.set_xlim(min(spent) / 2, max(spent) * 3)
    left.set_xlabel("UNet TFLOP an image (log)")
    for name, own in shown.items():
        low, here, high = own[compared[name]]
        right.errorbar(here, name, xerr=[[here - low], [high - here]], fmt="o", color="#d55e00", capsize=3)
    right.set_xlim(0, 1)
    right.set_xlabel("images with the same min tokens as paper\n(paper: with another seed of its own)")
    left.set_ylim(len(names) - 0.5, -0.5)
    for axis in (left, right):
        axis.grid(axis="y", color="#dddddd")
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(file, dpi=130)
    plt.close(figure)


def write(folder: Path, shipped: Path = measured_counts.SHIPPED) -> str:
    """Write summary.json, cost.png and confidence.json in the folder and the package's counts.json.

    Returns:
        The table, in Markdown.
    """
    summary = summarise(folder)
    (folder / "summary.json").write_text(json.dumps(summary, indent=1) + "\n")
    plot(summary, folder / "cost.png")
    confidence.write(folder)
    found = measured_in(folder)
    measured_counts.write({f"{preset}-shapes": of for preset, of in found.items()}, shipped)
    return table(summary)
