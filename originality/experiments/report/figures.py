"""The experiments' figures: for print and for colour-blind readers (Okabe and Ito's palette, and hatches)."""

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
    """Figure 6: how many images of each group need how many tokens; "+" for those never reconstructed."""
    import matplotlib.pyplot as plt

    figure, axis = plt.subplots(figsize=(7.5, 3.2), layout="constrained")
    most = summary["max_tokens"]
    places = np.arange(1, most + 2)
    width = 0.8 / len(summary["groups"])
    for k, (group, told) in enumerate(summary["groups"].items()):
        shares = [told["counts"][str(n)] / told["images"] for n in places]
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
    """Figure 3: how often a missing element is drawn, against the number of elements, by kind of prompt."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained", sharex=True)
    numbers = [int(n) for n in summary]
    for axis, measure, label in (
        (axes[0], "images", "share of images that show it"),
        (axes[1], "elements", "its share of all detected elements"),
    ):
        for k, (kind, said, mark, line) in enumerate(
            (("prompted", "prompt names it", "o", "-"), ("empty", "empty prompt", "s", "--"))
        ):
            told = [summary[str(n)][f"{measure} {kind}"] for n in numbers]
            means = np.array([t["mean"] for t in told])
            bounds = np.array([t["interval"] for t in told]).T
            axis.errorbar(
                numbers,
                means,
                yerr=[means - bounds[0], bounds[1] - means],
                marker=mark,
                linestyle=line,
                capsize=3,
                color=COLOURS[k],
                label=said,
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
    """Mean min tokens of each group under each condition, with 95 % intervals."""
    import matplotlib.pyplot as plt

    figure, axis = plt.subplots(figsize=(7.5, 0.45 * len(rows) + 1.2), layout="constrained")
    for k, group in enumerate(rows[0][1]["groups"]):
        for row, (_, summary) in enumerate(rows):
            told = summary["groups"][group]
            low, high = told["interval"]
            axis.errorbar(
                told["mean"],
                row + (k - 1) * 0.2,
                xerr=[[told["mean"] - low], [high - told["mean"]]],
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
    """Figure 3's sides: each element's share of all that a model draws, those first that the empty prompt
    draws most often, the missing ones apart; a panel for each model."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(
        1, len(rows), figsize=(9, 3.4), layout="constrained", width_ratios=[1, 2][: len(rows)], squeeze=False
    )
    for axis, (title, told) in zip(axes[0], rows, strict=True):
        apart = max(1.0, len(told["empty"]["shown"]) / 12)
        order = np.lexsort([told[kind]["shown"] for kind in ("prompted", "empty")])[::-1]
        for k, (kind, said) in enumerate((("prompted", "prompt names it"), ("empty", "empty prompt"))):
            shown = np.array(told[kind]["shown"])[order]
            missing = len(shown) + apart + np.arange(len(told["missing"]))
            at = np.concatenate([np.arange(len(shown)), missing]) + (0.2 if k else -0.2)
            axis.bar(at, [*shown, *told[kind]["missing"]], 0.4, color=COLOURS[k], label=said)
        edge = len(shown) - 0.5 + apart / 2
        axis.axvline(edge, color="black", linewidth=0.6, linestyle=":")
        axis.text(edge, axis.get_ylim()[1], "shown  ", ha="right", va="top")
        axis.text(edge, axis.get_ylim()[1], "  missing", va="top")
        axis.set_xticks([])
        detected = " and ".join(str(told[kind]["detected"]) for kind in ("prompted", "empty"))
        axis.set_title(f"{title} ({detected} detected)", fontsize=10)
        axis.set_ylabel("share of all detected elements")
        axis.spines[["top", "right"]].set_visible(False)
    axes[0][-1].legend(frameon=False, loc="center")
    _saved(figure, file)


def labelled_rows(
    rows: Sequence[tuple[str, Sequence[Image.Image]]], heads: Sequence[str], label: int = 170
) -> Image.Image:
    """Framed pictures in rows behind a label each (so many pixels wide), under column heads (as many as
    pictures of a row)."""
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
