"""Does the number of tokens follow how often the model saw an image? (paper Section 5, Figure 6)

``python -m originality.synthetic.effect``: held-out images, 20 a group. The motif groups are of equal
complexity (three elements each, dealt from one lot) and differ only in how often the model saw them; the
pairs of Appendix E.1 are measured beside them. Each image is one line of results.jsonl, written when it is
judged: a run that was cut off goes on with the others.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from originality.scoring import Item
from originality.settings import AuditSettings, load_settings
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

PAIR_GROUPS = ("common pair", "rare pair", "unseen pair")
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


def measure(
    settings: AuditSettings, groups: Sequence[str], count: int, results: Path
) -> list[dict[str, Any]]:
    """Judge the images that have no line yet; all lines of these settings."""
    results.parent.mkdir(parents=True, exist_ok=True)
    rows = [json.loads(x) for x in results.read_text().splitlines()] if results.exists() else []
    sweep = Sweep(settings)
    model = sweep.model.digest
    rows = [r for r in rows if (r["model_digest"], r["settings_digest"]) == (model, settings.digest())]
    done = {r["image_id"] for r in rows}
    waiting = [
        (group, number, query(group, number))
        for number in range(count)
        for group in groups
        if f"{group} {number}" not in done
    ]
    total, in_flight = len(waiting) + len(done), 0
    groups_of = {f"{g} {k}": (g, s.caption) for g, k, s in waiting}
    while waiting or in_flight:
        while waiting and in_flight < sweep.capacity:
            group, number, scene = waiting.pop(0)
            sweep.admit(Item(f"{group} {number}", scene.image()))
            in_flight += 1
        for finished in sweep.step():
            in_flight -= 1
            group, caption = groups_of[finished.item_id]
            row = {**finished.record, "group": group, "caption": caption, "model_digest": model}
            rows.append(row)
            with results.open("a") as out:
                out.write(json.dumps(row) + "\n")
            distances = " ".join(f"{a['distance_mean']:.2f}" for a in row["sweep"])
            fewest = row["min_tokens"] or "+"
            print(f"{len(rows)}/{total} {finished.item_id}: {fewest} ({distances})", flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description="Min tokens against familiarity.")
    parser.add_argument("--out", type=Path, default=Path("docs/effect"))
    parser.add_argument("--count", type=int, default=20, help="images a group")
    parser.add_argument("--groups", nargs="+", default=[*GROUPS, *PAIR_GROUPS])
    parser.add_argument("--preset", default="laptop")
    parser.add_argument("--config", type=Path)
    parser.add_argument("--examples", type=Path, help="only write the example images there")
    arguments = parser.parse_args()
    if arguments.examples:
        examples(arguments.examples)
        return
    settings = load_settings(arguments.preset, arguments.config)
    rows = measure(settings, arguments.groups, arguments.count, arguments.out / "results.jsonl")
    print(write_report(rows, settings, arguments.out))


def examples(folder: Path) -> None:
    """Write the nine example images: three each of familiar, rare and unseen motifs."""
    folder.mkdir(parents=True, exist_ok=True)
    for group in ("familiar", "rare", "unseen"):
        for number in range(3):
            query(group, 100 + number).image().save(folder / f"{group}-{number + 1}.png", optimize=True)


if __name__ == "__main__":
    main()
