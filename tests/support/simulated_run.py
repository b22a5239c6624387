"""A made-up finished run of any number of images, written as columns: a million take a minute.

It has no pictures."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pyarrow as pa

from cluster.inputs.manifest import LISTED_AS, Manifest
from cluster.run.folder import RunFolder, plan
from cluster.run.layout import inputs_part_path, verdicts_part_path
from cluster.storage.checksums import parquet_bytes
from cluster.storage.store import open_store
from jobs.auditing.verdict_table import ATTEMPT, SCHEMA
from originality.settings.presets import load_settings

MAX_TOKENS = 5
REDRAWS = 20
INPUTS_PART = 50_000
VERDICTS_PART = 10_000
ARTISTS = 5_000
WORDS = ("red", "blue", "green", "old", "small", "bright", "house", "tree", "river", "cat", "painting", "of")


def simulated_run(folder: Path, images: int, seed: int = 0) -> RunFolder:
    """Make a run with the columns artist, year and caption, one in twenty images not judged.

    Args:
        folder: of the run.
        images: how many.
        seed: of the verdicts; the images are the same under every seed.
    """
    listed = _listed(images)
    manifest = Manifest("", listed)
    settings = load_settings("paper", flags={"domain": "houses"})
    identity = {"settings": settings.model_dump(mode="json"), "model_digest": "ab" * 32, "made_up": seed}
    store = open_store(str(folder))
    plan("list.csv", store, identity, listing=lambda _: manifest)
    ids = pa.array([hashlib.sha256(str(number).encode()).hexdigest() for number in range(images)])
    for start in range(0, images, INPUTS_PART):
        numbers = np.arange(start, min(start + INPUTS_PART, images))
        part = pa.table(
            {"number": numbers, "uri": listed["uri"].take(numbers), "image_id": ids.take(numbers)}
        )
        store.write(inputs_part_path(1, "ab", start // INPUTS_PART), parquet_bytes(part))
    dice = np.random.default_rng(seed)
    for start in range(0, images, VERDICTS_PART):
        table = _verdicts(ids[start : start + VERDICTS_PART], dice)
        store.write(verdicts_part_path(0, f"{start:016x}"), parquet_bytes(table))
    return RunFolder(store)


def _listed(images: int) -> pa.Table:
    dice = np.random.default_rng(1)
    names = [f"{number // 1000:04}/photograph-{number:07}.jpg" for number in range(images)]
    words = np.array(WORDS)[dice.integers(0, len(WORDS), (images, 12))]
    return pa.table(
        {
            "uri": [f"s3://collection/{name}" for name in names],
            "bytes": pa.nulls(images, pa.int64()),
            LISTED_AS: names,
            "artist": [f"artist {k}" for k in dice.integers(0, ARTISTS, images)],
            "year": dice.integers(1800, 2020, images),
            "caption": [" ".join(row) for row in words],
        }
    )


def _verdicts(ids: pa.Array, dice: np.random.Generator) -> pa.Table:
    count = len(ids)
    fewest = dice.integers(1, MAX_TOKENS + 2, count)
    judged = dice.random(count) >= 0.05
    never = fewest > MAX_TOKENS
    score = np.clip(fewest + dice.normal(0, 0.3, count), 1, MAX_TOKENS + 1)
    values = {
        "image_id": ids,
        "status": np.where(judged, "judged", np.where(fewest % 2, "failed", "rejected")),
        "min_tokens": pa.array(fewest, pa.int32(), mask=~judged | never),
        "censored": judged & never,
        "max_tokens": np.full(count, MAX_TOKENS, np.int32),
        "score": pa.array(score, mask=~judged),
        "score_low": pa.array(np.maximum(1, score - 0.2), mask=~judged),
        "score_high": pa.array(score + 0.2, mask=~judged),
        "confidence": pa.array(dice.uniform(0.4, 1, count), mask=~judged),
        "reference_distance": pa.array(
            np.clip(0.2 + fewest / 12 + dice.normal(0, 0.07, count), 0, 1), mask=~judged
        ),
        "sweep": _sweeps(np.where(judged, np.minimum(fewest, MAX_TOKENS), 0), dice),
        "error_class": pa.array(np.where(fewest % 2, "missing", "truncated"), mask=judged),
        "attempts": np.ones(count, np.int32),
        "finished_at": pa.array(np.full(count, 1_780_000_000_000_000), pa.timestamp("us", tz="UTC")),
    }
    columns = [
        pa.array(values[field.name]).cast(field.type) if field.name in values else pa.nulls(count, field.type)
        for field in SCHEMA
    ]
    return pa.table(columns, schema=SCHEMA)


def _sweeps(tried: np.ndarray, dice: np.random.Generator) -> pa.ListArray:
    """A sweep of so many attempts for each image, with every redraw's distance."""
    attempts = int(tried.sum())
    starts = np.concatenate([[0], np.cumsum(tried)]).astype(np.int32)
    tokens = np.arange(attempts) - np.repeat(starts[:-1], tried) + 1
    mean = dice.uniform(0.1, 0.9, attempts)
    distances = pa.ListArray.from_arrays(
        np.arange(0, (attempts + 1) * REDRAWS, REDRAWS, np.int32),
        (mean[:, None] + dice.normal(0, 0.05, (attempts, REDRAWS))).ravel(),
    )
    values = {
        "tokens": tokens,
        "distance_mean": mean,
        "distance_sem": np.full(attempts, 0.01),
        "redraws": np.full(attempts, REDRAWS),
        "passed": mean < 0.4,
        "distances": distances,
        "pass_probability": dice.random(attempts),
    }
    fields = [ATTEMPT.field(k) for k in range(ATTEMPT.num_fields)]
    columns = [
        pa.array(values[f.name]).cast(f.type) if f.name in values else _filler(f, attempts) for f in fields
    ]
    return pa.ListArray.from_arrays(starts, pa.StructArray.from_arrays(columns, fields=fields))


def _filler(field: pa.Field, count: int) -> pa.Array:
    """Zeros of the counts that every attempt has, else null."""
    if field.name in ("inversion_steps", "skipped_steps", "unet_samples", "seconds"):
        return pa.array(np.zeros(count)).cast(field.type)
    return pa.nulls(count, field.type)
