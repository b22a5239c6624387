"""Write the report of a run: read its data from the run folder, render the page, store it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from itertools import islice
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cluster.run.folder import RunFolder
from cluster.run.layout import REPORT_DATA, REPORT_LOCK, REPORT_PAGE, record_path
from cluster.run.record import artefacts_of
from cluster.storage.lock import Lock, LockLost
from cluster.storage.store import Damaged, StoreError
from jobs.auditing.damaged import damage_text
from jobs.auditing.groups import groups_by
from jobs.auditing.report_estimates import report_estimates
from jobs.auditing.report_pictures import PARALLEL_REQUESTS, pictures_by_folder
from jobs.auditing.suitability import UNSUITED, Unsuited
from originality.contract.redaction import masked
from originality.evaluation.verdict import Attempt, Verdict
from originality.report.data import GroupRow, Groups, Reason, RunInfo, row_of
from originality.report.listing import URIS, Entry, Evidence, Listing, Rule, script_json
from originality.report.order import GROUPS, Group, Marks, group_of, listed
from originality.report.page import Card, ReportData, held, render

_MOST_GROUPS = 100
"""Groups that the page shows."""
_BATCH = 10_000
"""Rows held as Python objects at once."""


def write_report(run: RunFolder, before: Callable[[], object] = lambda: None, by: str | None = None) -> str:
    """Write ``report/index.html`` of a run and the files that it loads, replacing an older report.

    Args:
        run: the run.
        before: called just before the page is written; an exception from it keeps the older page.
        by: column of the collection's list by whose values images are counted too.

    Returns:
        Path or URL of the page.

    Raises:
        SettingsError: there is no such column.
    """
    store = run.store
    # One writer at a time, from its first read on: it removes files that its page does not name, which could
    # be those of a concurrent writer, and so a later page always shows a later state. A writer that was
    # suspended until its lock expired (LockLost) leaves page and files to the process that took the lock
    # over.
    with Lock(store, REPORT_LOCK) as lock, suppress(LockLost), lock.renewed():
        report = gather(
            RunFolder(store, damage=run.damage), by
        )  # opened again: others may have added to the run
        beside = len(report.listing) > len(report.cards)
        files = {f"{REPORT_DATA}/{name}": data for name, data in report.listing.files()} if beside else {}
        with ThreadPoolExecutor(PARALLEL_REQUESTS) as writers:
            for _ in writers.map(store.write, files, files.values()):
                lock.renew()
        page = render(report).encode()
        before()
        lock.check()
        # The page comes after the files it names and before the removal of older files, so that a reader
        # never finds a page whose files are missing.
        store.write(REPORT_PAGE, page)
        for found in list(store.list(REPORT_DATA)):
            if found.path not in files:
                lock.check()
                with suppress(StoreError):  # credentials without permission to delete: the old file stays
                    store.delete(found.path)
    return f"{store.url}/{REPORT_PAGE}"


def gather(run: RunFolder, by: str | None = None) -> ReportData:
    """All data of the report, read from the run folder.

    Reads the rows twice: first what all images are counted and ordered by, then the images that can be
        browsed, of which only the text for the page's files is kept. So memory stays bounded for runs of
        millions of images.
    """
    every, marks, reasons, finished = _survey(run)
    order = listed(marks)
    inputs = pc.sum(pc.is_in(run.identities.image_ids(), every)).as_py() or 0
    summary = run.summary()
    about = replace(
        _about(run.description),
        finished=finished,
        collection=run.manifest.source,
        output=run.store.url,
        files=len(run.manifest),
        skipped=run.manifest.skipped,
        skipped_kinds=run.manifest.kinds_text,
        pending=len(run.manifest) - inputs,
        doubts=tuple(summary.get("calibration_doubts", ())),
        notes=_notes(summary),
    )
    listing, first = _listing(run, every.take(pa.array(order)), Rule.of(about), held(len(marks.group)))
    pictures = pictures_by_folder(run.store, {evidence.folder: sweep for _, evidence, sweep in first})
    cards = [Card(entry, evidence, pictures[evidence.folder]) for entry, evidence, _ in first]
    about = replace(about, estimates=report_estimates(run), notes=(*about.notes, *_damage(run)))
    if by is not None:
        about = replace(about, groups=_groups(run, by))
    return ReportData(about, marks, reasons, listing, cards, marks.take(order).counts())


def _groups(run: RunFolder, by: str) -> Groups:
    """The counts by the values of a column, those of the largest groups one by one."""
    found = groups_by(run, by)
    rows = tuple(
        GroupRow(
            value=None if group["value"] is None else str(group["value"]),
            inputs=group["inputs"],
            judged=group.get("judged", 0),
            min_tokens=group["min_tokens"],
            mean_score=group["mean_score"],
        )
        for group in found[:_MOST_GROUPS]
    )
    return Groups(by, rows, len(found) - len(rows))


def _survey(run: RunFolder) -> tuple[pa.Array, Marks, Counter[Reason], datetime | None]:
    """First pass over the rows, of all images that have a row and an input.

    Returns:
        image_ids and marks in the order of the images' first inputs; the number of images by reason; the time
        when the last one was finished.
    """
    ids: list[pa.Array] = [pa.array([], pa.string())]
    errors = list(ids)
    marks: list[Marks] = []
    finished = ""
    rows = _marked(run, ["image_id", "status", "min_tokens", "sweep", "error_class", "finished_at"])
    while batch := list(islice(rows, _BATCH)):
        ids.append(pa.array([row["image_id"] for row, _ in batch], pa.string()))
        errors.append(pa.array([row.get("error_class") for row, _ in batch], pa.string()))
        marks.append(Marks.of([mark for _, mark in batch]))
        finished = max(finished, *(row.get("finished_at") or "" for row, _ in batch))
    found = pa.concat_arrays(ids)
    first = pc.index_in(found, value_set=run.identities.image_ids())
    order = pc.array_sort_indices(first)[: len(first) - first.null_count]
    ended = datetime.fromisoformat(finished) if finished else None
    ordered = Marks.joined(marks).take(order.to_numpy())
    return found.take(order), ordered, _reasons(ordered, pa.concat_arrays(errors).take(order)), ended


def _reasons(marks: Marks, errors: pa.Array) -> Counter[Reason]:
    """Number of images that were not judged, by reason. ``errors``: error class of each image, or null."""
    reasons: Counter[Reason] = Counter()
    statuses: tuple[Literal["rejected", "failed"], ...] = ("rejected", "failed")
    for status in statuses:
        of_status = errors.filter(pa.array(marks.group == GROUPS.index(status)))
        for found in of_status.value_counts().to_pylist():
            reasons[Reason(status, found["values"] or "")] += found["counts"]
    return reasons


Mark = tuple[Group, int | None, float | None]
"""Group, min tokens and last distance of an image: what it is counted and ordered by."""
_INVALID_ROW = (ValueError, LookupError, TypeError, AttributeError)
"""Errors raised by a row that is not a valid verdict."""


def _marked(run: RunFolder, columns: Sequence[str]) -> Iterator[tuple[dict[str, Any], Mark]]:
    """Every valid row with its mark.

    Invalid rows are noted as damage and skipped. Rows of older versions have no checksum, so their damage
    shows only here.
    """
    for row in run.ledger.rows(columns):
        try:
            datetime.fromisoformat(row.get("finished_at") or "2000-01-01")
            mark = _mark(row)
        except _INVALID_ROW:
            note_invalid_row(run, row["image_id"])
        else:
            yield row, mark


def note_invalid_row(run: RunFolder, image_id: str) -> None:
    """Note an image's record as damaged: it can be read, and is no valid verdict."""
    damaged = Damaged()
    damaged.path = record_path(image_id)
    damaged.found = f"{run.store.url}/{damaged.path} is damaged (it holds no valid verdict)"
    run.damage.note(damaged, "its row is left out")


def _mark(row: Mapping[str, Any]) -> Mark:
    last = max(row.get("sweep") or (), key=lambda attempt: attempt["tokens"], default=None)
    tokens = row.get("min_tokens")
    return group_of(row["status"], tokens), tokens, last and last.get("distance_mean")


Shown = tuple[Entry, Evidence, tuple[Attempt, ...]]


"""An image that the page itself shows: its line in the table, its evidence and its sweep."""


def _listing(run: RunFolder, ids: pa.Array, rule: Rule, first: int) -> tuple[Listing, list[Shown]]:
    """Second pass over the rows: these images in this order as text, and the first of them as values.

    Images that a retry has queued again since the first pass have no row any more and are left out.
    """
    places = {image_id: place for place, image_id in enumerate(ids.to_pylist())}
    numbers = _inputs(run, places)
    rows: list[str] = [""] * len(places)
    evidence: list[str] = [""] * len(places)
    shown: dict[int, Shown] = {}
    for raw in run.ledger.rows(of=ids):
        try:
            verdict = verdict_of(raw)
        except _INVALID_ROW:
            note_invalid_row(run, raw["image_id"])
            continue
        place = places[verdict.image_id]
        inputs, files = numbers[verdict.image_id]
        uris = [run.manifest.uri(number) for number in inputs]
        row = row_of(verdict, run.manifest.path(inputs[0]), uris, files)
        entry, why = Entry.of(row), Evidence.of(row, verdict.sweep, rule)
        rows[place], evidence[place] = script_json(entry), script_json(why)
        if place < first:
            shown[place] = entry, why, verdict.sweep
    listing = Listing([text for text in rows if text], [text for text in evidence if text])
    return listing, [shown[place] for place in sorted(shown)]


def _inputs(run: RunFolder, ids: Collection[str]) -> dict[str, tuple[list[int], int]]:
    """The first inputs of each of these images, and the number of all its inputs."""
    found: dict[str, tuple[list[int], int]] = {image_id: ([], 0) for image_id in ids}
    of_these = pc.is_in(run.identities.image_ids(), pa.array(list(ids), pa.string()))
    for number in np.flatnonzero(of_these.to_numpy(zero_copy_only=False)).tolist():
        image_id = str(run.identities[number])
        first, files = found[image_id]
        if files < URIS:
            first.append(number)
        found[image_id] = first, files + 1
    return found


def verdict_of(raw: Mapping[str, Any]) -> Verdict:
    """A recorded row as a verdict. Columns of later versions are left out.

    Raises:
        ValueError: the row is not a valid verdict.
    """
    known = {key: raw[key] for key in Verdict.model_fields if raw.get(key) is not None}
    known["artefacts"] = artefacts_of(raw)
    if message := known.get("error_message"):
        known["error_message"] = masked(message)  # records of older versions may hold a store's raw answer
    known["sweep"] = [
        {key: attempt[key] for key in Attempt.model_fields if key in attempt}
        for attempt in raw.get("sweep") or ()
    ]
    return Verdict.model_validate(known)


def _about(description: Mapping[str, Any]) -> RunInfo:
    """Settings, digests and start time from run.json. Plain values beside the settings count as digests."""
    created = description.get("created_at")
    beside = {
        key.replace("_", " "): str(value)
        for key, value in description.items()
        if key not in ("settings", "created_at") and not isinstance(value, dict | list)
    }
    return RunInfo(
        settings=description.get("settings") or {},
        digests=beside,
        started=datetime.fromisoformat(created) if created else None,
    )


def _notes(summary: Mapping[str, Any]) -> tuple[str, ...]:
    """Warnings to read before the findings, as sentences."""
    try:
        sentence = str(Unsuited(**summary[UNSUITED]))
    except (KeyError, TypeError):  # no finding, or one of a different version
        return ()
    return (f"{sentence[0].upper()}{sentence[1:]}.",)


def _damage(run: RunFolder) -> tuple[str, ...]:
    """A note that files could not be read, so that their images are missing here or counted as pending."""
    paths = run.damage.paths
    return (f"{damage_text(paths)}; run the same audit command again to repair them.",) if paths else ()
