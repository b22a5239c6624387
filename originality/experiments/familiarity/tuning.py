"""Measure the redraws' distance by group and number of steps; the preset ``laptop`` was chosen by this.

``python -m originality.experiments.familiarity.tuning --tokens 1 5 --settings '{"inversion": {"steps":
160}}'``: the images are not those that measure the effect. Each is one line of a file, and an interrupted
run resumes.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from originality.experiments.familiarity import study
from originality.experiments.held_out import queries
from originality.settings.presets import load_settings
from originality.shapes.motifs import GROUPS

FIRST = 200
"""Number of a group's first image; those that measure the effect begin at 0."""

THRESHOLDS = (0.25, 0.3, 0.35, 0.4)


def table(rows: Sequence[dict[str, Any]], checkpoints: Sequence[int]) -> str:
    """Mean distance of each group after each checkpoint, and the shares of images under each threshold."""
    groups = list(dict.fromkeys(r["group"] for r in rows))
    lines = ["| steps | " + " | ".join(groups) + " |", "|---" * (len(groups) + 1) + "|"]
    for k, steps in enumerate(checkpoints):
        cells = []
        for group in groups:
            distances = np.array(
                [r["distances"][k] for r in rows if r["group"] == group and len(r["distances"]) > k]
            )
            if not len(distances):
                continue
            shares = "/".join(f"{100 * (distances < t).mean():.0f}" for t in THRESHOLDS)
            cells.append(f"{distances.mean():.2f} ({shares})")
        if cells:
            lines.append(f"| {steps} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Run ``python -m originality.experiments.familiarity.tuning``."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("runs/tuning"))
    parser.add_argument("--tokens", type=int, nargs="+", default=[1])
    parser.add_argument("--count", type=int, default=5, help="images a group")
    parser.add_argument("--first", type=int, default=FIRST, help="number of a group's first image")
    parser.add_argument("--checkpoints", type=int, nargs="+", default=study.CHECKPOINTS, help="steps")
    parser.add_argument("--groups", nargs="+", default=GROUPS)
    parser.add_argument("--preset", default="laptop")
    parser.add_argument("--settings", type=json.loads, default={}, help="JSON over the preset's settings")
    arguments = parser.parse_args()
    never = {"distance": {"threshold": 0.0}}  # no distance passes, so every checkpoint is measured
    settings = load_settings(arguments.preset, None, {**arguments.settings, **never})
    under = "/".join(f"{t:g}" for t in THRESHOLDS)
    for tokens in arguments.tokens:
        chosen = queries(arguments.groups, range(arguments.first, arguments.first + arguments.count))
        rows = study.measure_steps(
            settings, chosen, tokens, arguments.out / "distances.jsonl", arguments.checkpoints
        )
        print(f"\n{tokens} tokens; mean distance (% of images under {under})\n")
        print(table(rows, arguments.checkpoints), flush=True)


if __name__ == "__main__":
    main()
