"""Finds what is wrong with a run's results, compared with those of a run that was not disturbed."""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Mapping
from typing import Any

import pyarrow.parquet as pq

from cluster.run.folder import RunFolder
from cluster.run.record import artefacts_of
from cluster.storage.store import NotFound, Store
from tests.chaos.stage import Expected

COUNTED = ("judged", "rejected", "failed")


def wrong_with(store: Store, expected: Expected) -> list[str]:
    """Returns one line for each fault; none if everything is right."""
    run = RunFolder(store)
    rows = list(run.ledger.rows())
    wrong = [*_of_rows(rows, expected), *_of_parts(store, expected), *_of_summary(store, expected)]
    uris = {run.manifest.uri(n): run.identities[n] for n in range(len(run.manifest))}
    if uris != expected.inputs:
        wrong.append(f"{sum(uris.get(u) != i for u, i in expected.inputs.items())} inputs are not known")
    left = [found.path for found in store.list("progress") if found.path.endswith(".snapshot")]
    return [*wrong, *(f"{path} is left" for path in left), *_of_artefacts(store, rows)]


def _of_rows(rows: list[dict[str, Any]], expected: Expected) -> list[str]:
    counts = Counter(row["image_id"] for row in rows)
    wrong = [f"{image_id} has {n} rows" for image_id, n in counts.items() if n > 1]
    found = {row["image_id"]: (row["status"], row.get("chain")) for row in rows}
    due = expected.verdicts
    differ = [i for i in sorted(due.keys() | found.keys()) if found.get(i) != due.get(i)]
    return [*wrong, *(f"{i}: {found.get(i)}, not {due.get(i)}" for i in differ)]


def _of_parts(store: Store, expected: Expected) -> list[str]:
    """Checks the tables, which other programs read, together with every file in their folder."""
    in_parts: Counter[str] = Counter()
    for part in store.list("verdicts"):
        if part.path.endswith(".parquet"):
            in_parts.update(pq.read_table(io.BytesIO(store.read(part.path)))["image_id"].to_pylist())
    if in_parts == Counter(expected.verdicts.keys()):
        return []
    return [f"the parts hold {in_parts.total()} rows of {len(in_parts)} images"]


def _of_summary(store: Store, expected: Expected) -> list[str]:
    statuses = Counter(status for status, _ in expected.verdicts.values())
    counts = {status: statuses[status] for status in COUNTED}
    counts |= {"pending": 0, "inputs": len(expected.inputs), "images": len(expected.verdicts)}
    summary = json.loads(store.read("summary.json"))
    found = {key: summary.get(key) for key in counts}
    return [] if found == counts else [f"the summary says {found}, not {counts}"]


def _of_artefacts(store: Store, rows: list[dict[str, Any]]) -> list[str]:
    """Checks that every row with a verdict has its artefact, from the attempt whose record counts."""
    output = {row["image_id"]: _artefact(store, row) for row in rows if row["status"] == "judged"}
    return [
        f"{row['image_id']} has the artefact {output[row['image_id']]!r} beside the mark {row['mark']}"
        for row in rows
        if row["image_id"] in output and output[row["image_id"]] != f"{row['chain']} {row['mark']}"
    ]


def _artefact(store: Store, row: Mapping[str, Any]) -> str | None:
    try:
        return store.read(f"{artefacts_of(row)}/chain.txt").decode()
    except NotFound:
        return None
