"""Runs of a list with a column, whose verdicts are simulated: no model, no image files."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cluster.inputs.manifest import Selection
from cluster.run.folder import RunFolder, plan
from cluster.storage.store import open_store
from jobs.auditing.sampled import frozen
from jobs.auditing.verdict_table import SCHEMA

MOST = 5
ARTISTS = ("Arp", "Klee", "Miro")
SIZES = (70, 200, 30)
COUNT = sum(SIZES)


def truth() -> tuple[list[str], np.ndarray]:
    """Artist and min tokens (6: never) of each of COUNT inputs: Klee is known well, Miro hardly."""
    rng = np.random.default_rng(5)
    artists = rng.permutation(np.repeat(ARTISTS, SIZES)).tolist()
    usual = {"Arp": 3, "Klee": 1, "Miro": 5}
    needed = [min(MOST + 1, usual[artist] + int(rng.integers(0, 2))) for artist in artists]
    return artists, np.array(needed)


def image_id(number: int) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()


def planned(folder: Path) -> RunFolder:
    """A run of the list; nothing is judged."""
    artists, _ = truth()
    source = folder / "list.csv"
    with source.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["uri", "artist", "proxy"])
        writer.writerows((f"{n}.png", artist, needed) for n, (artist, needed) in enumerate(proxies(artists)))
    settings = {"max_tokens": MOST, "seed": 0}
    return plan(str(source), open_store(str(folder / "run")), {"job": "audit", "settings": settings})


def proxies(artists: Sequence[str]) -> list[tuple[str, float]]:
    """Artist, and a number that goes with min tokens."""
    noise = np.random.default_rng(6).normal(0, 0.3, COUNT)
    return list(zip(artists, np.round(truth()[1] + noise, 3).tolist(), strict=True))


def judge(run: RunFolder, selection: Selection, other: Mapping[int, str] | None = None) -> RunFolder:
    """Record the verdicts of a selection's inputs. ``other``: status by number, of those not judged."""
    _, needed = truth()
    for number in frozen(run, selection).numbers(run.manifest).tolist():
        run.identities.learn(number, image_id(number))
        if run.ledger.has_record(image_id(number)):
            continue
        row: dict[str, Any] = {"status": (other or {}).get(number, "judged"), "max_tokens": MOST}
        if row["status"] == "judged":
            never = needed[number] > MOST
            row |= {"min_tokens": None if never else int(needed[number]), "censored": bool(never)}
            row |= {"score": float(needed[number]), "confidence": 1.0}
        run.ledger.commit(image_id(number), row, {})
    run.identities.save()
    run.ledger.compact(SCHEMA)
    return RunFolder(run.store)
