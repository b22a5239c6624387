"""Measure the time of ``paper`` against ``fast`` in one paired run.

One number of tokens is learned and judged for each image: batches of held-out images under ``fast-shapes``
alternate with single images under ``paper-shapes``, so that a busy machine slows both alike.
``python -m originality.bench.timing.paired --out docs/bench/paired.json``
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from originality.bench.variants import FIRST, GROUPS
from originality.contract.scorer import Finished, Item
from originality.experiments.held_out import Query, queries
from originality.settings.audit import AuditSettings
from originality.settings.presets import load_settings
from originality.sweep.sweep import Sweep

ORDER = "FPFPF"
"""F: a batch under ``fast``, P: an image under ``paper``."""

LANES = 8
"""Images of a batch under ``fast``: one for each of its lanes."""


def audit(sweep: Sweep, chosen: Sequence[Query]) -> list[Finished]:
    """Judge images from their pixels to their verdicts."""
    waiting, judged = list(chosen), list[Finished]()
    while len(judged) < len(chosen):
        while waiting and len(chosen) - len(waiting) - len(judged) < sweep.capacity:
            own = waiting.pop(0)
            sweep.admit(Item(own.image_id, own.scene.image()))
        judged += sweep.step()
    return judged


def measure(
    fast: AuditSettings, paper: AuditSettings, order: str = ORDER, batch: int = LANES
) -> dict[str, Any]:
    """Time the two presets in turns, each image used once; loading the models is not counted.

    Returns:
        Mean seconds to learn and judge one number of tokens, by the clock ("wall") and by this process's
        processor time ("cpu"), and the presets' ratios. "runs" holds each turn.
    """
    sweeps, sizes = {"F": Sweep(fast), "P": Sweep(paper)}, {"F": batch, "P": 1}
    images = _images()
    runs = []
    for number, which in enumerate(order, 1):
        chosen = list(itertools.islice(images, sizes[which]))
        started = time.perf_counter(), time.process_time()
        judged = audit(sweeps[which], chosen)
        wall, cpu = time.perf_counter() - started[0], time.process_time() - started[1]
        tokens = sum(len(done.record["sweep"]) for done in judged)
        run = {
            "preset": {"F": "fast", "P": "paper"}[which],
            "images": [own.image_id for own in chosen],
            "tokens_judged": tokens,
            "wall": wall,
            "cpu": cpu,
        }
        runs.append(run)
        pace = f"{wall / tokens:.1f} s a number of tokens, {cpu / tokens:.1f} s of processor time"
        print(f"{number}/{len(order)} {run['preset']}: {pace}", flush=True)
    return {
        "threads": torch.get_num_threads(),
        "wall": _summary(runs, "wall"),
        "cpu": _summary(runs, "cpu"),
        "runs": runs,
    }


def _images() -> Iterator[Query]:
    for number in itertools.count(FIRST):
        yield from queries(GROUPS, [number])


def _summary(runs: Sequence[dict[str, Any]], clock: str) -> dict[str, float]:
    each = {}
    for preset in ("fast", "paper"):
        own = [run for run in runs if run["preset"] == preset]
        each[preset] = sum(run[clock] for run in own) / sum(run["tokens_judged"] for run in own)
    return {
        **each,
        "fast_over_paper": each["fast"] / each["paper"],
        "paper_over_fast": each["paper"] / each["fast"],
    }


def main() -> None:
    """Run ``python -m originality.bench.timing.paired``."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--order", default=ORDER, help="F: eight images under fast; P: one under paper")
    parser.add_argument("--out", type=Path, help="write the figures there as JSON")
    arguments = parser.parse_args()
    flags = {"model": {"device": "cpu"}, "max_tokens": 1}
    found = measure(
        load_settings("fast-shapes", None, flags), load_settings("paper-shapes", None, flags), arguments.order
    )
    text = json.dumps(found, indent=1)
    print(text)
    if arguments.out:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
