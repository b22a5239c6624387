"""The identity of each input (the image_id).

It is determined where the bytes are read, and kept beside the manifest.

``inputs/*.parquet`` has a row for every input whose bytes were read: its number in the manifest (from 0), its
uri, its image_id, and the columns that its list has. Any row can be determined again by reading the bytes
again. So a driver may keep rows in memory for a while; a crash then costs a second reading, but no verdict.

If several parts name an input, the last one counts, in the order of the sequence numbers in their names. A
process numbers its parts one higher than the highest that it found. So its rows override all that it had
read, whatever the clocks of the machines show. Two processes that started at the same time share a number: if
they differ on an input, both are right (the file changed in between), and the next process overrides both.
"""

from __future__ import annotations

import hashlib
import threading
import uuid

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cluster.inputs.manifest import Manifest
from cluster.run.layout import INPUTS, inputs_part_path, inputs_part_sequence
from cluster.storage.checksums import checked_parquet, parquet_bytes
from cluster.storage.damage import Damage, damage_errors
from cluster.storage.store import Damaged, NotFound, Store

SCHEMA = pa.schema([("number", pa.int64()), ("uri", pa.string()), ("image_id", pa.string())])

UNREAD = "unread-"
"""Prefix of the image_id of an input whose bytes could not be read; the sha256 of its uri follows."""

PART_ROWS = 50_000
"""Rows of one saved part. A part that has as many is not written again; a new one is begun."""
_NONE, _READ, _UNREAD = 0, 1, 2


def image_id_of(data: bytes) -> str:
    """The identity of an image: the sha256 of its bytes, in hex digits."""
    return hashlib.sha256(data).hexdigest()


def unread_id(uri: str) -> str:
    """The image_id of an input whose bytes could not be read."""
    return UNREAD + hashlib.sha256(uri.encode()).hexdigest()


class Identities:
    """The known identities of a manifest's inputs. 33 bytes each, as there may be millions."""

    def __init__(self, store: Store, manifest: Manifest, damage: Damage | None = None) -> None:
        """Read the known identities. ``damage``: damaged parts are noted there, and skipped."""
        self.store = store
        """The run folder, to which :meth:`save` writes."""
        self._manifest = manifest
        self._digests = np.zeros((len(manifest), 32), np.uint8)
        self._kinds = np.zeros(len(manifest), np.uint8)
        self._lock = threading.Lock()
        self._saving = threading.Lock()
        """Held while a part is written: an older state must not overwrite a newer one."""
        self._part: list[int] = []
        self._parts = 0
        self._unsaved = 0
        self._damaged: list[str] = []
        damage = damage or Damage()
        paths = [found.path for found in store.list(INPUTS) if found.path.endswith(".parquet")]
        self._sequence = max(map(inputs_part_sequence, paths), default=0) + 1
        self._writer = uuid.uuid4().hex[:12]
        """With the sequence number, begins the names of the parts that this process adds."""
        for path in sorted(paths, key=lambda path: (inputs_part_sequence(path), path)):
            try:
                self._read(path)
            except NotFound:  # it was damaged, and removed since it was listed
                continue
            except Damaged as damaged:
                self._damaged.append(path)
                damage.note(damaged, "the next start of the run reads its inputs again")

    def _read(self, path: str) -> None:
        """Take over the rows of a part: all of them, or none if it is damaged."""
        with damage_errors(self.store, path):
            part = pq.read_table(checked_parquet(self.store.read(path)), columns=["number", "image_id"])
            numbers = part["number"].combine_chunks().to_numpy()
            ids = part["image_id"].to_pylist()
            digests = np.array([_digest(image_id) for image_id in ids]).reshape(len(ids), 32)
            if not ((numbers >= 0) & (numbers < len(self._kinds))).all():
                raise ValueError("it belongs to a different manifest")
        self._digests[numbers] = digests  # if an input has several rows, the last one counts
        self._kinds[numbers] = [_kind(image_id) for image_id in ids]

    def remove_damaged(self) -> None:
        """Delete the parts that could not be read: their inputs are read again."""
        for path in self._damaged:
            self.store.delete(path)
        self._damaged.clear()

    def __getitem__(self, number: int) -> str | None:
        """The image_id of an input; None while it is unknown."""
        kind = self._kinds[number]
        if kind == _NONE:
            return None
        return (UNREAD if kind == _UNREAD else "") + self._digests[number].tobytes().hex()

    def learn(self, number: int, image_id: str) -> None:
        """Note the image_id of an input."""
        if self[number] == image_id:
            return
        with self._lock:
            self._note(number, image_id)
            self._part.append(number)
            self._unsaved += 1

    def _note(self, number: int, image_id: str) -> None:
        self._digests[number] = _digest(image_id)
        self._kinds[number] = _kind(image_id)

    def image_ids(self) -> pa.Array:
        """The image_id of every input, by number; null while it is unknown."""
        return pa.array((self[number] for number in range(len(self._kinds))), pa.string())

    def save(self) -> None:
        """Write what is new: the current part is rewritten until it is full, then the next one begins."""
        with self._saving:
            with self._lock:
                unsaved, rows, full = self._unsaved, len(self._part), len(self._part) >= PART_ROWS
                learnt = list(dict.fromkeys(self._part))
                ids = pa.array([self[number] for number in learnt], pa.string())
            if not unsaved:
                return
            numbers = pa.array(learnt, pa.int64())
            uris = self._manifest.table["uri"].take(numbers)
            table = pa.table([numbers, uris, ids], SCHEMA)
            listed = self._manifest.listed(np.array(learnt, np.int64))
            for name in listed.column_names:
                table = table.append_column(name, listed[name])
            path = inputs_part_path(self._sequence, self._writer, self._parts)
            self.store.write(path, parquet_bytes(table))
            with self._lock:
                self._unsaved -= unsaved
                if full:
                    self._part, self._parts = self._part[rows:], self._parts + 1


def _digest(image_id: str) -> np.ndarray:
    """The digest in an image_id: uint8 (32,)."""
    return np.frombuffer(bytes.fromhex(image_id.removeprefix(UNREAD)), np.uint8)


def _kind(image_id: str) -> int:
    return _UNREAD if image_id.startswith(UNREAD) else _READ
