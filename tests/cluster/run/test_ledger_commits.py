"""Commits, deaths and compactions in any order leave one row an image, with its own artefacts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import pyarrow as pa
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from cluster.run.ledger import Ledger
from cluster.run.parts import read_parts
from cluster.storage.store import Store, open_store
from tests.support.ledger_records import IDS, SCHEMA, record

# Private: Ledger._retries, because no public call tells which retries of an image a ledger knows.


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

    def create(self, path: str, data: bytes) -> bool:
        self._live()
        return super().create(path, data)

    def delete(self, path: str) -> None:
        self._live()
        super().delete(path)


class Between(Store):
    """A store in which something else happens once, after the first write of its user."""

    def __init__(self, store: Store, happens: Callable[[], None]) -> None:
        super().__init__(store.url, store.objects)
        self._happens: Callable[[], None] | None = happens

    def write(self, path: str, data: bytes) -> None:
        super().write(path, data)
        happens, self._happens = self._happens, None
        if happens:
            happens()


class Committing(RuleBasedStateMachine):
    """Commits, late duplicates, compactions and retries in any order, by processes of which some were asleep
    while others retried: what a reader sees is, at every moment, the first record of each image since it
    was last queued again, once, beside the artefacts of just that commit."""

    def __init__(self) -> None:
        super().__init__()
        self.store = open_store("memory://")
        self.first: dict[str, int] = {}
        self.asleep: list[Ledger] = []
        self.ever: dict[str, bytes] = {}
        """Every part that there ever was."""

    @property
    def ledger(self) -> Ledger:
        return Ledger(self.store)  # nothing may live in the object: any process may be the next

    @rule(image_id=IDS, value=st.integers(0, 1000))
    def commit(self, image_id: str, value: int) -> None:
        won = self.ledger.commit(image_id, record(value), {"value.txt": str(value).encode()})
        assert won == (image_id not in self.first)
        self.first.setdefault(image_id, value)

    @rule(image_id=IDS, value=st.integers(0, 1000))
    def two_commit_at_once(self, image_id: str, value: int) -> None:
        """The second writes its artefacts and its record between those of the first."""
        between = Between(self.store, lambda: self.commit(image_id, value + 1))
        won = Ledger(between).commit(image_id, record(value), {"value.txt": str(value).encode()})
        assert not won

    @rule()
    def fall_asleep(self) -> None:
        ledger = self.ledger
        ledger.recorded()  # so that it knows the retries there were
        self.asleep.append(ledger)

    @precondition(lambda self: self.asleep)
    @rule(image_id=IDS, data=st.data())
    def wake_up_and_commit(self, image_id: str, data: st.DataObject) -> None:
        ledger = data.draw(st.sampled_from(self.asleep))
        known = ledger._retries().of(image_id)
        won = ledger.commit(image_id, record(2000), {"value.txt": b"2000"})
        if won and known == self.ledger._retries().of(image_id):
            self.first[image_id] = 2000

    @precondition(lambda self: self.ever)
    @rule(data=st.data())
    def wake_up_and_write_a_part(self, data: st.DataObject) -> None:
        path = data.draw(st.sampled_from(sorted(self.ever)))
        self.store.create(path, self.ever[path])

    @rule()
    def compact(self) -> None:
        self.ledger.compact(SCHEMA)
        in_parts = [i for part in read_parts(self.store) for i in part.ids.to_pylist()]
        assert sorted(in_parts) == sorted(self.first)  # of those who read the parts alone, too

    @rule()
    def compact_again_after_losing_the_part(self) -> None:
        """As if the first had died just before its part was written: the same part again."""
        parts = self.ledger.compact(SCHEMA)
        for part in parts:
            self.store.delete(part)
        assert self.ledger.compact(SCHEMA) == parts

    @rule(limit=st.integers(0, 1000), dies_after=st.integers(0, 9))
    def queue_again(self, limit: int, dies_after: int) -> None:
        """It may die at any write or delete, and is repeated."""

        def unwanted(row: Mapping[str, Any]) -> str | None:
            return "large" if row["value"] >= limit else None

        chosen = {i for i, value in self.first.items() if value >= limit}
        mortal = Ledger(Mortal(self.store, dies_after))
        with suppress(Died):
            mortal.queue_again(unwanted, ["value"], {})
        for found in list(self.store.list("progress")):  # as is known of a process that has died
            self.store.delete(found.path)
        left = {row["image_id"] for row in self.ledger.rows()}
        assert left in ({*self.first}, {*self.first} - chosen)  # all at once or none
        gone = self.ledger.queue_again(unwanted, ["value"], {})
        assert gone == (dict.fromkeys(chosen, "large") if left >= chosen else {})
        self.first = {i: value for i, value in self.first.items() if value < limit}

    @invariant()
    def each_image_once_and_the_first_wins(self) -> None:
        for part in read_parts(self.store):
            self.ever[part.path] = self.store.read(part.path)
        rows = list(self.ledger.rows())
        assert sorted(row["image_id"] for row in rows) == sorted(self.first)
        for row in rows:
            value = self.first[row["image_id"]]
            folder = row.pop("artefacts")
            assert row == {**record(value), "image_id": row["image_id"]}
            assert self.store.read(f"{folder}/value.txt") == str(value).encode()
        assert self.ledger.recorded().sort().to_pylist() == sorted(self.first)
        narrow = list(self.ledger.rows(["image_id", "value"]))
        assert {row["image_id"]: row["value"] for row in narrow} == self.first
        assert all(set(row) == {"image_id", "value"} for row in narrow)
        some = sorted(self.first)[::2]
        found = self.ledger.rows(of=pa.array([*some, "nobody"], pa.string()))
        assert sorted(row["image_id"] for row in found) == some


TestCommitting = Committing.TestCase
TestCommitting.settings = settings(max_examples=40, stateful_step_count=20)
