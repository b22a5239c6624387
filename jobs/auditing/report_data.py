"""Data of the report of a run, read from its folder, and the writing of the page."""

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
from cluster.run.layout import record_path
from cluster.storage.lock import Lock, LockLost
from cluster.storage.store import Damaged, StoreError
from jobs.auditing.damaged import damage_text
from jobs.auditing.report_pictures import PARALLEL_REQUESTS, pictures_by_folder
from jobs.auditing.suitability import UNSUITED, Unsuited
from originality.contract.redaction import masked
from originality.evaluation.verdict import Attempt, Verdict
from originality.report.data import Reason, RunInfo, row_of
from originality.report.listing import URIS, Entry, Evidence, Listing, Rule, script_json
from originality.report.order import GROUPS, Group, Marks, group_of, listed
from originality.report.page import Card, ReportData, held, render

PAGE = "report/index.html"
DATA = "report/data"
"""Folder of the files that the page's script reads."""
_LOCK = "progress/reporting.json"
_BATCH = 10_000
"""Rows that are held as Python objects at once."""


def write_report(run: RunFolder, before: Callable[[], object] = lambda: None) -> str:
    """Writes ``report/index.html`` of a run, over an older one, and the files that it reads; its path or URL.

    The page names its files, so it is written when all of them are there, and the files of an older page are
    removed when nothing refers to them any more. One writer at a time, from the first row that it reads:
    another's files look as if they were old ones, and a later page is of a later state. Who was silent for so
    long that another took its turn leaves the page to that one.

    ``before``: called just before the page is written.
    """
    store = run.store
    with Lock(store, _LOCK) as lock, suppress(LockLost), lock.kept():
        report = gather(RunFolder(store, damage=run.damage))  # as it is by now
        beside = len(report.listing) > len(report.cards)
        files = {f"{DATA}/{name}": data for name, data in report.listing.files()} if beside else {}
        with ThreadPoolExecutor(PARALLEL_REQUESTS) as writers:
            for _ in writers.map(store.write, files, files.values()):
                lock.keep()
        page = render(report).encode()
        before()
        lock.check()
        store.write(PAGE, page)
        for found in list(store.list(DATA)):
            if found.path not in files:
                lock.check()
                with suppress(StoreError):  # keys that may not delete leave it there
                    store.delete(found.path)
    return f"{store.url}/{PAGE}"


def gather(run: RunFolder) -> ReportData:
    """Everything that the report says, read from the run folder.

    Two passes over the rows: one for what every image is counted and ordered by, one for the images that can
    be browsed. Of these only the text that is written is kept.
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
    about = replace(about, notes=(*about.notes, *_damage(run)))
    return ReportData(about, marks, reasons, listing, cards, marks.take(order).counts())


def _survey(run: RunFolder) -> tuple[pa.Array, Marks, Counter[Reason], datetime | None]:
    """image_ids and marks of all images that have a row and an input, in the order of their first inputs,
    how many of them have which reason, and when the last of them was done."""
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
    """Images by reason; ``errors`` are their error classes, null where there is none."""
    reasons: Counter[Reason] = Counter()
    statuses: tuple[Literal["rejected", "failed"], ...] = ("rejected", "failed")
    for status in statuses:
        theirs = errors.filter(pa.array(marks.group == GROUPS.index(status)))
        for found in theirs.value_counts().to_pylist():
            reasons[Reason(status, found["values"] or "")] += found["counts"]
    return reasons


Mark = tuple[Group, int | None, float | None]
_NO_VERDICT = (ValueError, LookupError, TypeError, AttributeError)
"""Errors over a row that is none."""


def _marked(run: RunFolder, columns: Sequence[str]) -> Iterator[tuple[dict[str, Any], Mark]]:
    """Every row, and what it is counted and ordered by. Those of older versions have no checksum: one that is
    no verdict is passed over."""
    for row in run.ledger.rows(columns):
        try:
            datetime.fromisoformat(row.get("finished_at") or "2000-01-01")
            mark = _mark(row)
        except _NO_VERDICT:
            _note_no_verdict(run, row["image_id"])
        else:
            yield row, mark


def _note_no_verdict(run: RunFolder, image_id: str) -> None:
    damaged = Damaged()
    damaged.path = record_path(image_id)
    damaged.found = f"{run.store.url}/{damaged.path} is damaged (it holds no verdict)"
    run.damage.note(damaged, "its row is left out")


def _mark(row: Mapping[str, Any]) -> Mark:
    last = max(row.get("sweep") or (), key=lambda attempt: attempt["tokens"], default=None)
    tokens = row.get("min_tokens")
    return group_of(row["status"], tokens), tokens, last and last.get("distance_mean")


Shown = tuple[Entry, Evidence, tuple[Attempt, ...]]


def _listing(run: RunFolder, ids: pa.Array, rule: Rule, first: int) -> tuple[Listing, list[Shown]]:
    """These images in this order, and the first of them as values; what a retry has put back since the ids
    were read is left out."""
    places = {image_id: place for place, image_id in enumerate(ids.to_pylist())}
    numbers = _inputs(run, places)
    rows: list[str] = [""] * len(places)
    evidence: list[str] = [""] * len(places)
    whole: dict[int, Shown] = {}
    for raw in run.ledger.rows(of=ids):
        try:
            verdict = verdict_of(raw)
        except _NO_VERDICT:
            _note_no_verdict(run, raw["image_id"])
            continue
        place = places[verdict.image_id]
        theirs, files = numbers[verdict.image_id]
        uris = [run.manifest.uri(number) for number in theirs]
        row = row_of(verdict, run.manifest.path(theirs[0]), uris, files)
        entry, why = Entry.of(row), Evidence.of(row, verdict.sweep, rule)
        rows[place], evidence[place] = script_json(entry), script_json(why)
        if place < first:
            whole[place] = entry, why, verdict.sweep
    listing = Listing([text for text in rows if text], [text for text in evidence if text])
    return listing, [whole[place] for place in sorted(whole)]


def _inputs(run: RunFolder, ids: Collection[str]) -> dict[str, tuple[list[int], int]]:
    """The first inputs of each of these images, and how many it has."""
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
    """A recorded row as a verdict; columns that this version does not know are left out."""
    known = {key: raw[key] for key in Verdict.model_fields if raw.get(key) is not None}
    if message := known.get("error_message"):
        known["error_message"] = masked(message)  # a record of an older version may hold what a store said
    known["sweep"] = [
        {key: attempt[key] for key in Attempt.model_fields if key in attempt}
        for attempt in raw.get("sweep") or ()
    ]
    return Verdict.model_validate(known)


def _about(description: Mapping[str, Any]) -> RunInfo:
    """What run.json says. All that it holds beside the settings stands among the digests."""
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
    """What must be known before the findings are read."""
    try:
        sentence = str(Unsuited(**summary[UNSUITED]))
    except (KeyError, TypeError):  # nothing was said, or by another version
        return ()
    return (f"{sentence[0].upper()}{sentence[1:]}.",)


def _damage(run: RunFolder) -> tuple[str, ...]:
    """That files could not be read, so that their images are missing here or counted as pending."""
    paths = run.damage.paths
    return (f"{damage_text(paths)}; the next start of the audit mends them.",) if paths else ()
