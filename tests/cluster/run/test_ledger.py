"""The ledger: parts, compactions and retries that happen at the same time."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import cluster.run.ledger
from cluster.run.ledger import Ledger
from cluster.run.parts import read_parts
from cluster.run.record import sign
from cluster.storage.damage import Damage
from cluster.storage.lock import Lock, LockLost
from cluster.storage.store import Outage, Store, StoreError, open_store
from tests.support.ledger_records import IDS, SCHEMA, record

# Private: Ledger._view, because no public call holds a view between two compactions.


@given(st.lists(st.tuples(IDS, st.booleans()), max_size=20))
@settings(max_examples=40)
def test_parts_never_share_a_row(commits: list[tuple[str, bool]]) -> None:
    ledger = Ledger(open_store("memory://"))
    for image_id, compact in commits:
        ledger.commit(image_id, record(1), {})
        if compact:
            ledger.compact(SCHEMA)
    ledger.compact(SCHEMA)
    raw = [image_id for part in read_parts(ledger.store) for image_id in part.ids.to_pylist()]
    assert sorted(raw) == sorted({image_id for image_id, _ in commits})


def test_two_compactions_at_once_are_read_once() -> None:
    ledger = Ledger(open_store("memory://"))
    ledger.commit("aa", record(1), {})
    (part,) = ledger.compact(SCHEMA)
    ledger.store.write("verdicts/part-other.parquet", ledger.store.read(part))
    assert len(list(ledger.rows())) == 1
    assert ledger.compact(SCHEMA) == []


def test_records_compacted_during_a_read_are_read_once() -> None:
    ledger = Ledger(open_store("memory://"))
    ledger.commit("aa", record(1), {})
    ledger.compact(SCHEMA)
    ledger.commit("bb", record(2), {})
    reading = ledger.rows()
    first = next(reading)
    ledger.compact(SCHEMA)
    assert sorted(row["image_id"] for row in (first, *reading)) == ["aa", "bb"]


def test_records_replaced_during_a_read_are_read_once() -> None:
    """A retry, and a compaction after it, take a part away that a reader knows of."""
    ledger = Ledger(open_store("memory://"))
    for number in range(4):
        ledger.commit(f"{number:02x}" * 32, record(number), {})
    ledger.compact(SCHEMA)
    ledger.commit("ff" * 32, record(4), {})
    reading = ledger.rows(["image_id", "value"])
    (before,) = read_parts(ledger.store)
    other = Ledger(ledger.store)
    view = ledger._view()
    other.queue_again(lambda row: "even" if row["value"] % 2 == 0 else None, ["value"], {})
    assert not ledger.store.exists(before.path)
    assert sorted(row["value"] for row in reading) == [1, 3]
    ledger._view = lambda: view  # type: ignore[method-assign] # of one that had begun before
    assert sorted(row["value"] for row in ledger.rows(["image_id", "value"])) == [0, 1, 2, 3, 4]


def counted(ledger: Ledger) -> list[int]:
    return sorted(row["value"] for row in ledger.rows())


@pytest.mark.parametrize("gone", [(1,), (2,), (1, 2)])
@pytest.mark.parametrize("compacted", [False, True])
def test_a_retry_that_is_gone_is_named(gone: tuple[int, ...], compacted: bool) -> None:
    """And what was judged since still counts, by the names of its records, until it is written anew."""
    store = open_store("memory://")
    ids = [f"{number:02x}" * 32 for number in range(3)]
    for judged in (0, 10, 20):
        ledger = Ledger(store)
        for image_id in ids[judged // 10 :]:
            assert ledger.commit(image_id, record(judged), {})
        if judged < 20:
            taken = ids[judged // 10 + 1 :]
            ledger.queue_again(lambda row, taken=taken: "any" if row["image_id"] in taken else None, [], {})
    wanted = counted(Ledger(store))
    assert len(wanted) == 3
    if compacted:
        Ledger(store).compact(SCHEMA)
    paths = [f"retries/{number:06}.json" for number in gone]
    for path in paths:
        store.delete(path)
    for _ in range(2):
        assert counted(Ledger(store, seen := Damage())) == wanted
        assert seen.paths == paths
        assert sorted(Ledger(store).recorded().to_pylist()) == ids
    assert Ledger(store).mend() == []
    assert counted(Ledger(store, seen := Damage())) == wanted
    assert not seen.paths
    assert {f.path for f in store.list("retries")} == {"retries/000001.json", "retries/000002.json"}
    assert Ledger(store).queue_again(lambda row: "any", [], {}) == dict.fromkeys(ids, "any")
    assert not list(Ledger(store).rows())


def test_notes_of_older_versions_are_no_retries() -> None:
    """They removed the rows, and noted that under a name that begins with the date."""
    ledger = Ledger(open_store("memory://"))
    ledger.commit("aa", record(1), {})
    ledger.store.write("retries/20261101T101010000000.json", b'{"images": {"aa": "X"}}')
    assert len(list(ledger.rows())) == 1


def test_two_retries_at_once_queue_disjoint_images() -> None:
    store = open_store("memory://")
    ledger = Ledger(store)
    for number in range(4):
        ledger.commit(f"{number:02x}" * 32, record(number), {})
    others: list[dict[str, str]] = []

    def unwanted(row: Mapping[str, Any]) -> str | None:
        if not others:
            others.append({})
            others[0] = Ledger(store).queue_again(
                lambda row: "low" if row["value"] < 2 else None, ["value"], {}
            )
        return "any" if row["value"] < 3 else None

    assert list(ledger.queue_again(unwanted, ["value"], {})) == ["02" * 32]
    assert list(others[0]) == ["00" * 32, "01" * 32]
    assert [row["value"] for row in Ledger(store).rows()] == [3]


@pytest.mark.parametrize("error", [LockLost, Outage])
def test_a_retry_counts_even_if_its_next_step_fails(
    error: type[StoreError], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store("memory://")
    Ledger(store).commit("aa", record(1), {})
    Ledger(store).compact(SCHEMA)

    def fails(*_: object) -> None:
        raise error("while the tables were tidied")

    with monkeypatch.context() as patch:
        patch.setattr("cluster.run.ledger.replace_part", fails)
        assert Ledger(store).queue_again(lambda row: "x", ["value"], {}) == {"aa": "x"}
    assert list(Ledger(store).rows()) == []
    Ledger(store).compact(SCHEMA)
    assert read_parts(store) == []


def test_a_compaction_that_has_lost_its_lock_stops_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster.run.ledger, "READERS", 1)
    store = open_store("memory://")
    every = [f"{i:02}" for i in range(40)]
    for image_id in every:
        Ledger(store).commit(image_id, record(1), {})
    read: list[str] = []
    usual = Store.read

    def noted(store: Store, path: str, *given: Any) -> bytes:
        if path.startswith("records/"):
            read.append(path)
        return usual(store, path, *given)

    def lost(lock: Lock) -> None:
        if read:
            raise LockLost("taken")

    monkeypatch.setattr(Store, "read", noted)
    monkeypatch.setattr(Lock, "renew", lost)
    with pytest.raises(LockLost):
        Ledger(store).compact(SCHEMA)
    assert 0 < len(read) < len(every)
    assert read_parts(store) == []


def test_records_too_few_for_a_part_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cluster.run.ledger.PART_ROWS", 4)
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
    output = {"status": "judged", "attempts": 1, "worker": None}
    before = datetime.now(UTC)
    signed = sign(output, blank={"model": "m", "status": "failed"}, attempts=2, worker="w")
    finished = datetime.fromisoformat(signed.pop("finished_at"))
    assert before <= finished <= datetime.now(UTC)
    assert signed == {"status": "judged", "attempts": 2, "worker": "w", "model": "m"}
