from __future__ import annotations

import io
import threading

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from obstore.store import ObjectStore

import cluster.inputs.identities
from cluster.inputs.identities import Identities, image_id_of, unread_id
from cluster.inputs.manifest import SCHEMA, Manifest
from cluster.storage.store import Store, StoreError, open_store
from tests.support.waiting import PATIENCE

INPUTS = 12
MANIFEST = Manifest("/in", pa.table([[f"/in/{i}.png" for i in range(INPUTS)], [1] * INPUTS], SCHEMA))
FACTS = st.tuples(st.integers(0, INPUTS - 1), st.integers(-1, 3), st.booleans())


@given(st.lists(FACTS, max_size=30), st.integers(1, 4))
def test_later_processes_know_what_was_learnt_last(facts: list[tuple[int, int, bool]], rows: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cluster.inputs.identities, "PART_ROWS", rows)
        store = open_store("memory://")
        now = Identities(store, MANIFEST)
        known: dict[int, str] = {}
        for number, image, another_comes in facts:
            image_id = unread_id(MANIFEST.uri(number)) if image < 0 else image_id_of(bytes([image]))
            now.learn(number, image_id)
            known[number] = image_id
            if another_comes:
                now.save()
                now = Identities(store, MANIFEST)
        now.save()
        later = Identities(store, MANIFEST)
        assert {n: later[n] for n in range(INPUTS) if later[n]} == known
        assert later.image_ids().to_pylist() == [known.get(n) for n in range(INPUTS)]


def test_a_part_has_the_columns_that_queries_join_on() -> None:
    store = open_store("memory://")
    identities = Identities(store, MANIFEST)
    identities.learn(3, image_id_of(b"x"))
    identities.save()
    (found,) = store.list("inputs")
    table = pq.read_table(io.BytesIO(store.read(found.path)))
    assert table.to_pylist() == [{"number": 3, "uri": "/in/3.png", "image_id": image_id_of(b"x")}]


class Slow(Store):
    """A store whose first write waits until it is released."""

    def __init__(self, objects: ObjectStore) -> None:
        super().__init__("memory://", objects)
        self.began, self.go = threading.Event(), threading.Event()

    def write(self, path: str, data: bytes) -> None:
        if not self.began.is_set():
            self.began.set()
            assert self.go.wait(PATIENCE)
        super().write(path, data)


def test_an_older_state_does_not_overwrite_a_newer_one() -> None:
    store = Slow(open_store("memory://").objects)
    identities = Identities(store, MANIFEST)
    identities.learn(0, image_id_of(b"0"))
    first = threading.Thread(target=identities.save)
    first.start()
    assert store.began.wait(PATIENCE)
    identities.learn(1, image_id_of(b"1"))
    second = threading.Thread(target=identities.save)
    second.start()
    second.join(0.2)
    assert second.is_alive()  # it waits until the first is done
    store.go.set()
    first.join(PATIENCE)
    second.join(PATIENCE)
    later = Identities(store, MANIFEST)
    assert [later[0], later[1]] == [image_id_of(b"0"), image_id_of(b"1")]


class Fails(Store):
    def write(self, path: str, data: bytes) -> None:
        raise StoreError("out")


def test_a_failed_save_is_repeated_later() -> None:
    objects = open_store("memory://").objects
    identities = Identities(Fails("memory://", objects), MANIFEST)
    identities.learn(0, image_id_of(b"0"))
    with pytest.raises(StoreError):
        identities.save()
    identities.store = Store("memory://", objects)
    identities.save()
    assert Identities(Store("memory://", objects), MANIFEST)[0] == image_id_of(b"0")


def test_later_identities_override_those_of_a_fast_clock() -> None:
    """For a part of an earlier version, whose name is the writer's time, and for one with a number."""
    store = open_store("memory://")
    for old in ("99991231T235959000000-00000", "20260101T000000000000-00000"):
        early = Identities(store, MANIFEST)
        early.learn(0, unread_id(MANIFEST.uri(0)))
        early.learn(1, image_id_of(old.encode()))
        early.save()
        (part,) = (found.path for found in store.list("inputs") if "/part-" in found.path)
        store.write(f"inputs/{old}.parquet", store.read(part))
        store.delete(part)
    known = Identities(store, MANIFEST)
    assert known[1] == image_id_of(b"99991231T235959000000-00000")  # as older versions had it
    for image in (b"0", b"1"):
        known = Identities(store, MANIFEST)
        known.learn(0, image_id_of(image))
        known.save()
        assert Identities(store, MANIFEST)[0] == image_id_of(image)


def test_the_next_process_overrides_two_simultaneous_ones() -> None:
    store = open_store("memory://")
    suspended, other = Identities(store, MANIFEST), Identities(store, MANIFEST)
    other.learn(0, image_id_of(b"0"))
    other.save()
    later = Identities(store, MANIFEST)
    later.learn(0, image_id_of(b"later"))
    later.save()
    suspended.learn(0, unread_id(MANIFEST.uri(0)))
    suspended.learn(1, image_id_of(b"1"))
    suspended.save()
    known = Identities(store, MANIFEST)
    assert [known[0], known[1]] == [image_id_of(b"later"), image_id_of(b"1")]
    assert len(list(store.list("inputs"))) == 3
