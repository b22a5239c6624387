"""The records of a run: each image gets exactly one, however many workers judge it.

A record is one object, created only if it is absent. That request is the commit, and the only one. Leases
make it unlikely that two workers judge the same image, but they cannot prevent it: a worker that was taken
for dead may only have been suspended. Whoever comes second finds the record there and drops its own, so an
image may be computed twice, but never has two verdicts.

Compaction copies records into Parquet parts and removes none, so it may be repeated, or be interrupted, at
any point. A retry (:mod:`cluster.run.retries`) removes none either: it gives the image's next record a
different name. Between two retries, what a reader sees of a run only grows.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from cluster.run.layout import COMPACTING_LOCK, RECORDS, artefacts_folder, record_path
from cluster.run.parts import View, firsts, read_parts, replace_part, rows_of, write_part
from cluster.run.record import ARTEFACTS, STATUSES, now
from cluster.run.retries import Retries, write_over
from cluster.storage.checksums import json_bytes, read_json
from cluster.storage.damage import A_FOLDER, Damage, damage_errors, damaged_object
from cluster.storage.lock import Lock
from cluster.storage.parallel import map_in_order
from cluster.storage.store import Damaged, NotFound, Store, StoreError

PART_ROWS = 10_000
"""Rows of one compacted part: few enough that many parts fit in memory."""
READERS = 16
"""Reads at once: a bucket answers each after a while, and any number together."""
_LISTED = 50_000
"""Most names that are held as Python objects, before they are packed into an Arrow array."""


class Ledger:
    """The records of one run folder. The retries of the run are read at the first use, and again whenever all
    rows are read."""

    def __init__(self, store: Store, damage: Damage | None = None) -> None:
        """``damage`` collects damaged files, which are skipped where more than one image is read."""
        self.store = store
        self._damage = damage or Damage()
        self._known: Retries | None = None
        self._seen: set[int] = set()
        """Numbers of retries that occur in names of parts and records, so that a lost retry is noticed."""
        self._pieced: dict[int, list[str]] = {}
        """By number of a damaged retry: the images that it queued again, as far as can be reconstructed."""

    def commit(self, image_id: str, record: Mapping[str, Any], files: Mapping[str, bytes]) -> bool:
        """Write an image's artefacts, then create its record, which names their folder.

        The folder belongs to this attempt alone. So if two workers judge an image at the same time, the
        record that counts names the artefacts of the same worker, and the other's files are never mixed with
        them.

        Returns:
            True if this record counts; False if the image had one already, which stays as it is.

        Raises:
            ValueError: the record is not plain JSON, or contains a NaN.
        """
        path = self._path(image_id)
        folder = artefacts_folder(image_id, uuid.uuid4().hex[:12])
        named = {ARTEFACTS: folder if files else None} if files or ARTEFACTS in record else {}
        data = json_bytes({**record, "image_id": image_id, **named})
        if files and self.store.exists(path):
            return False
        for name, content in files.items():
            self.store.write(f"{folder}/{name}", content)
        if self.store.create(path, data):
            return True
        with suppress(StoreError):  # no record names them, so they may stay
            for name in files:
                self.store.delete(f"{folder}/{name}")
        return False

    def record(self, image_id: str) -> dict[str, Any]:
        """Read an image's record; if it is damaged, its copy in a part.

        Raises:
            NotFound: the image has no record.
            Damaged: the record is damaged, and there is no copy.
        """
        try:
            return self._read(image_id, self._retries())
        except Damaged:
            copy = next(self.rows(of=pa.array([image_id], pa.string())), None)
            if copy is None:
                raise
            return copy

    def outcome(self, image_id: str) -> dict[str, Any]:
        """Read the record of an image that is known to have one.

        If the record is damaged, or cannot be found after all (a folder may be in its place), the image
        counts as failed, until the next start of the run has it judged again.
        """
        try:
            try:
                return self.record(image_id)
            except NotFound as lost:
                raise damaged_object(self.store, self._path(image_id), "it cannot be found") from lost
        except Damaged as damaged:
            failed = {"status": "failed", "error_class": "damaged", "error_message": str(damaged)}
            return {"image_id": image_id, **failed}

    def has_record(self, image_id: str) -> bool:
        """Whether an image has a record that counts, since its last retry if there was any."""
        return self.store.exists(self._path(image_id))

    def recorded(self) -> pa.Array:
        """Return the image_ids that have a record, in no order. A resume does not judge these."""
        while True:
            retries = self._retries(anew=True)
            recorded = self._recorded(retries)
            if not retries.lacks(self.store, self._seen):
                return recorded

    def compact(self, schema: pa.Schema, *, full_parts_only: bool = False) -> list[str]:
        """Copy the records that are in no part yet into new ``verdicts/part-*.parquet``.

        Takes a lock, as parts may be replaced by one process at a time only. Losing the lock does no harm:
        parts are named by their contents, and a row that was copied twice counts once.

        Args:
            schema: of the parts. The engine does not know what a record contains; columns that a record lacks
                are null.
            full_parts_only: leaves records that do not fill a part for later.

        Returns:
            The paths of the new parts.
        """
        with Lock(self.store, COMPACTING_LOCK) as lock:
            view = self._tidied(lock.renew)
            new = self._recorded(view.retries, beside=view.ids).sort()
            parts = []
            if full_parts_only:
                new = new[: len(new) // PART_ROWS * PART_ROWS]
            for start in range(0, len(new), PART_ROWS):
                ids = new[start : start + PART_ROWS].to_pylist()
                rows = []
                for row in self._read_records(ids, view.retries):
                    lock.renew()
                    rows.append(row)
                lock.renew()
                if rows:
                    parts.append(write_part(self.store, rows, schema, view.retries.count))
        return parts

    def rows(
        self, columns: Sequence[str] | None = None, of: pa.Array | None = None
    ) -> Iterator[dict[str, Any]]:
        """Yield every image's row once, from parts and records, in no order.

        Values are plain JSON, times ISO 8601 text.

        Args:
            columns: only these columns, if the row has them.
            of: only the rows of these image_ids.
        """
        view, beside = self.counted()
        for part, counts in zip(view.parts, view.counts, strict=True):
            wanted = counts if of is None else counts & pc.is_in(part.ids, of).to_numpy(zero_copy_only=False)
            if not wanted.any():
                continue
            try:
                yield from rows_of(self.store, part, wanted, columns)
            except (NotFound, Damaged):
                # It was replaced or damaged since it was listed; its records are still there.
                ids = part.ids.filter(pa.array(wanted)).to_pylist()
                yield from _narrowed(self._read_records(ids, view.retries), columns)
        if of is not None:
            beside = beside.filter(pc.is_in(beside, of))
        yield from _narrowed(self._read_records(beside.to_pylist(), view.retries), columns)

    def queue_again(
        self,
        unwanted: Callable[[Mapping[str, Any]], str | None],
        columns: Sequence[str],
        why: Mapping[str, Any],
        before: Callable[[], object] = lambda: None,
    ) -> dict[str, str]:
        """Queue images again: their rows no longer count. All at once, or none if it is
        interrupted.

        Args:
            unwanted: returns the reason to queue an image again, given these columns; None to keep its row.
            columns: that ``unwanted`` needs.
            why: stored with the retry.
            before: called just before the images are queued again.

        Returns:
            The reasons, by image_id.
        """
        while True:
            rows = self.rows(["image_id", *columns])
            chosen = {str(row["image_id"]): reason for row in rows if (reason := unwanted(row)) is not None}
            if not chosen:
                return {}
            before()
            if self._retries().add(self.store, chosen, why):
                break  # else another retry came first, and may have queued the same ones again
        # They are queued again by now, whatever becomes of this; the next compaction does it otherwise.
        with suppress(StoreError), Lock(self.store, COMPACTING_LOCK) as lock:
            self._tidied(lock.renew)
        return chosen

    def mend(self) -> list[str]:
        """Queue images again whose record is damaged, with no copy in a part, or cannot be created as a
        folder is in its place. They are judged again, and recorded under a different name.

        Also replaces damaged and lost retries by what could be reconstructed of them. Returns the image_ids
        queued again.
        """
        while True:
            view, beside = self.counted()
            for number, images in self._pieced.items():
                write_over(self.store, number, dict.fromkeys(images, "unknown"), {"reason": "damaged"})
            self._pieced.clear()
            ids = beside.to_pylist()
            records = map_in_order(partial(self._if_readable, retries=view.retries), ids, READERS)
            lost = [image_id for image_id, found in zip(ids, records, strict=True) if found is None]
            lost += self._barred(view.retries)
            why = {"status": None, "reason": "damaged", "at": now()}
            if not lost or view.retries.add(self.store, dict.fromkeys(lost, "damaged"), why):
                return lost

    def _retries(self, *, anew: bool = False) -> Retries:
        if self._known is None or anew:
            self._known = (self._known or Retries()).read_on(self.store, self._judged_anew, self._seen)
        return self._known

    def _judged_anew(self, damaged: Damaged, retry: int) -> list[str]:
        """Reconstruct what a damaged or lost retry queued again: images that have a record named by it."""
        self._damage.note(
            damaged,
            "images that it queued and that were not judged since have their old rows: queue them again",
        )
        name = re.compile(rf".*/([^/.]+)\.{retry}\.json")
        listed = (name.fullmatch(item.path) for item in self.store.list(RECORDS))
        self._pieced[retry] = [found[1] for found in listed if found]
        return self._pieced[retry]

    def _view(self) -> View:
        """Read the parts, then the retries, so that the retries include all that the writers of the parts
        knew. In the other order, a row whose image was queued again could count beside the new one."""
        gone: list[str] = []

        def pass_over(damaged: Damaged) -> None:
            self._damage.note(damaged, "its rows are read from their records, and it is written again")
            gone.append(damaged.path)

        parts = read_parts(self.store, pass_over)
        self._seen.update(part.retries for part in parts)
        retries = self._retries(anew=True)
        valid = [retries.before(part.ids, part.retries) for part in parts]
        return View(retries, parts, firsts(parts, valid), gone)

    def counted(self) -> tuple[View, pa.Array]:
        """Return which compacted rows count, and the image_ids whose record is in no part. Reads both again
        if the names of records show that a retry was lost."""
        while True:
            view = self._view()
            beside = self._recorded(view.retries, beside=view.ids)
            if not view.retries.lacks(self.store, self._seen):
                return view, beside

    def _barred(self, retries: Retries) -> Iterator[str]:
        """The image_ids whose record cannot be created, as a folder is in its place."""
        for path in self.store.folders(RECORDS):
            image_id = path.rpartition("/")[2].partition(".")[0]
            if path == record_path(image_id, retries.of(image_id)):
                self._damage.note(damaged_object(self.store, path, A_FOLDER), "its image is judged again")
                yield image_id

    def _tidied(self, keep: Callable[[], None]) -> View:
        """Remove damaged parts, and replaces parts with rows that do not count, for readers that read only
        the parts (a query in DuckDB, say)."""
        view = self._view()
        for path in view.damaged:
            keep()
            self.store.delete(path)
        for part, counts in zip(view.parts, view.counts, strict=True):
            if not counts.all():
                keep()
                with suppress(NotFound, Damaged):  # changed since it was read; left to the next compaction
                    replace_part(self.store, part, counts, view.retries.count, keep)
        return view if all(counts.all() for counts in view.counts) else self._view()

    def _recorded(self, retries: Retries, beside: pa.Array | None = None) -> pa.Array:
        """Return the image_ids that have a record that counts, without those in ``beside``."""
        chunks: list[pa.Array] = []
        names: list[str] = []
        for found in self.store.list(RECORDS):
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
        """Yield the records that can be read, in the order of the ids."""
        found = map_in_order(partial(self._if_readable, retries=retries), image_ids, READERS)
        return filter(None, found)

    def _if_readable(self, image_id: str, retries: Retries) -> dict[str, Any] | None:
        """Read a record; None if it is damaged. Tries twice, as the first read may have failed on the
        way."""
        try:
            with suppress(Damaged):
                return self._read(image_id, retries)
            return self._read(image_id, retries)
        except Damaged as damaged:
            self._damage.note(damaged, "the next start of the run judges its image again")
        except NotFound:  # removed by a person: no version of this engine removes records
            pass
        return None

    def _read(self, image_id: str, retries: Retries) -> dict[str, Any]:
        path = record_path(image_id, retries.of(image_id))
        with damage_errors(self.store, path):
            record = read_json(self.store, path)
            if not (record["image_id"] == image_id and record["status"] in STATUSES):
                raise ValueError("it is of another image, or of none")
            return record

    def _path(self, image_id: str) -> str:
        return record_path(image_id, self._retries().of(image_id))


def _narrowed(records: Iterable[dict[str, Any]], columns: Sequence[str] | None) -> Iterator[dict[str, Any]]:
    for record in records:
        yield {c: record[c] for c in columns if c in record} if columns else record
