"""Measure min tokens against how often the model saw an image (paper Section 5, Figure 6).

``python -m originality.experiments.familiarity.study``: held-out images, 20 a group. The motif groups have
equal complexity (three elements each, drawn in one lot) and differ only in how often the model saw them; the
pairs of Appendix E.1 are measured beside them. Each image is one line of results.jsonl, written when it is
judged, so that an interrupted run resumes with the remaining images.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from originality.evaluation.verdict import passes
from originality.experiments.familiarity.report import write_report
from originality.experiments.held_out import Query, keep, kept, measure, queries, query
from originality.settings.audit import AuditSettings
from originality.settings.presets import load_settings
from originality.shapes.motifs import GROUPS
from originality.sweep.preflight import preflight
from originality.sweep.sweep import Sweep

PAIR_GROUPS = ("common pair", "rare pair", "unseen pair")
CHECKPOINTS = (5, 10, 20, 40, 80, 160)
"""Optimiser steps after which the steps-to-pass measurement judges the redraws."""

TUNED = 10
"""Settings were chosen on other images of this many first motifs of each group
(originality.experiments.familiarity.tuning), so the later motifs are also summarised separately. No image of
pairs was used in tuning."""


def measure_steps(
    settings: AuditSettings,
    chosen: Sequence[Query],
    tokens: int,
    results: Path,
    checkpoints: Sequence[int] = CHECKPOINTS,
) -> list[dict[str, Any]]:
    """Measure how many steps a word of ``tokens`` tokens must be trained until its distance passes.

    Training is the sweep's own, paused at each checkpoint to judge the redraws. Each image is one line in
    ``results``; images that have a line are not measured again.

    Args:
        checkpoints: optimiser steps.

    Returns:
        All lines of these settings.
    """
    sweep = Sweep(settings)
    about = {"settings_digest": settings.digest(), "tokens": tokens, "checkpoints": list(checkpoints)}
    key = {**preflight(settings), **about}
    rows = kept(results, key)
    done = {r["image_id"] for r in rows}
    waiting = [q for q in chosen if q.image_id not in done]
    size = sweep.inverter.lanes
    for batch in (waiting[k : k + size] for k in range(0, len(waiting), size)):
        pictures = [sweep.model.fit(q.scene.image()) for q in batch]
        embedded = sweep.distance.embed(np.stack(pictures))
        lanes = [
            sweep.inverter.open(q.image_id, sweep.inverter.encode(picture), tokens)
            for q, picture in zip(batch, pictures, strict=True)
        ]
        passed: dict[str, int] = {}
        distances: dict[str, list[float]] = {q.image_id: [] for q in batch}
        for steps in checkpoints:
            while training := [lane for lane in lanes if not lane.failure and lane.step < steps]:
                sweep.inverter.advance(training)
            for lane, known in zip(lanes, embedded, strict=True):
                lane.read_losses()
                if lane.image_id in passed or lane.failure:
                    continue
                redraws = sweep.draw(lane.image_id, lane.vectors.detach(), settings.redraw.prompt)
                mean = float(np.mean(sweep.distance.between(known, sweep.distance.embed(redraws))))
                distances[lane.image_id].append(round(mean, 4))
                if passes(mean, settings.distance.threshold, None):
                    passed[lane.image_id] = steps
            if len(passed) == len(lanes):
                break
        for q in batch:
            steps_needed = passed.get(q.image_id)
            found = {"image_id": q.image_id, "group": q.group, "steps": steps_needed}
            rows.append({**found, "distances": distances[q.image_id], **key})
            keep(results, rows[-1])
            print(f"{len(rows)}: {q.image_id} with {tokens} tokens: {steps_needed or '+'} steps", flush=True)
    return rows


def main() -> None:
    """Run ``python -m originality.experiments.familiarity.study``."""
    parser = argparse.ArgumentParser(description="Min tokens against familiarity.")
    parser.add_argument("--out", type=Path, default=Path("docs/effect"))
    parser.add_argument("--count", type=int, default=20, help="images a group")
    parser.add_argument("--steps-count", type=int, default=10, help="images a group for steps-to-pass")
    parser.add_argument("--groups", nargs="+", default=[*GROUPS, *PAIR_GROUPS])
    parser.add_argument("--preset", default="laptop")
    parser.add_argument("--config", type=Path)
    parser.add_argument("--part", help="K/N: measure only the Kth of N parts, and write no report")
    parser.add_argument("--examples", type=Path, help="only write the example images there")
    arguments = parser.parse_args()
    if arguments.examples:
        examples(arguments.examples)
        return
    settings = load_settings(arguments.preset, arguments.config)
    part = arguments.part or "1/1"
    chosen = queries(arguments.groups, range(arguments.count), part)
    rows = measure(Sweep(settings), chosen, arguments.out / "results.jsonl")
    chosen = queries(arguments.groups, range(arguments.steps_count), part)
    steps = measure_steps(settings, chosen, settings.max_tokens, arguments.out / "steps.jsonl")
    if not arguments.part:
        print(write_report(rows, steps, settings, arguments.out, TUNED))


def examples(folder: Path) -> None:
    """Write the nine example images: three each of familiar, rare and unseen motifs.

    They are of the first motifs that no setting was chosen on.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for group in ("familiar", "rare", "unseen"):
        for number in range(3):
            query(group, 100 + TUNED + number).image().save(
                folder / f"{group}-{number + 1}.png", optimize=True
            )


if __name__ == "__main__":
    main()
