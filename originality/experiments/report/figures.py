"""The experiments' figures, for print and colour-blind readers (Okabe and Ito's palette, and hatches)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from PIL import Image, ImageDraw

matplotlib.use("Agg")

COLOURS = ("#0072b2", "#e69f00", "#d55e00", "#009e73", "#56b4e9", "#cc79a7")
HATCHES = ("", "///", "...", "xx", "\\\\\\", "++")


def _saved(figure: Any, file: Path) -> None:
    import matplotlib.pyplot as plt

    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=130)
    plt.close(figure)


def min_tokens(summary: Mapping[str, Any], file: Path) -> None:
    """Plot Figure 6: the share of each group's images by number of tokens needed ("+": never redrawn)."""
    import matplotlib.pyplot as plt

    figure, axis = plt.subplots(figsize=(7.5, 3.2), layout="constrained")
    most = summary["max_tokens"]
    places = np.arange(1, most + 2)
    width = 0.8 / len(summary["groups"])
    for k, (group, found) in enumerate(summary["groups"].items()):
        shares = [found["counts"][str(n)] / found["images"] for n in places]
        at = places + (k - (len(summary["groups"]) - 1) / 2) * width
        axis.bar(
            at,
            shares,
            width,
            label=group,
            color=COLOURS[k],
            hatch=HATCHES[k],
            edgecolor="white",
            linewidth=0.5,
        )
    axis.set_xticks(places, [*map(str, range(1, most + 1)), "+"])
    axis.set_xlabel("tokens needed (+: not reconstructed)")
    axis.set_ylabel("share of the group's images")
    axis.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=len(summary["groups"]))
    axis.spines[["top", "right"]].set_visible(False)
    _saved(figure, file)


def diversity(summary: Mapping[str, Any], file: Path) -> None:
    """Plot Figure 3: how often a missing element is drawn, by number of elements and kind of prompt."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained", sharex=True)
    numbers = [int(n) for n in summary]
    for axis, measure, label in (
        (axes[0], "images", "share of images that show it"),
        (axes[1], "elements", "its share of all detected elements"),
    ):
        for k, (kind, kind_label, mark, line) in enumerate(
            (("prompted", "prompt names it", "o", "-"), ("empty", "empty prompt", "s", "--"))
        ):
            points = [summary[str(n)][f"{measure} {kind}"] for n in numbers]
            means = np.array([t["mean"] for t in points])
            bounds = np.array([t["interval"] for t in points]).T
            axis.errorbar(
                numbers,
                means,
                yerr=[means - bounds[0], bounds[1] - means],
                marker=mark,
                linestyle=line,
                capsize=3,
                color=COLOURS[k],
                label=kind_label,
            )
        axis.set_xscale("log")
        axis.set_xticks(numbers, [str(n) for n in numbers])
        axis.minorticks_off()
        axis.set_ylim(-0.03, 1.03)
        axis.set_xlabel("elements in the set")
        axis.set_ylabel(label)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].legend(frameon=False)
    _saved(figure, file)


def conditions(rows: Sequence[tuple[str, Mapping[str, Any]]], file: Path) -> None:
    """Plot mean min tokens of each group under each condition, with 95 % intervals."""
    import matplotlib.pyplot as plt

    figure, axis = plt.subplots(figsize=(7.5, 0.45 * len(rows) + 1.2), layout="constrained")
    for k, group in enumerate(rows[0][1]["groups"]):
        for row, (_, summary) in enumerate(rows):
            found = summary["groups"][group]
            low, high = found["interval"]
            axis.errorbar(
                found["mean"],
                row + (k - 1) * 0.2,
                xerr=[[found["mean"] - low], [high - found["mean"]]],
                marker="os^"[k],
                color=COLOURS[k],
                capsize=2,
                label=group if row == 0 else None,
            )
    axis.set_yticks(range(len(rows)), [name for name, _ in rows])
    axis.invert_yaxis()
    axis.set_xlim(0.9, 6.1)
    axis.set_xlabel("mean tokens needed (never = one more than was tried)")
    axis.grid(axis="y", linewidth=0.3)
    axis.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    axis.spines[["top", "right", "left"]].set_visible(False)
    _saved(figure, file)


def elements(rows: Sequence[tuple[str, Mapping[str, Any]]], file: Path) -> None:
    """Plot the side panels of Figure 3: each element's share of all elements that a model draws.

    A panel for each model; elements are ordered by how often the empty prompt draws them, and the missing
    ones stand by themselves on the right.
    """
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(
        1, len(rows), figsize=(9, 3.4), layout="constrained", width_ratios=[1, 2][: len(rows)], squeeze=False
    )
    for axis, (title, shares) in zip(axes[0], rows, strict=True):
        gap = max(1.0, len(shares["empty"]["shown"]) / 12)
        order = np.lexsort([shares[kind]["shown"] for kind in ("prompted", "empty")])[::-1]
        for k, (kind, kind_label) in enumerate((("prompted", "prompt names it"), ("empty", "empty prompt"))):
            shown = np.array(shares[kind]["shown"])[order]
            missing = len(shown) + gap + np.arange(len(shares["missing"]))
            at = np.concatenate([np.arange(len(shown)), missing]) + (0.2 if k else -0.2)
            axis.bar(at, [*shown, *shares[kind]["missing"]], 0.4, color=COLOURS[k], label=kind_label)
        edge = len(shown) - 0.5 + gap / 2
        axis.axvline(edge, color="black", linewidth=0.6, linestyle=":")
        axis.text(edge, axis.get_ylim()[1], "shown  ", ha="right", va="top")
        axis.text(edge, axis.get_ylim()[1], "  missing", va="top")
        axis.set_xticks([])
        detected = " and ".join(str(shares[kind]["detected"]) for kind in ("prompted", "empty"))
        axis.set_title(f"{title} ({detected} detected)", fontsize=10)
        axis.set_ylabel("share of all detected elements")
        axis.spines[["top", "right"]].set_visible(False)
    axes[0][-1].legend(frameon=False, loc="center")
    _saved(figure, file)


def labelled_rows(
    rows: Sequence[tuple[str, Sequence[Image.Image]]], heads: Sequence[str], label: int = 170
) -> Image.Image:
    """Framed pictures in labelled rows under column heads.

    Args:
        rows: a label and its pictures, as many as there are heads.
        label: width of the labels in pixels.
    """
    head, gap = 22, 3
    wide = max(sum(p.width + gap for p in pictures) for _, pictures in rows)
    tall = sum(max(p.height for p in pictures) + gap for _, pictures in rows)
    page = Image.new("RGB", (label + wide, head + tall), "white")
    pen = ImageDraw.Draw(page)
    x = label
    for text, picture in zip(heads, rows[0][1], strict=True):
        pen.text((x + 2, 5), text, fill="black", font_size=12)
        x += picture.width + gap
    y = head
    for text, pictures in rows:
        pen.text((4, y + 4), text, fill="black", font_size=12)
        x = label
        for picture in pictures:
            page.paste(picture, (x, y))
            pen.rectangle((x - 1, y - 1, x + picture.width, y + picture.height), outline=(200, 200, 200))
            x += picture.width + gap
        y += max(p.height for p in pictures) + gap
    return page
