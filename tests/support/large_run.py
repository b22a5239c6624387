"""A made-up finished run of thousands of images, with pictures, for the report page."""

from __future__ import annotations

import hashlib
import io
import os
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
from jobs.auditing.verdict_table import SCHEMA
from originality.evaluation.redraw_sheet import COLUMNS, TILE
from originality.settings.presets import load_settings
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
