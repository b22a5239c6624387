"""Measures what the engine costs beside the science: python -m tests.scale.overhead --out FILE.json"""

from __future__ import annotations

import argparse
import functools
import io
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from cluster.driver import driver
from cluster.ray_runtime.runtime import ray_running
from cluster.run.folder import plan
from cluster.settings import ClusterSettings
from cluster.storage.store import open_store
from cluster.worker.messages import Task
from cluster.worker.metrics import Metrics
from tests.scale.sleeper import Sleeper
from tests.support.places import ROOT

SHORT = (
    *("--set", "inversion.steps=1", "--set", "inversion.batch_size=2", "--set", "inversion.lanes=1"),
    *("--set", "redraw.count=2", "--set", "redraw.steps=2", "--max-tokens", "1", "--device", "cpu"),
)
ALONE = """
import sys, numpy, PIL.Image
from originality.contract.scorer import Item
from originality.sweep.sweep import build_scorer
from jobs import audit
from jobs.commandline import options
import argparse
parser = argparse.ArgumentParser()
audit.add_arguments(parser)
scorer = build_scorer(options.settings_of(parser.parse_args(sys.argv[1:])))
scorer.admit(Item("0" * 64, PIL.Image.open(sys.argv[1])))
while not scorer.step():
    pass
"""


def between_images(folder: Path, images: int, seconds: float, workers: int) -> dict[str, Any]:
    """Wall time of ``images`` that take ``seconds`` each on ``workers``, from the start of the first to the
    end of the last, and the least that is possible."""
    source = folder / "in"
    source.mkdir()
    for i in range(images):
        Image.fromarray(np.full((8, 8, 3), (i // 256, i % 256, 0), np.uint8)).save(source / f"{i}.png")
    with ray_running():
        run = plan(str(source), open_store(str(folder / "run")), {})
        how = ClusterSettings(min_workers=workers, max_workers=workers, cpus_per_worker=0.1)
        task = Task(run.store.url, functools.partial(Sleeper, seconds), {})
        driver.run(task, run.leases(np.arange(images)), how, gpu=False, stream=io.StringIO())
    rows = list(run.ledger.rows())
    assert len(rows) == images
    wall = max(row["ended"] for row in rows) - min(row["began"] for row in rows)
    ideal = seconds * -(-images // workers)
    return {
        "images": images,
        "seconds_each": seconds,
        "workers": workers,
        "ideal_seconds": ideal,
        "wall_seconds": round(wall, 2),
        "over_ideal_percent": round(100 * (wall / ideal - 1), 2),
    }


def one_measurement(calls: int = 10_000) -> float:
    """Microseconds that measuring the time of one stage costs, with Ray running."""
    metrics = Metrics()
    with ray_running():
        began = time.monotonic()
        for _ in range(calls):
            with metrics.stage("step"):
                pass
        return round(1e6 * (time.monotonic() - began) / calls, 1)


def cold_start(folder: Path) -> dict[str, Any]:
    """Seconds of an audit of one image, and of a process that loads the model and judges it without the
    engine."""
    image = str(ROOT / "examples" / "familiar-1.png")
    alone = _timed([sys.executable, "-c", ALONE, image, *SHORT])
    out = str(folder / "cold")
    audit = _timed([sys.executable, "-m", "jobs.cli", "audit", image, "--out", out, *SHORT])
    return {"alone_seconds": alone, "audit_seconds": audit, "added_seconds": round(audit - alone, 1)}


def _timed(command: list[str]) -> float:
    began = time.monotonic()
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return round(time.monotonic() - began, 1)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        told = {
            "command": "make scale",
            "between images": between_images(Path(folder), 200, 2.0, 4),
            "microseconds of a metric": one_measurement(),
            "cold start": cold_start(Path(folder)),
        }
    print(json.dumps(told, indent=1))
    if arguments.out:
        arguments.out.write_text(json.dumps(told, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
