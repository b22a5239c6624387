"""Labels of images, common or original, from a column of a list."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from cluster.inputs.list_files import open_list
from cluster.inputs.list_formats import LISTS
from cluster.inputs.listing import scan
from cluster.inputs.manifest import InputError
from cluster.run.folder import RunFolder
from cluster.storage.store import absolute, open_store
from originality.calibration.thresholds import Measured
from originality.contract.config import SettingsError

COMMON, ORIGINAL = "common", "original"
MIN_IMAGES = 3
"""Fewest images of each label for a calibration."""
_SHOWN = 40
"""Characters of an invalid label that an error shows."""


@dataclass(frozen=True)
class Labels:
    """A labelled list."""

    uris: pa.ChunkedArray
    """URIs of the images, in the order of the list's manifest."""
    labels: list[str]
    """COMMON or ORIGINAL, one per URI."""


@dataclass(frozen=True)
class LabelledResults:
    """Results of a run for labelled images."""

    common: Measured
    original: Measured
    images: dict[str, str]
    """Label by image_id, of the images that were measured."""
    left_out: Counter[str]
    """Number of other images, by reason."""


def read_labels(source: str, column: str) -> Labels:
    """Read a CSV or Parquet list with a column of URIs and a column of labels.

    Raises:
        InputError: the list cannot be read.
        SettingsError: the column of labels is missing, a label is unknown, or a label has too few images.
    """
    uri = absolute(source)
    if not uri.lower().endswith(LISTS):
        raise InputError(
            f"{source} is not a list; give a .csv, .jsonl or .parquet with the columns uri and {column}"
        )
    # The scan comes first: it rejects URIs that hold keys, so that no later error can show one.
    manifest = scan(source)
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
    """Check that each label has enough images.

    Raises:
        SettingsError: a label has too few.
    """
    for label in (COMMON, ORIGINAL):
        if counts[label] < MIN_IMAGES:
            raise SettingsError(
                f"{source} has {counts[label] or 'no'} usable {label} image{'s' * (counts[label] != 1)}; a "
                f"calibration needs at least {MIN_IMAGES} images of each label, better 20 or more"
            )


def _column(source: str, name: str, data: bytes, column: str) -> list[str | None]:
    opened = open_list(source, name, data)
    found = opened.column(column)
    if found is None:
        raise SettingsError(
            f"{source} needs exactly one column {column!r} with the values {COMMON} and {ORIGINAL}; its "
            f"columns are {', '.join(opened.names)[:200]}; give the name of the right one by --label-column"
        )
    return [value for (values,) in opened.batches([found]) for value in values.to_pylist()]


def check_same(run: RunFolder, labels: Labels) -> None:
    """Check that a run was planned with this list.

    Raises:
        SettingsError: it was planned with different images.
    """
    if not run.manifest.table["uri"].equals(labels.uris):
        raise SettingsError(
            f"{run.store.url} was started with different images than the list has now; choose another --run"
        )


def measured(run: RunFolder, labels: Labels) -> LabelledResults:
    """Distances and in-distribution scores of labelled images at one token, each distinct image once."""
    labels_of: defaultdict[str, set[str]] = defaultdict(set)
    left_out: Counter[str] = Counter()
    for number, label in enumerate(labels.labels):
        image_id = run.identities[number]
        if image_id is None:
            left_out["pending"] += 1
        else:
            labels_of[image_id].add(label)
    images: dict[str, str] = {}
    numbers: dict[str, list[tuple[float, float | None]]] = {COMMON: [], ORIGINAL: []}
    for row in run.ledger.rows(["image_id", "status", "sweep", "error_class"]):
        given = labels_of.pop(row["image_id"], set())
        if not given:
            continue
        first = next((a for a in row.get("sweep") or () if a["tokens"] == 1), None)
        if len(given) > 1:
            left_out["with both labels"] += 1
        elif row["status"] != "judged":
            left_out[row.get("error_class") or row["status"]] += 1
        elif first is None or first["distance_mean"] is None:
            left_out["not measured at one token"] += 1
        else:
            images[row["image_id"]] = label = min(given)
            numbers[label].append((first["distance_mean"], first["editability"]))
    left_out["pending"] += len(labels_of)
    return LabelledResults(_measured(numbers[COMMON]), _measured(numbers[ORIGINAL]), images, +left_out)


def _measured(numbers: list[tuple[float, float | None]]) -> Measured:
    distances = np.array([distance for distance, _ in numbers], float)
    return Measured(distances, np.array([score for _, score in numbers if score is not None], float))
