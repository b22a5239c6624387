"""Does the number of tokens follow how often the model saw an image? (paper Section 5, Figure 6)

``python -m originality.synthetic.effect``: held-out images, 20 a group. The motif groups are of equal
complexity (three elements each, dealt from one lot) and differ only in how often the model saw them; the
pairs of Appendix E.1 are measured beside them. Each image is one line of results.jsonl, written when it is
judged: a run that was cut off goes on with the others.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from originality.preflight import preflight
from originality.presets import load_settings
from originality.scoring import Item
from originality.settings import AuditSettings
from originality.sweep import Sweep
from originality.synthetic.dataset import (
    CommonRareUnseenSet,
    Scene,
    TaughtSet,
    clear_view,
    generator,
    motif_scene,
)
from originality.synthetic.effect_report import write_report
from originality.synthetic.motifs import GROUPS
from originality.verdict import passes

PAIR_GROUPS = ("common pair", "rare pair", "unseen pair")
CHECKPOINTS = (5, 10, 20, 40, 80, 160)
"""Optimiser steps after which steps-to-pass looks at the redraws."""

TUNED = 10
"""The settings were chosen on other images (effect_tuning) of each group's first motifs, this many: the
later ones are summed up by themselves as well. Of pairs no image is the same."""

HELD_OUT_SEED = 1
"""Training draws its scenes under seed 0."""


def query(group: str, number: int) -> Scene:
    """Held-out image ``number`` of a group, all of its elements in plain sight.

    A motif group has one image of each of its motifs in turn; a pair group varies the colours.
    """
    for attempt in range(1000):
        rng = generator("held out", HELD_OUT_SEED, group, number, attempt)
        if group in GROUPS:
            motifs = TaughtSet().motifs_of(group)
            scene = motif_scene(motifs[number % len(motifs)], rng)
        else:
            scene = CommonRareUnseenSet().pair(group.removesuffix(" pair"), rng)
        if clear_view(scene):
            return scene
    raise RuntimeError(f"no clear view of {group} {number} in 1000 draws")


@dataclass(frozen=True)
class Query:
    """A held-out image."""

    group: str
    number: int

    @property
    def image_id(self) -> str:
        return f"{self.group} {self.number}"

    @cached_property
    def scene(self) -> Scene:
        return query(self.group, self.number)


def queries(groups: Sequence[str], numbers: Iterable[int], part: str = "1/1") -> list[Query]:
    """Images of all groups by turns; of part "k/n" every nth, from the kth on."""
    k, n = map(int, part.split("/"))
    return [Query(group, number) for number in numbers for group in groups][k - 1 :: n]


def measure(settings: AuditSettings, asked: Sequence[Query], results: Path) -> list[dict[str, Any]]:
    """Judge the images that have no line yet; all lines of these settings."""
    sweep, key = Sweep(settings), preflight(settings)
    rows = _kept(results, {**key, "settings_digest": settings.digest()})
    done = {r["image_id"] for r in rows}
    waiting = [q for q in asked if q.image_id not in done]
    by_id = {q.image_id: q for q in waiting}
    total, in_flight = len(waiting) + len(done), 0
    while waiting or in_flight:
        while waiting and in_flight < sweep.capacity:
            new = waiting.pop(0)
            sweep.admit(Item(new.image_id, new.scene.image()))
            in_flight += 1
        for finished in sweep.step():
            in_flight -= 1
            own = by_id[finished.item_id]
            about = {"group": own.group, "caption": own.scene.caption}
            row: dict[str, Any] = {**finished.record, **about, **key}
            rows.append(row)
            _keep(results, row)
            means = [a["distance_mean"] for a in row["sweep"]]
            distances = " ".join("failed" if m is None else f"{m:.2f}" for m in means)
            fewest = row["min_tokens"] or ("+" if row["status"] == "judged" else row["status"])
            print(f"{len(rows)}/{total} {finished.item_id}: {fewest} ({distances})", flush=True)
    return rows


def measure_steps(
    settings: AuditSettings,
    asked: Sequence[Query],
    tokens: int,
    results: Path,
    checkpoints: Sequence[int] = CHECKPOINTS,
) -> list[dict[str, Any]]:
    """How long each image's word of ``tokens`` tokens must be trained until its distance passes.

    The same numbers as the sweep's, stopped at each of the checkpoints (steps) to look; one line an image in
    ``results``, those that have one are not measured again. All lines of these settings.
    """
    sweep = Sweep(settings)
    about = {"settings_digest": settings.digest(), "tokens": tokens, "checkpoints": list(checkpoints)}
    key = {**preflight(settings), **about}
    rows = _kept(results, key)
    done = {r["image_id"] for r in rows}
    waiting = [q for q in asked if q.image_id not in done]
    size = sweep.capacity
    for batch in (waiting[k : k + size] for k in range(0, len(waiting), size)):
        pictures = [sweep.model.fit(q.scene.image()) for q in batch]
        embedded = sweep.distance.embed(np.stack(pictures))
        lanes = [
            sweep.inverter.open(q.image_id, sweep.model.encode(picture), tokens)
            for q, picture in zip(batch, pictures, strict=True)
        ]
        passed: dict[str, int] = {}
        distances: dict[str, list[float]] = {q.image_id: [] for q in batch}
        for steps in checkpoints:
            while training := [lane for lane in lanes if not lane.failure and lane.step < steps]:
                sweep.inverter.advance(training)
            for lane, known in zip(lanes, embedded, strict=True):
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
            _keep(results, rows[-1])
            print(f"{len(rows)}: {q.image_id} with {tokens} tokens: {steps_needed or '+'} steps", flush=True)
    return rows


def _kept(results: Path, key: dict[str, Any]) -> list[dict[str, Any]]:
    """The lines of a file of results that were measured under the same key."""
    results.parent.mkdir(parents=True, exist_ok=True)
    rows = [json.loads(line) for line in results.read_text().splitlines()] if results.exists() else []
    return [row for row in rows if key.items() <= row.items()]


def _keep(results: Path, row: dict[str, Any]) -> None:
    with results.open("a") as out:
        out.write(json.dumps(row) + "\n")


def main() -> None:
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
    asked = queries(arguments.groups, range(arguments.count), part)
    rows = measure(settings, asked, arguments.out / "results.jsonl")
    asked = queries(arguments.groups, range(arguments.steps_count), part)
    steps = measure_steps(settings, asked, settings.max_tokens, arguments.out / "steps.jsonl")
    if not arguments.part:
        print(write_report(rows, steps, settings, arguments.out, TUNED))


def examples(folder: Path) -> None:
    """Write the nine example images: three each of familiar, rare and unseen motifs, the first of those
    that no setting was chosen on."""
    folder.mkdir(parents=True, exist_ok=True)
    for group in ("familiar", "rare", "unseen"):
        for number in range(3):
            query(group, 100 + TUNED + number).image().save(
                folder / f"{group}-{number + 1}.png", optimize=True
            )


if __name__ == "__main__":
    main()
