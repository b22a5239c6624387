"""The report of thousands of images in a real browser: python -m tests.scale.page --images N --out FILE.json

A run folder is made up: names, verdicts and pictures of the sizes that Stable Diffusion leaves. Then the
report is written, as ``originality report`` does, and opened by a headless Chromium from its file.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import platform
import resource
import shutil
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from cluster.inputs.manifest import SCHEMA as INPUTS
from cluster.inputs.manifest import Manifest
from cluster.run.folder import RunFolder, plan
from cluster.storage.store import open_store
from jobs.auditing.report_data import write_report
from jobs.auditing.verdict_table import SCHEMA
from originality.evaluation.redraw_sheet import COLUMNS, TILE
from originality.settings.presets import load_settings
from tests.support import chromium
from tests.support.example_runs import attempt

PART = 10_000
"""Rows in one part of the table."""
PROBLEMS = (("rejected", "truncated"), ("rejected", "not-an-image"), ("failed", "missing"))


def run_folder(folder: Path, images: int, tile: int = TILE) -> RunFolder:
    """Makes a finished run of so many images, one in twenty of them not judged. ``tile``: pixels of a
    redraw."""
    names = [f"{number // 1000:04}/photograph-{number:07}.jpg" for number in range(images)]
    uris = pa.array([f"/data/{name}" for name in names], pa.string())
    table = pa.table([uris, pa.nulls(images, pa.int64())], INPUTS)
    settings = load_settings("paper", flags={"domain": "houses"})
    identity = {
        "settings": settings.model_dump(mode="json"),
        "model_digest": "ab" * 32,
        "settings_digest": settings.digest(),
    }
    store = open_store(str(folder))
    run = plan("/data", store, identity, listing=lambda _: Manifest("/data", table))
    ids = [hashlib.sha256(name.encode()).hexdigest() for name in names]
    for number, image_id in enumerate(ids):
        run.identities.learn(number, image_id)
    run.identities.save()
    for start in range(0, images, PART):
        rows = [row(number, ids[number]) for number in range(start, min(start + PART, images))]
        buffer = io.BytesIO()
        pq.write_table(pa.Table.from_pylist(rows, SCHEMA), buffer)
        store.write(f"verdicts/part-{start:016}.parquet", buffer.getvalue())
        for judged in (r for r in rows if r["status"] == "judged"):
            link(folder, judged["image_id"], len(judged["sweep"]), tile)
    return RunFolder(store)


def row(number: int, image_id: str) -> dict[str, Any]:
    blank = {"image_id": image_id, "finished_at": datetime(2026, 11, 22, tzinfo=UTC), "max_tokens": 5}
    if number % 20 == 7:
        status, error = PROBLEMS[number // 20 % len(PROBLEMS)]
        return {
            **blank,
            "status": status,
            "error_class": error,
            "error_message": f"{error}: as the decoder says",
        }
    dice = np.random.default_rng(number)
    tokens = int(dice.integers(1, 7))
    tried = min(tokens, 5)
    distances = dice.uniform(0.1, 0.9, tried)
    sweep = [attempt(m, float(distances[m - 1]), m == tokens).model_dump() for m in range(1, tried + 1)]
    found = None if tokens > 5 else tokens
    return {**blank, "status": "judged", "min_tokens": found, "censored": found is None, "sweep": sweep}


def link(folder: Path, image_id: str, attempts: int, tile: int) -> None:
    """Pictures of one image. Images with the same number of attempts share them, which saves space on the
    disk and makes no difference to the page."""
    place = folder / "images" / image_id
    place.mkdir(parents=True)
    for name, width, height in (("query", 512, 512), ("redraws", COLUMNS * tile, attempts * tile)):
        shared = folder / f"{name}-{attempts}.webp"
        if not shared.exists():
            photograph(width, height).save(shared, "WEBP", lossless=True)
        os.link(shared, place / f"{name}.webp")


def photograph(width: int, height: int) -> Image.Image:
    """Noise of several scales, with roughly as much detail as a photograph."""
    dice = np.random.default_rng(width * height)
    layers = []
    for grain in (64, 16, 4):
        noise = dice.integers(0, 255, (-(-height // grain), -(-width // grain), 3), np.uint8)
        layers.append(Image.fromarray(noise).resize((width, height)))
    return Image.blend(Image.blend(layers[0], layers[1], 0.4), layers[2], 0.15)


def seen(page: chromium.Page, file: Path) -> dict[str, Any]:
    """Measures opening and printing the page."""
    page.open(file)
    paint = page.run(
        "performance.getEntriesByType('paint').find(e => e.name === 'first-contentful-paint').startTime"
    )
    loaded = page.run("performance.getEntriesByType('navigation')[0].loadEventEnd")
    nodes = page.run("document.querySelectorAll('*').length")
    began = time.monotonic()
    page.run("document.querySelector('[data-sort=name] button').click()")
    while page.run("document.querySelector('th[data-sort=name]').ariaSort") != "ascending":
        page.settle()
    sorted_in = time.monotonic() - began
    return {
        "first_contentful_paint_ms": round(paint),
        "load_ms": round(loaded),
        "elements": nodes,
        "sort_all_rows_by_name_ms": round(1000 * sorted_in),
        "printed_pages": page.printed_pages(),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, nargs="+", default=[10_000])
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    binary = chromium.find()
    assert binary, "no Chromium: run scripts/install-chromium.sh"
    told: dict[str, Any] = {
        "command": "python -m tests.scale.page --images " + " ".join(str(n) for n in arguments.images),
        "machine": f"{os.cpu_count()} cores, Python {platform.python_version()}",
    }
    for images in arguments.images:
        folder = Path(tempfile.mkdtemp(prefix="page-"))
        try:
            run = run_folder(folder / "run", images)
            began = time.monotonic()
            file = Path(write_report(run))
            found: dict[str, Any] = {"seconds_to_write": round(time.monotonic() - began, 1)}
            found["peak_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
            found["page_bytes"] = file.stat().st_size
            found["report_bytes"] = sum(f.stat().st_size for f in file.parent.rglob("*") if f.is_file())
            with chromium.browse(binary, folder / "profile") as page:
                found |= seen(page, file)
        finally:
            shutil.rmtree(folder)
        told[f"{images} images"] = found
        print(images, found, flush=True)
    if arguments.out:
        arguments.out.write_text(json.dumps(told, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
