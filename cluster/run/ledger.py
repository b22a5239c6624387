"""Records written once, whoever writes them and however often.

A record is one object, created with put-if-absent: that is the commit, and there is no other. So compute may
happen twice, a record not. Compaction copies records into Parquet parts and takes nothing away, so that it
may be repeated, or die, at any point; and so may a retry (:mod:`cluster.run.retries`), after which other
records count. A reader's view only ever grows from one retry to the next.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from itertools import islice
from typing import Any, NamedTuple, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cluster.run.layout import record_path
from cluster.run.parts import Part, firsts, read_parts, replace_part, rows_of, write_part
from cluster.run.retries import Retries, write_over
from cluster.storage.checksums import json_bytes, read_json
from cluster.storage.damage import A_FOLDER, Damage
from cluster.storage.lock import Lock
from cluster.storage.store import Damaged, NotFound, Store, StoreError, damaged_object, whole
from originality.contract.redaction import masked

T = TypeVar("T")

_PART_ROWS = 10_000
"""Rows of one compacted part, so that a part fits in memory many times over."""
_READERS = 16
"""Reads at once: a bucket answers each after a while, and any number together."""
_LOCK = "progress/compacting.json"
STATUSES = ("judged", "rejected", "failed")
"""That a record may have."""
_LISTED = 50_000
"""Names that are held as Python objects at once."""
ARTEFACTS = "artefacts"
"""The record's field that names the folder of what came of its image beside it."""


class _View(NamedTuple):
    """What counts, at one moment."""

    retries: Retries
    parts: list[Part]
    counts: list[np.ndarray]
    """For every part, which of its rows count: those of images that nobody took back since, each once."""
    damaged: list[str]
    """Paths of parts that cannot be read."""

    @property
    def ids(self) -> pa.Array:
        """The image_ids of the rows that count."""
        counted = [
            part.ids.filter(pa.array(rows)) for part, rows in zip(self.parts, self.counts, strict=True)
        ]
        return pa.concat_arrays(counted) if counted else pa.array([], pa.string())


class Ledger:
    """The records of one run folder. Which retries there were is looked up at the first use, and again where
    all rows are read."""

    def __init__(self, store: Store, damage: Damage | None = None) -> None:
        """``damage``: told of what is damaged, and passed over where more than one image is read of."""
        self.store = store
        self._damage = damage or Damage()
        self._known: Retries | None = None
        self._seen: set[int] = set()
        """Numbers of retries that stand in names of parts and records."""
        self._pieced: dict[int, list[str]] = {}
        """Of damaged retries, by number: what they took back, as far as it can be told."""

    def commit(self, image_id: str, record: Mapping[str, Any], files: Mapping[str, bytes]) -> bool:
        """Writes artefacts, then the record, which names their folder. True if this one counts; False if the
        image had a record already, which then stays as it is.

        The folder is this attempt's alone: of two that judge an image at once, the one whose record counts
        finds its own artefacts beside it.

        Raises:
            ValueError: the record is not plain JSON, or holds a NaN.
        """
        path = self._path(image_id)
        folder = f"images/{image_id}/{uuid.uuid4().hex[:12]}"
        named = {ARTEFACTS: folder if files else None} if files or ARTEFACTS in record else {}
        data = json_bytes({**record, "image_id": image_id, **named})
        if files and self.store.exists(path):
            return False
        for name, content in files.items():
            self.store.write(f"{folder}/{name}", content)
        if self.store.create(path, data):
            return True
        with suppress(StoreError):  # nobody will look for them
            for name in files:
                self.store.delete(f"{folder}/{name}")
        return False

    def record(self, image_id: str) -> dict[str, Any]:
        """One image's record; where it is damaged, its copy in a part.

        Raises:
            NotFound: it has none yet.
            Damaged: and there is no copy.
        """
        try:
            return self._read(image_id, self._retries())
        except Damaged:
            copy = next(self.rows(of=pa.array([image_id], pa.string())), None)
            if copy is None:
                raise
            return copy

    def outcome(self, image_id: str) -> dict[str, Any]:
        """What came of an image that has a record; one whose record is damaged failed, until it is put back
        by the next start of the run. So did one whose record was there already when another was to be
        created, and cannot be found: a folder may be in its place."""
        try:
            try:
                return self.record(image_id)
            except NotFound as lost:
                raise damaged_object(self.store, self._path(image_id), "it cannot be found") from lost
        except Damaged as damaged:
            failed = {"status": "failed", "error_class": "damaged", "error_message": str(damaged)}
            return {"image_id": image_id, **failed}

    def has_record(self, image_id: str) -> bool:
        return self.store.exists(self._path(image_id))

    def recorded(self) -> pa.Array:
        """The image_ids that have a record, in no order: what a resume leaves out."""
        while True:
            retries = self._retries(anew=True)
            recorded = self._recorded(retries)
            if not retries.lacks(self.store, self._seen):
                return recorded

    def compact(self, schema: pa.Schema, *, full_parts_only: bool = False) -> list[str]:
        """Copies the records that are in no part yet into new ``verdicts/part-*.parquet``, when nobody
        else changes the parts; the paths of these. The engine does not know what a record holds, so the
        job gives the schema; its columns that a record lacks are null.

        ``full_parts_only``: what is too little for a part waits, as there is more to come.
        """
        with Lock(self.store, _LOCK) as lock:
            view = self._tidied(lock.keep)
            new = self._recorded(view.retries, beside=view.ids).sort()
            parts = []
            if full_parts_only:
                new = new[: len(new) // _PART_ROWS * _PART_ROWS]
            for start in range(0, len(new), _PART_ROWS):
                ids = new[start : start + _PART_ROWS].to_pylist()
                rows = []
                for row in self._read_records(ids, view.retries):
                    lock.keep()
                    rows.append(row)
                lock.keep()
                if rows:
                    parts.append(write_part(self.store, rows, schema, view.retries.count))
        return parts

    def rows(
        self, columns: Sequence[str] | None = None, of: pa.Array | None = None
    ) -> Iterator[dict[str, Any]]:
        """Every image's row once, from parts and records alike, as plain JSON values (times as ISO
        8601 text), in no order. ``columns``: only these, where the row has them. ``of``: only the rows of
        these image_ids."""
        view, beside = self._view_and_beside()
        for part, counts in zip(view.parts, view.counts, strict=True):
            wanted = counts if of is None else counts & pc.is_in(part.ids, of).to_numpy(zero_copy_only=False)
            if not wanted.any():
                continue
            try:
                yield from rows_of(self.store, part, wanted, columns)
            except (NotFound, Damaged):  # since it was listed: replaced, or worse; its records stay
                ids = part.ids.filter(pa.array(wanted)).to_pylist()
                yield from _narrowed(self._read_records(ids, view.retries), columns)
        if of is not None:
            beside = beside.filter(pc.is_in(beside, of))
        yield from _narrowed(self._read_records(beside.to_pylist(), view.retries), columns)

    def take_back(
        self,
        unwanted: Callable[[Mapping[str, Any]], str | None],
        columns: Sequence[str],
        why: Mapping[str, Any],
        before: Callable[[], object] = lambda: None,
    ) -> dict[str, str]:
        """Takes back the rows for which ``unwanted`` gives a reason by these columns, as if their images had
        never been judged; the reasons, by image_id. All of them at once or, where it dies, none.

        ``why``: what is kept beside, of the retry as a whole. ``before``: called just before they are.
        """
        while True:
            rows = self.rows(["image_id", *columns])
            chosen = {str(row["image_id"]): reason for row in rows if (reason := unwanted(row)) is not None}
            if not chosen:
                return {}
            before()
            if self._retries().add(self.store, chosen, why):
                break  # else another retry came first, and may have taken back the same
        # They are put back by now, whatever becomes of this; the next compaction does it otherwise.
        with suppress(StoreError), Lock(self.store, _LOCK) as lock:
            self._tidied(lock.keep)
        return chosen

    def mend(self) -> list[str]:
        """Takes back the images whose record is damaged while no part has a copy, or whose record a folder
        bars, so that they are judged anew, and recorded under another name; their image_ids. Writes what is
        known of damaged and lost retries in their place."""
        while True:
            view, beside = self._view_and_beside()
            for number, images in self._pieced.items():
                write_over(self.store, number, dict.fromkeys(images, "unknown"), {"reason": "damaged"})
            self._pieced.clear()
            ids = beside.to_pylist()
            records = self._in_turn(partial(self._if_readable, retries=view.retries), ids)
            lost = [image_id for image_id, found in zip(ids, records, strict=True) if found is None]
            lost += self._barred(view.retries)
            why = {"status": None, "reason": "damaged", "at": _now()}
            if not lost or view.retries.add(self.store, dict.fromkeys(lost, "damaged"), why):
                return lost

    def _retries(self, *, anew: bool = False) -> Retries:
        if self._known is None or anew:
            self._known = (self._known or Retries()).read_on(self.store, self._judged_anew, self._seen)
        return self._known

    def _judged_anew(self, damaged: Damaged, retry: int) -> list[str]:
        """The images that have a record since a retry which is damaged, or lost."""
        self._damage.note(
            damaged, "what it put back and is not judged since has its old rows: put it back again"
        )
        name = re.compile(rf".*/([^/.]+)\.{retry}\.json")
        listed = (name.fullmatch(item.path) for item in self.store.list("records"))
        self._pieced[retry] = [found[1] for found in listed if found]
        return self._pieced[retry]

    def _view(self) -> _View:
        """The parts first: retries that are looked up later include all that the parts' writers knew."""
        gone: list[str] = []

        def pass_over(damaged: Damaged) -> None:
            self._damage.note(damaged, "its rows are read from their records, and it is written anew")
            gone.append(damaged.path)

        parts = read_parts(self.store, pass_over)
        self._seen.update(part.retries for part in parts)
        retries = self._retries(anew=True)
        valid = [retries.before(part.ids, part.retries) for part in parts]
        return _View(retries, parts, firsts(parts, valid), gone)

    def _view_and_beside(self) -> tuple[_View, pa.Array]:
        """What counts, and the image_ids that have a record beside the parts. Where the names of records tell
        of a retry that is lost, with that retry."""
        while True:
            view = self._view()
            beside = self._recorded(view.retries, beside=view.ids)
            if not view.retries.lacks(self.store, self._seen):
                return view, beside

    def _barred(self, retries: Retries) -> Iterator[str]:
        """The image_ids whose record cannot be created, as a folder is in its place."""
        for path in self.store.folders("records"):
            image_id = path.rpartition("/")[2].partition(".")[0]
            if path == record_path(image_id, retries.of(image_id)):
                self._damage.note(damaged_object(self.store, path, A_FOLDER), "its image is judged again")
                yield image_id

    def _tidied(self, keep: Callable[[], None]) -> _View:
        """Takes away damaged parts, and replaces those with rows that do not count, for those who read the
        parts alone."""
        view = self._view()
        for path in view.damaged:
            keep()
            self.store.delete(path)
        for part, counts in zip(view.parts, view.counts, strict=True):
            if not counts.all():
                keep()
                with suppress(NotFound, Damaged):  # since it was read; the next compaction finds out
                    replace_part(self.store, part, counts, view.retries.count, keep)
        return view if all(counts.all() for counts in view.counts) else self._view()

    def _recorded(self, retries: Retries, beside: pa.Array | None = None) -> pa.Array:
        """The image_ids that have a record and are not among those ``beside``."""
        chunks: list[pa.Array] = []
        names: list[str] = []
        for found in self.store.list("records"):
            name = found.path.rpartition("/")[2]
            if name.endswith(".json"):
                image_id, _, number = name.removesuffix(".json").partition(".")
                if found.path == record_path(image_id, retries.of(image_id)):
                    names.append(image_id)
                elif number.isdecimal():
                    self._seen.add(int(number))
            if len(names) >= _LISTED:
                chunks.append(pa.array(names, pa.string()))
                names = []
        recorded = pa.concat_arrays([*chunks, pa.array(names, pa.string())])
        if beside is None or not len(beside):
            return recorded
        return recorded.filter(pc.invert(pc.is_in(recorded, beside)))

    def _read_records(self, image_ids: Iterable[str], retries: Retries) -> Iterator[dict[str, Any]]:
        """Those of these that can be read, in the order given."""
        return filter(None, self._in_turn(partial(self._if_readable, retries=retries), image_ids))

    def _in_turn(self, read: Callable[[str], T], image_ids: Iterable[str]) -> Iterator[T]:
        """Several at a time, never more in memory than are read ahead."""
        with ThreadPoolExecutor(_READERS) as pool:
            waiting = iter(image_ids)
            while batch := list(islice(waiting, _READERS * 16)):
                yield from pool.map(read, batch)

    def _if_readable(self, image_id: str, retries: Retries) -> dict[str, Any] | None:
        """A record; None of one that is damaged, also when it is read again: it may have been on its way."""
        try:
            with suppress(Damaged):
                return self._read(image_id, retries)
            return self._read(image_id, retries)
        except Damaged as damaged:
            self._damage.note(damaged, "the next start of the run judges its image again")
        except NotFound:  # no version of this engine takes records away; somebody did
            pass
        return None

    def _read(self, image_id: str, retries: Retries) -> dict[str, Any]:
        path = record_path(image_id, retries.of(image_id))
        with whole(self.store, path):
            record = read_json(self.store, path)
            if not (record["image_id"] == image_id and record["status"] in STATUSES):
                raise ValueError("it is of another image, or of none")
            return record

    def _path(self, image_id: str) -> str:
        return record_path(image_id, self._retries().of(image_id))


def artefacts_of(record: Mapping[str, Any]) -> str:
    """The folder of what came of an image beside its record; in runs of older versions one for all
    attempts."""
    return str(record.get(ARTEFACTS) or f"images/{record['image_id']}")


def sign(said: Mapping[str, Any], *, blank: Mapping[str, Any], attempts: int, worker: str) -> dict[str, Any]:
    """What was said of an image as a whole record: the run's blank filled in, and signed by the
    engine with who said it, when, and at which attempt; no secret stands in its message."""
    signature = {"attempts": attempts, "worker": worker, "finished_at": _now()}
    record = {**blank, **said, **signature}
    if isinstance(message := record.get("error_message"), str):
        record["error_message"] = masked(message)
    return record


def _narrowed(records: Iterable[dict[str, Any]], columns: Sequence[str] | None) -> Iterator[dict[str, Any]]:
    for record in records:
        yield {c: record[c] for c in columns if c in record} if columns else record


def _now() -> str:
    return datetime.now(UTC).isoformat()
