"""Which images a person calls common or original: a column of the list that names them."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from cluster.inputs.listing import scan
from cluster.inputs.lists import LISTS, open_list
from cluster.inputs.manifest import InputError
from cluster.run.folder import RunFolder
from cluster.storage.store import absolute, open_store
from originality.calibration.thresholds import Measured
from originality.contract.config import SettingsError

COMMON, ORIGINAL = "common", "original"
FEWEST = 3
"""Images of each label, without which nothing is said."""
_SHOWN = 40


@dataclass(frozen=True)
class Labels:
    """A labelled list."""

    uris: pa.ChunkedArray
    """As the manifest of the list has them, in its order."""
    labels: list[str]
    """COMMON or ORIGINAL, one a uri."""


@dataclass(frozen=True)
class Found:
    """What a run says of labelled images."""

    common: Measured
    original: Measured
    images: dict[str, str]
    """Label by image_id, of those that were measured."""
    left_out: Counter[str]
    """Other images, by reason."""


def read_labels(source: str, column: str) -> Labels:
    """Reads a CSV or Parquet list with a column of uris and one of labels.

    Raises:
        InputError: the list cannot be read.
        SettingsError: it has no such column, another label, or too few of one.
    """
    uri = absolute(source)
    if not uri.lower().endswith(LISTS):
        raise InputError(f"{source} is no list; give a .csv or .parquet with the columns uri and {column}")
    manifest = scan(source)  # refuses what it cannot read, and keys in uris, before anything is shown
    parent, _, name = uri.rpartition("/")
    values = _column(source, name, open_store(parent or "/", create=False).read(name), column)
    labels = [str(value or "").strip().lower() for value in values]
    for row, label in enumerate(labels):
        if label not in (COMMON, ORIGINAL):
            raise SettingsError(
                f"{source}: {column} of row {row + 1} is {str(values[row] or '')[:_SHOWN]!r}; write "
                f"{COMMON} or {ORIGINAL}"
            )
    check_enough(source, Counter(labels))
    return Labels(manifest.table["uri"], labels)


def check_enough(source: str, counts: Counter[str]) -> None:
    """Raises:
    SettingsError: a label has too few images.
    """
    for label in (COMMON, ORIGINAL):
        if counts[label] < FEWEST:
            raise SettingsError(
                f"{source} has {counts[label] or 'no'} {label} image{'s' * (counts[label] != 1)} that can be "
                f"used; a calibration needs some of both labels, at least {FEWEST}, and better 20 or more"
            )


def _column(source: str, name: str, data: bytes, column: str) -> list[str | None]:
    opened = open_list(source, name, data)
    found = opened.column(column)
    if found is None:
        raise SettingsError(
            f"{source} needs a column {column!r}, once, that says {COMMON} or {ORIGINAL}; it has "
            f"{', '.join(opened.names)[:200]}; another name is given by --label-column"
        )
    return [value for (values,) in opened.batches([found]) for value in values.to_pylist()]


def check_same(run: RunFolder, labels: Labels) -> None:
    """Raises:
    SettingsError: the list is not the one that the run was planned with.
    """
    if not run.manifest.table["uri"].equals(labels.uris):
        raise SettingsError(
            f"{run.store.url} was begun with other images than the list has now; give another --run"
        )


def measured(run: RunFolder, labels: Labels) -> Found:
    """The distances and scores at one token of the labelled images, each distinct image once."""
    said: defaultdict[str, set[str]] = defaultdict(set)
    left_out: Counter[str] = Counter()
    for number, label in enumerate(labels.labels):
        image_id = run.identities[number]
        if image_id is None:
            left_out["pending"] += 1
        else:
            said[image_id].add(label)
    images: dict[str, str] = {}
    numbers: dict[str, list[tuple[float, float | None]]] = {COMMON: [], ORIGINAL: []}
    for row in run.ledger.rows(["image_id", "status", "sweep", "error_class"]):
        named = said.pop(row["image_id"], set())
        if not named:
            continue
        first = next((a for a in row.get("sweep") or () if a["tokens"] == 1), None)
        if len(named) > 1:
            left_out["with both labels"] += 1
        elif row["status"] != "judged":
            left_out[row.get("error_class") or row["status"]] += 1
        elif first is None or first["distance_mean"] is None:
            left_out["not measured at one token"] += 1
        else:
            images[row["image_id"]] = label = min(named)
            numbers[label].append((first["distance_mean"], first["editability"]))
    left_out["pending"] += len(said)
    return Found(_measured(numbers[COMMON]), _measured(numbers[ORIGINAL]), images, +left_out)


def _measured(numbers: list[tuple[float, float | None]]) -> Measured:
    distances = np.array([distance for distance, _ in numbers], float)
    return Measured(distances, np.array([score for _, score in numbers if score is not None], float))
