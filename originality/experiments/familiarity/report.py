"""Report of min tokens against familiarity: group means, differences and rank correlations with intervals."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

from originality.experiments.statistics import (
    average_by_kind,
    contrast,
    differences,
    mean_interval,
    rho,
    rho_interval,
)
from originality.settings.audit import AuditSettings
from originality.shapes.elements import elements_of
from originality.shapes.motifs import GROUP_SHARE, GROUPS

matplotlib.use("Agg")

SHARE = {**GROUP_SHARE, "unseen": 0.0, "common pair": 0.3, "rare pair": 0.001, "unseen pair": 0.0}
"""Share of the training images that show one motif (for pairs: the entire group)."""

PAIRS = tuple(group for group in SHARE if group.endswith("pair"))
"""The groups of pairs of Appendix E.1."""

INK = ("#0072b2", "#56b4e9", "#009e73", "#e69f00", "#d55e00", "#999999")
"""Okabe and Ito's colour-blind safe palette, from one token to never."""


def tokens_of(row: dict[str, Any]) -> int:
    """Min tokens of a verdict; one more than the largest number tried if none passed."""
    return row["min_tokens"] or row["max_tokens"] + 1


def summarise(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Means, shares of one token, differences of neighbouring groups and rho, with intervals.

    Images that could not be judged (an inversion that diverged) belong to no group; "failed" counts them.
    """
    all_rows = rows
    rows = [r for r in rows if r["status"] == "judged"]
    by_group = {
        group: np.array([[tokens_of(r) for r in rows if r["group"] == group]], float)
        for group in SHARE
        if any(r["group"] == group for r in rows)
    }
    summary: dict[str, Any] = {
        "images": len(rows),
        "failed": len(all_rows) - len(rows),
        "groups": {},
        "differences": {},
        "rho": {},
    }
    for group, values in by_group.items():
        at_one = [r["sweep"][0]["distance_mean"] for r in rows if r["group"] == group]
        first = [d for d in at_one if d is not None] or [math.nan]
        low, high = mean_interval(values)
        most = rows[0]["max_tokens"]
        summary["groups"][group] = {
            "images": values.size,
            "share": SHARE[group],
            "mean_min_tokens": round(float(values.mean()), 3),
            "interval": (max(1.0, low), min(most + 1.0, high)),
            "one_token": round(float((values == 1).mean()), 3),
            "never": round(float((values > most).mean()), 3),
            "distance_at_one_token": round(float(np.mean(first)), 3),
            "counts": {str(k): int((values == k).sum()) for k in np.unique(values).astype(int)},
        }
    motifs = [g for g in GROUPS if g in by_group]
    pairs = [g for g in by_group if g.endswith("pair")]
    contrasts = [*itertools.pairwise(motifs), *itertools.pairwise(pairs)]
    contrasts += [("familiar", "unseen"), ("rare", "unseen"), ("common pair", "unseen pair")]
    for a, b in dict.fromkeys(contrasts):
        if a in by_group and b in by_group:
            summary["differences"][f"{b} - {a}"] = contrast((by_group[a], -1), (by_group[b], 1))
    for name, chosen in (
        ("motifs", motifs),
        ("familiar, rare, unseen", [g for g in ("familiar", "rare", "unseen") if g in by_group]),
        ("pairs of E.1", pairs),
    ):
        if len(chosen) > 1:
            found = {g: by_group[g] for g in chosen}
            summary["rho"][name] = {"rho": round(rho(found), 3), "interval": rho_interval(found)}
    return summary


def by_colours(rows: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Pairs of one colour and of two, by group: number of images, mean tokens, and how many need one
    token."""
    tokens: dict[str, dict[str, Any]] = {}
    for row in rows:
        if row["group"].endswith("pair") and row["status"] == "judged":
            count = len({element.colour for element in elements_of(row["caption"])})
            name = "one colour" if count == 1 else "two colours"
            tokens.setdefault(name, {}).setdefault(row["group"], []).append(tokens_of(row))
    return {
        name: {
            group: {
                "images": len(found),
                "mean_min_tokens": round(float(np.mean(found)), 3),
                "one_token": found.count(1),
            }
            for group, found in sorted(groups.items())
        }
        for name, groups in sorted(tokens.items())
    }


def by_pair(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Differences of the groups of pairs where each pair of colours counts once, by its images' mean."""
    kinds: dict[str, list[str]] = {group: [] for group in PAIRS}
    found: dict[str, list[int]] = {group: [] for group in PAIRS}
    for row in rows:
        if row["group"] in PAIRS and row["status"] == "judged":
            kinds[row["group"]].append(row["caption"])
            found[row["group"]].append(tokens_of(row))
    tokens = {group: np.array([values], float) for group, values in found.items()}
    return {
        "pairs": {group: len(set(of)) for group, of in kinds.items()},
        "differences": differences(average_by_kind(tokens, kinds)),
    }


def summarise_steps(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Median steps to pass by group (None if more than half never passed), and rho over the motif groups."""
    never = math.inf
    by_group = {
        group: np.array([r["steps"] or never for r in rows if r["group"] == group], float)
        for group in SHARE
        if any(r["group"] == group for r in rows)
    }
    motifs = [g for g in GROUPS if g in by_group]
    return {
        "tokens": rows[0]["tokens"],
        "groups": {
            group: {
                "images": len(v),
                "median_steps": None if np.median(v) == never else float(np.median(v)),
                "passed": round(float(np.isfinite(v).mean()), 3),
            }
            for group, v in by_group.items()
        },
        "rho": round(rho({g: by_group[g][None] for g in motifs}), 3) if len(motifs) > 1 else None,
    }


def plot(rows: Sequence[dict[str, Any]], file: Path) -> None:
    """Plot stacked shares of min tokens by group, with "+" for never."""
    import matplotlib.pyplot as plt

    groups = [g for g in SHARE if any(r["group"] == g for r in rows)]
    most = rows[0]["max_tokens"]
    figure, axis = plt.subplots(figsize=(7.5, 0.55 * len(groups) + 1.4), layout="constrained")
    left = np.zeros(len(groups))
    for tokens in range(1, most + 2):
        share = np.array(
            [np.mean([tokens_of(r) == tokens for r in rows if r["group"] == group]) for group in groups]
        )
        label = str(tokens) if tokens <= most else "+"
        bars = axis.barh(groups, share, left=left, color=INK[(tokens - 1) % 6], edgecolor="white")
        axis.bar_label(
            bars,
            [label if s >= 0.05 else "" for s in share],
            label_type="center",
            color="white",
            fontweight="bold",
        )
        left += share
    axis.invert_yaxis()
    axis.set_xlim(0, 1)
    axis.set_xlabel("share of the group's images; number = min tokens, + = never redrawn")
    axis.spines[["top", "right", "left"]].set_visible(False)
    axis.set_title("Tokens needed, by how often the model saw the composition", loc="left")
    figure.savefig(file, dpi=130)
    plt.close(figure)


def table(summary: dict[str, Any]) -> str:
    """The groups as a Markdown table."""
    steps = summary["steps_to_pass"]
    lines = [
        "| group | seen | images | mean min tokens | one token | never | distance at m = 1 | "
        f"median steps to pass with {steps['tokens']} tokens |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for group, g in summary["groups"].items():
        low, high = g["interval"]
        own = steps["groups"].get(group, {})
        median = f"{own['median_steps']:.0f}" if own.get("median_steps") else "never"
        lines.append(
            f"| {group} | {100 * g['share']:.3g} % | {g['images']} | {g['mean_min_tokens']:.2f} "
            f"[{low:.2f}, {high:.2f}] | {100 * g['one_token']:.0f} % | {100 * g['never']:.0f} % | "
            f"{g['distance_at_one_token']:.2f} | {median if own else ''} |"
        )
    return "\n".join(lines)


def write_report(
    rows: Sequence[dict[str, Any]],
    steps: Sequence[dict[str, Any]],
    settings: AuditSettings,
    folder: Path,
    tuned: int = 0,
) -> str:
    """Write summary.json and min-tokens.png.

    Args:
        tuned: motif images with smaller numbers show motifs that the settings were chosen on; the others are
            also summarised separately, under "untouched".

    Returns:
        The table of groups and the correlations and differences, as text.
    """
    summary = summarise(rows)
    untouched = [r for r in rows if r["group"] in GROUPS and _number(r) >= tuned]
    summary["untouched"] = summarise(untouched)
    summary["pairs_by_colours"] = by_colours(rows)
    if {row["group"] for row in rows} >= set(PAIRS):
        summary["each_pair_once"] = by_pair(rows)
    summary["steps_to_pass"] = summarise_steps(steps)
    summary["settings"] = settings.model_dump(mode="json")
    summary["model_digest"] = rows[0]["model_digest"]
    (folder / "summary.json").write_text(json.dumps(summary, indent=1) + "\n")
    plot([r for r in rows if r["status"] == "judged"], folder / "min-tokens.png")
    notes = _notes(summary)
    notes.append(f"rho of steps to pass (motifs): {summary['steps_to_pass']['rho']}")
    if untouched:
        shares = [f"{g} {100 * v['one_token']:.0f} %" for g, v in summary["untouched"]["groups"].items()]
        notes += [
            "",
            f"Motifs from number {tuned} on only; one token: {', '.join(shares)}",
            *_notes(summary["untouched"]),
        ]
    return "\n".join([table(summary), "", *notes])


def _number(row: dict[str, Any]) -> int:
    """The image's number within its group."""
    return int(row["image_id"].rpartition(" ")[2])


def _notes(summary: dict[str, Any]) -> list[str]:
    notes = [f"rho ({n}): {r['rho']} {r['interval']}" for n, r in summary["rho"].items()]
    return notes + [f"{n}: {d['mean']:+} {d['interval']}" for n, d in summary["differences"].items()]
