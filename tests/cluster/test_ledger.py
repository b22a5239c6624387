from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from threading import Thread
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from cluster.ledger import Ledger, sign
from cluster.lock import Lock
from cluster.store import Store, open_store
from tests.waiting import PATIENCE

SCHEMA = pa.schema(
    [
        ("image_id", pa.string()),
        ("status", pa.string()),
        ("value", pa.int64()),
        ("sweep", pa.list_(pa.struct([("tokens", pa.int32()), ("distance", pa.float64())]))),
        ("finished_at", pa.timestamp("us", tz="UTC")),
    ]
)
IDS = st.sampled_from([f"{i:02x}" * 32 for i in range(6)])


def record(value: int) -> dict[str, Any]:
    return {
        "status": "judged",
        "value": value,
        "sweep": [{"tokens": 1, "distance": value / 3}],
        "finished_at": datetime.fromtimestamp(value, UTC).isoformat(),
    }


class Died(Exception):  # noqa: N818
    pass


class Mortal(Store):
    """A store whose user dies after so many changes."""

    def __init__(self, store: Store, changes: int) -> None:
        super().__init__(store.url, store.objects)
        self.changes = changes

    def _live(self) -> None:
        self.changes -= 1
        if self.changes < 0:
            raise Died

    def write(self, path: str, data: bytes) -> None:
        self._live()
        super().write(path, data)

    def delete(self, path: str) -> None:
        self._live()
        super().delete(path)


class Committing(RuleBasedStateMachine):
    """Commits, late duplicates and compactions in any order: what a reader sees is, at every
    moment, the first record of each image, once."""

    def __init__(self) -> None:
        super().__init__()
        self.store = open_store("memory://")
        self.first: dict[str, int] = {}

    @property
    def ledger(self) -> Ledger:
        return Ledger(self.store)  # nothing may live in the object: any process may be the next

    @rule(image_id=IDS, value=st.integers(0, 1000))
    def commit(self, image_id: str, value: int) -> None:
        won = self.ledger.commit(image_id, record(value), {"value.txt": str(value).encode()})
        assert won == (image_id not in self.first)
        self.first.setdefault(image_id, value)

    @rule()
    def compact(self) -> None:
        self.ledger.compact(SCHEMA)

    @rule()
    def compact_again_after_losing_the_part(self) -> None:
        """As if the first had died just before its part was written: the same part again."""
        parts = self.ledger.compact(SCHEMA)
        for part in parts:
            self.store.delete(part)
        assert self.ledger.compact(SCHEMA) == parts

    @rule(limit=st.integers(0, 1000), dies_after=st.integers(0, 9))
    def take_back(self, limit: int, dies_after: int) -> None:
        """As a retry does; it may die at any write or delete, and is repeated."""

        def unwanted(row: Mapping[str, Any]) -> bool:
            return bool(row["value"] >= limit)

        mortal = Ledger(Mortal(self.store, dies_after))
        with suppress(Died):
            mortal.drop(unwanted, ["value"])
        self.store.delete("progress/compacting.json")  # which the lock knows of a process that has died
        for image_id, value in list(self.first.items()):
            if value >= limit and image_id not in {row["image_id"] for row in self.ledger.rows()}:
                del self.first[image_id]
        self.each_image_once_and_the_first_wins()
        gone = self.ledger.drop(unwanted, ["value"])
        assert set(gone) == {i for i, value in self.first.items() if value >= limit}
        self.first = {i: value for i, value in self.first.items() if value < limit}

    @invariant()
    def each_image_once_and_the_first_wins(self) -> None:
        rows = list(self.ledger.rows())
        assert sorted(row["image_id"] for row in rows) == sorted(self.first)
        for row in rows:
            value = self.first[row["image_id"]]
            assert row == {**record(value), "image_id": row["image_id"]}
            path = f"images/{row['image_id']}/value.txt"
            assert self.store.read(path) == str(value).encode()
        assert self.ledger.recorded().sort().to_pylist() == sorted(self.first)
        narrow = list(self.ledger.rows(["image_id", "value"]))
        assert {row["image_id"]: row["value"] for row in narrow} == self.first
        assert all(set(row) == {"image_id", "value"} for row in narrow)
        some = sorted(self.first)[::2]
        found = self.ledger.rows(of=pa.array([*some, "nobody"], pa.string()))
        assert sorted(row["image_id"] for row in found) == some


TestCommitting = Committing.TestCase
TestCommitting.settings = settings(max_examples=40, stateful_step_count=20)


@given(st.lists(st.tuples(IDS, st.booleans()), max_size=20))
@settings(max_examples=40)
def test_parts_never_share_a_row(commits: list[tuple[str, bool]]) -> None:
    ledger = Ledger(open_store("memory://"))
    for image_id, compact in commits:
        ledger.commit(image_id, record(1), {})
        if compact:
            ledger.compact(SCHEMA)
    ledger.compact(SCHEMA)
    raw = [image_id for _, ids in ledger._parts() for image_id in ids.to_pylist()]
    assert sorted(raw) == sorted({image_id for image_id, _ in commits})


def test_two_compactions_at_once_are_read_once() -> None:
    ledger = Ledger(open_store("memory://"))
    ledger.commit("aa", record(1), {})
    (part,) = ledger.compact(SCHEMA)
    ledger.store.write("verdicts/part-other.parquet", ledger.store.read(part))
    assert len(list(ledger.rows())) == 1
    assert ledger.compact(SCHEMA) == []


def test_what_is_compacted_while_it_is_read_is_read_once() -> None:
    ledger = Ledger(open_store("memory://"))
    ledger.commit("aa", record(1), {})
    ledger.compact(SCHEMA)
    ledger.commit("bb", record(2), {})
    reading = ledger.rows()
    first = next(reading)
    ledger.compact(SCHEMA)
    assert sorted(row["image_id"] for row in (first, *reading)) == ["aa", "bb"]


def test_a_lock_that_nobody_keeps_is_taken() -> None:
    store = open_store("memory://")
    order: list[str] = []
    with Lock(store, "lock"):
        other = Thread(target=lambda: Lock(store, "lock").__enter__() and order.append("other"))
        other.start()
        other.join(0.3)
        order.append("first")
    other.join(PATIENCE)
    assert order == ["first", "other"]
    long_ago = datetime.fromtimestamp(0, UTC).isoformat()
    store.write("lock", json.dumps({"holder": "dead", "at": long_ago}).encode())
    with Lock(store, "lock"):
        pass
    assert not store.exists("lock")


def test_what_is_too_little_for_a_part_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cluster.ledger._PART_ROWS", 4)
    ledger = Ledger(open_store("memory://"))
    for i in range(11):
        ledger.commit(f"{i:02x}" * 32, record(i), {})
    assert len(ledger.compact(SCHEMA, full_parts_only=True)) == 2
    assert ledger.compact(SCHEMA, full_parts_only=True) == []
    assert sorted(row["value"] for row in ledger.rows()) == list(range(11))
    assert len(ledger.compact(SCHEMA)) == 1


def test_columns_a_record_lacks_are_null() -> None:
    ledger = Ledger(open_store("memory://"))
    ledger.commit("aa", {"status": "rejected"}, {})
    ledger.compact(SCHEMA)
    (row,) = ledger.rows()
    assert row == {**dict.fromkeys(SCHEMA.names), "image_id": "aa", "status": "rejected"}


def test_nan_is_no_record() -> None:
    ledger = Ledger(open_store("memory://"))
    with pytest.raises(ValueError):
        ledger.commit("aa", {"value": float("nan")}, {"a": b""})
    assert list(ledger.store.list()) == []


def test_the_engine_signs() -> None:
    said = {"status": "judged", "attempts": 1, "worker": None}
    before = datetime.now(UTC)
    signed = sign(said, blank={"model": "m", "status": "failed"}, attempts=2, worker="w")
    finished = datetime.fromisoformat(signed.pop("finished_at"))
    assert before <= finished <= datetime.now(UTC)
    assert signed == {"status": "judged", "attempts": 2, "worker": "w", "model": "m"}
