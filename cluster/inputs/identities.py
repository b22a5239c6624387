"""Which image each input is: learnt where the bytes are read, kept beside the manifest.

``inputs/*.parquet`` has a row for every input whose bytes were read: its number in the manifest, its uri and
its image_id. The rows are facts that can be learnt again by reading the bytes again, so a driver may keep
them in memory for a while; what a crash loses costs a second reading and no verdict.

Of several parts that name an input, the last counts, in the order of the numbers in their names. A process
numbers its parts one higher than the highest that it found, so what it learns counts over all that it had
read, whatever the clocks say. Two that began at the same time have one number: where they differ on an input,
either is a fact, and whoever comes next counts over both.
"""

from __future__ import annotations

import hashlib
import re
import threading
import uuid

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cluster.inputs.manifest import Manifest
from cluster.storage.checksums import checked_parquet, parquet_bytes
from cluster.storage.damage import Damage
from cluster.storage.store import Damaged, NotFound, Store, whole

SCHEMA = pa.schema([("number", pa.int64()), ("uri", pa.string()), ("image_id", pa.string())])

UNREAD = "unread-"
"""Begins the image_id of an input whose bytes nobody could read; the sha256 of its uri follows."""

_NAME = re.compile(r"inputs/part-(\d+)-[0-9a-f]+-\d+\.parquet")
"""Older versions named parts by the clock of the machine that wrote; those come before any with a number."""
_PART_ROWS = 50_000
_NONE, _READ, _UNREAD = 0, 1, 2


def image_id_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def unread_id(uri: str) -> str:
    return UNREAD + hashlib.sha256(uri.encode()).hexdigest()


class Identities:
    """What is known of a manifest's inputs: 33 bytes each, as there may be millions."""

    def __init__(self, store: Store, manifest: Manifest, damage: Damage | None = None) -> None:
        """Reads what is known. ``damage``: told of parts that are damaged, which are passed over."""
        self._store = store
        self._manifest = manifest
        self._digests = np.zeros((len(manifest), 32), np.uint8)
        self._kinds = np.zeros(len(manifest), np.uint8)
        self._lock = threading.Lock()
        self._saving = threading.Lock()
        """Held while a part is written: an older state must not come to lie over a newer one."""
        self._part: list[int] = []
        self._parts = 0
        self._unsaved = 0
        self._damaged: list[str] = []
        damage = damage or Damage()
        paths = [found.path for found in store.list("inputs") if found.path.endswith(".parquet")]
        self._name = f"part-{max(map(_number, paths), default=0) + 1:06}-{uuid.uuid4().hex[:12]}"
        """Begins the names of the parts that this process adds."""
        for path in sorted(paths, key=lambda path: (_number(path), path)):
            try:
                self._read(path)
            except NotFound:  # taken away since it was listed, as it was damaged
                continue
            except Damaged as damaged:
                self._damaged.append(path)
                damage.note(damaged, "the next start of the run reads its inputs again")

    def _read(self, path: str) -> None:
        """Takes over what a part says, or nothing of it."""
        with whole(self._store, path):
            part = pq.read_table(checked_parquet(self._store.read(path)), columns=["number", "image_id"])
            numbers = part["number"].combine_chunks().to_numpy()
            ids = part["image_id"].to_pylist()
            digests = np.array([_digest(image_id) for image_id in ids]).reshape(len(ids), 32)
            if not ((numbers >= 0) & (numbers < len(self._kinds))).all():
                raise ValueError("it is of another manifest")
        self._digests[numbers] = digests  # of several rows of an input the last counts
        self._kinds[numbers] = [_kind(image_id) for image_id in ids]

    def remove_damaged(self) -> None:
        """Takes away the parts that could not be read: what they said is learnt again."""
        for path in self._damaged:
            self._store.delete(path)
        self._damaged.clear()

    def __getitem__(self, number: int) -> str | None:
        """The image_id of an input, or None while it is not known."""
        kind = self._kinds[number]
        if kind == _NONE:
            return None
        return (UNREAD if kind == _UNREAD else "") + self._digests[number].tobytes().hex()

    def learn(self, number: int, image_id: str) -> None:
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
        """image_id by number, null where it is not known."""
        return pa.array((self[number] for number in range(len(self._kinds))), pa.string())

    def save(self) -> None:
        """Writes what was learnt since: the part in work anew, or a full one for the last time."""
        with self._saving:
            with self._lock:
                unsaved, rows, full = self._unsaved, len(self._part), len(self._part) >= _PART_ROWS
                learnt = list(dict.fromkeys(self._part))
                ids = pa.array([self[number] for number in learnt], pa.string())
            if not unsaved:
                return
            uris = pa.array([self._manifest.uri(number) for number in learnt], pa.string())
            table = pa.table([pa.array(learnt, pa.int64()), uris, ids], SCHEMA)
            self._store.write(f"inputs/{self._name}-{self._parts:05}.parquet", parquet_bytes(table))
            with self._lock:
                self._unsaved -= unsaved
                if full:
                    self._part, self._parts = self._part[rows:], self._parts + 1


def _number(path: str) -> int:
    """That in a part's name; 0 where there is none."""
    name = _NAME.fullmatch(path)
    return int(name[1]) if name else 0


def _digest(image_id: str) -> np.ndarray:
    """uint8 (32,)."""
    return np.frombuffer(bytes.fromhex(image_id.removeprefix(UNREAD)), np.uint8)


def _kind(image_id: str) -> int:
    return _UNREAD if image_id.startswith(UNREAD) else _READ
