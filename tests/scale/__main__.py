"""The engine with a million images and a scorer that takes no time: python -m tests.scale --out FILE.json

Real files, real Ray, real records; only the science is missing. Each stage is a separate process, whose
peak memory is the driver's.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import shutil
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cluster.inputs.manifest import Selection
from cluster.run.folder import RunFolder, open_run
from cluster.settings import ClusterSettings
from jobs.auditing.audit_run import audit_session, judge, plan_audit
from jobs.auditing.prepare import PreparedAudit
from jobs.auditing.report_data import write_report
from jobs.auditing.verdict_table import SCHEMA, summarise
from originality.settings.presets import load_settings
from tests.scale.instant import Instant


def paint(folder: Path, count: int) -> None:
    """Writes different images of 2 x 2 pixels, a thousand in each folder."""
    header = (
        b"BM"
        + struct.pack("<IHHI", 70, 0, 0, 54)
        + struct.pack("<IiiHHIIiiII", 40, 2, 2, 1, 24, 0, 16, 0, 0, 0, 0)
    )
    for number in range(count):
        place = folder / f"{number // 1000:04}"
        if number % 1000 == 0:
            place.mkdir(parents=True)
        pixels = struct.pack("<Q", number)
        (place / f"{number % 1000:03}.bmp").write_bytes(header + pixels[:6] + b"\0\0" + pixels[2:] + b"\0\0")


def plan(run: Path, images: Path) -> dict[str, Any]:
    return {"inputs": len(_planned(run, images).manifest)}


def work(run: Path, images: Path) -> dict[str, Any]:
    """Judges half of the inputs, or all that are left."""
    began = time.monotonic()
    folder = _planned(run, images)
    numbers = Selection().numbers(folder.manifest)
    leases = folder.leases(numbers)
    waiting = leases.open
    ready = time.monotonic() - began
    half = Selection(limit=len(numbers) // 2 if waiting == len(numbers) else None)
    del leases
    started = time.monotonic()
    with audit_session(folder, half) as session:
        outcome = judge(_SCIENCE, session, ClusterSettings(snapshot_every=1e9))
    assert outcome is not None
    seconds = time.monotonic() - started
    done = outcome.counts["judged"]
    return {
        "waiting": waiting,
        "seconds_until_leases": round(ready, 1),
        "verdicts": done,
        "verdicts_per_second": round(done / seconds),
        "workers": outcome.workers,
    }


def compact(run: Path, images: Path) -> dict[str, Any]:
    return {"parts": len(open_run(str(run)).ledger.compact(SCHEMA))}


def report(run: Path, images: Path) -> dict[str, Any]:
    folder = open_run(str(run))
    messages = summarise(folder)
    write_report(folder)
    return {key: messages[key] for key in ("inputs", "images", "judged", "pending")}


_SCIENCE = PreparedAudit(load_settings(flags={"model": {"device": "cpu"}}), Instant, {})


def _planned(run: Path, images: Path) -> RunFolder:
    return plan_audit(_SCIENCE, str(images), str(run))


STAGES: dict[str, Callable[[Path, Path], dict[str, Any]]] = {
    "plan": plan,
    "first half": work,
    "resume, second half": work,
    "compact": compact,
    "summary and report": report,
}


def measured(stage: str, run: Path, images: Path) -> dict[str, Any]:
    """Runs a stage in a separate process."""
    command = [sys.executable, "-m", "tests.scale", "--stage", stage, "--folder", str(run.parent)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=1_000_000)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--stage", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.stage:
        run, images = arguments.folder / "run", arguments.folder / "images"
        began = time.monotonic()
        messages = STAGES[arguments.stage](run, images)
        messages["seconds"] = round(time.monotonic() - began, 1)
        messages["peak_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        print(json.dumps(messages))
        return 0
    folder = Path(tempfile.mkdtemp(prefix="scale-"))
    try:
        paint(folder / "images", arguments.images)
        result: dict[str, Any] = {
            "command": f"make scale IMAGES={arguments.images}",
            "machine": f"{os.cpu_count()} cores, Python {platform.python_version()}",
        }
        for stage in STAGES:
            result[stage] = measured(stage, folder / "run", folder / "images")
            print(stage, result[stage], flush=True)
    finally:
        shutil.rmtree(folder)
    if arguments.out:
        arguments.out.write_text(json.dumps(result, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
