"""Retries: images whose record no longer counts, so that they are judged again.

A retry is one object, ``retries/000001.json`` and so on, created only if it is absent; that request is its
commit. It removes nothing. Records and parts carry generations in their names instead: the name of an image's
next record contains the number of the last retry that took the image back, and that of a compacted part the
number of retries that its writer knew of. So what a process writes late, after it was suspended or
disconnected while a retry happened, is recognised as outdated by its name alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cluster.run.layout import RETRIES, retry_number, retry_path
from cluster.storage.checksums import json_bytes, read_json
from cluster.storage.damage import damage_errors, damaged_object
from cluster.storage.store import Damaged, NotFound, Store

_MOST_LOST = 100
"""Most consecutive retries that may be lost. A larger number in the name of a record was not written by the
engine."""


@dataclass(frozen=True)
class Retries:
    """The retries of a run, up to the one with number ``count``."""

    count: int = 0
    """Number of the last retry; 0 if there was none."""
    last: Mapping[str, int] = field(default_factory=dict)
    """By image_id: the number of the last retry that took it back, from 1."""

    def of(self, image_id: str) -> int:
        """Number of the last retry that took an image back; 0 if none did."""
        return self.last.get(image_id, 0)

    def before(self, image_ids: pa.Array, number: int) -> np.ndarray:
        """For each image (bool), whether no retry after number ``number`` took it back, so that a row written
        when that was the last retry still counts."""
        later = [image_id for image_id, last in self.last.items() if last > number]
        if not later:
            return np.ones(len(image_ids), bool)
        taken = pc.is_in(image_ids, pa.array(later, pa.string()))
        return ~taken.to_numpy(zero_copy_only=False)

    def read_on(
        self,
        store: Store,
        instead: Callable[[Damaged, int], Iterable[str]],
        seen: Iterable[int] = (),
    ) -> Retries:
        """Return these retries and those that were added since.

        Args:
            store: of the run.
            instead: called with the error and the number of a retry that is damaged or lost; returns the
                images that it queued again.
            seen: numbers that occur in names of records and parts, and so of retries that existed.
        """
        paths = [*(found.path for found in store.list(RETRIES)), *store.folders(RETRIES)]
        there = [number for path in paths if (number := retry_number(path)) is not None]
        until = max(there, default=0)
        until = max([until, *(number for number in seen if number <= until + _MOST_LOST)])
        if until <= self.count:
            return self
        last = dict(self.last)
        for number in range(self.count + 1, until + 1):
            last.update(dict.fromkeys(_images(store, number, instead), number))
        return Retries(until, last)

    def lacks(self, store: Store, seen: Iterable[int]) -> bool:
        """Whether a later retry is lost: one of these numbers, from names of records, has no object. A later
        retry that has its object was only added after these were read."""
        later = (number for number in seen if self.count < number <= self.count + _MOST_LOST)
        return any(not store.exists(retry_path(number)) for number in later)

    def add(self, store: Store, images: Mapping[str, str], why: Mapping[str, Any]) -> bool:
        """Queue images again, with the reason for each. Returns False, and queues none, if another retry
        was added since these were read."""
        return store.create(retry_path(self.count + 1), _written(images, why))


def write_over(store: Store, number: int, images: Mapping[str, str], why: Mapping[str, Any]) -> None:
    """Replace a retry that is damaged or lost, unless a folder with files is in its place."""
    if not store.is_folder(retry_path(number)):
        store.write(retry_path(number), _written(images, why))


def _written(images: Mapping[str, str], why: Mapping[str, Any]) -> bytes:
    return json_bytes({**why, "images": dict(images)}, indent=1)


def _images(store: Store, number: int, instead: Callable[[Damaged, int], Iterable[str]]) -> Iterable[str]:
    """Return the images that a retry queued again. A damaged one is read twice, as the first read may have
    failed on the way. One that is not found counts as damaged: there are later ones."""

    def read() -> list[str]:
        path = retry_path(number)
        try:
            with damage_errors(store, path):
                return [str(image_id) for image_id in read_json(store, path)["images"]]
        except NotFound as lost:
            raise damaged_object(store, path, "it cannot be found") from lost

    with suppress(Damaged):
        return read()
    try:
        return read()
    except Damaged as damaged:
        return instead(damaged, number)
