"""Records, parts and retries that are damaged, or replaced while they are read."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pytest

from cluster.run.layout import record_path
from cluster.run.ledger import Ledger
from cluster.run.parts import read_parts
from cluster.storage.damage import Damage
from cluster.storage.store import Damaged, NotFound, Store, StoredObject, open_store
from tests.support.bit_flips import FLIPS, flipped
from tests.support.waiting import PATIENCE

# Private: Ledger._view, because no public call holds a view while a different ledger mends the run.

SCHEMA = pa.schema([("image_id", pa.string()), ("status", pa.string()), ("value", pa.int64())])
IDS = [f"{number:02x}" * 32 for number in range(6)]


def committed(store: Store, numbers: range = range(6)) -> Ledger:
    ledger = Ledger(store, Damage())
    for number in numbers:
        assert ledger.commit(IDS[number], {"status": "judged", "value": number}, {})
    return ledger


def values(store: Store) -> dict[str, int]:
    rows = [(row["image_id"], row["value"]) for row in Ledger(store).rows(SCHEMA.names)]
    assert len({image_id for image_id, _ in rows}) == len(rows)
    return dict(rows)


SOUND = {image_id: number for number, image_id in enumerate(IDS)}


def test_any_flipped_bit_of_a_record_is_noticed_and_the_others_are_read() -> None:
    store = open_store("memory://")
    committed(store)
    path = record_path(IDS[2])
    without = {image_id: value for image_id, value in SOUND.items() if image_id != IDS[2]}
    noticed = 0
    for damaged in flipped(store.read(path), seed=1):
        store.write(path, damaged)
        found = values(store)
        assert found in (SOUND, without)
        if found == without:
            noticed += 1
            with pytest.raises(Damaged, match=rf"{path} is damaged"):
                Ledger(store).record(IDS[2])
    assert noticed > FLIPS


def test_any_flipped_bit_of_a_part_is_detected_and_loses_no_row() -> None:
    store = open_store("memory://")
    ledger = committed(store, range(4))
    (path,) = ledger.compact(SCHEMA)
    committed(store, range(4, 6))
    for damaged in flipped(store.read(path), seed=2):
        store.write(path, damaged)
        seen = Damage()
        rows = {row["image_id"]: row["value"] for row in Ledger(store, seen).rows(["image_id", "value"])}
        assert rows == SOUND and seen.paths == [path]
    assert len(ledger.compact(SCHEMA)) == 1  # all of them, in the place of what was damaged
    (part,) = read_parts(store)
    assert sorted(part.ids.to_pylist()) == IDS


def test_a_damaged_part_is_written_again() -> None:
    store = open_store("memory://")
    ledger = committed(store)
    (path,) = ledger.compact(SCHEMA)
    data = store.read(path)
    store.write(path, data[:-9])
    assert ledger.compact(SCHEMA) == [path] and store.read(path) == data


class Ghosts(Store):
    """A store whose listing also names a part that cannot be found."""

    PATH = "verdicts/part-000000-0123456789abcdef.parquet"

    def list(self, prefix: str = "") -> Iterator[StoredObject]:
        yield from super().list(prefix)
        if prefix == "verdicts":
            yield StoredObject(self.PATH, 1, datetime.now(UTC), None)


def test_a_part_that_is_listed_and_not_found_is_skipped() -> None:
    kept = open_store("memory://")
    (path,) = committed(kept).compact(SCHEMA)
    store = Ghosts(kept.url, kept.objects)
    passed_over: list[Damaged] = []
    pauses: list[float] = []

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        assert len(pauses) == 1, "it is looked for without end"

    assert [part.path for part in read_parts(store, passed_over.append, sleep)] == [path]
    assert [damaged.path for damaged in passed_over] == [Ghosts.PATH]
    assert values(store) == SOUND
    kept.delete(path)  # this one is lost as well: the records stand for it
    assert values(store) == SOUND
    ledger = Ledger(store, seen := Damage())
    assert len(ledger.compact(SCHEMA)) == 1 and seen.paths == [Ghosts.PATH]
    assert values(kept) == SOUND


def test_a_damaged_record_is_read_from_a_part_or_judged_again() -> None:
    store = open_store("memory://")
    committed(store, range(3)).compact(SCHEMA)
    committed(store, range(3, 6))
    for number in (1, 4):
        store.write(record_path(IDS[number]), b'{"image_id": "x"}')
    assert Ledger(store).record(IDS[1])["value"] == 1
    assert Ledger(store).outcome(IDS[4])["error_class"] == "damaged"
    ledger = Ledger(store, seen := Damage())
    assert ledger.mend() == [IDS[4]] and seen.paths == [record_path(IDS[4])]
    assert ledger.mend() == [] and not ledger.has_record(IDS[4])
    assert sorted(ledger.recorded().to_pylist()) == sorted({*IDS} - {IDS[4]})
    assert ledger.commit(IDS[4], {"status": "judged", "value": 44}, {})
    assert not ledger.commit(IDS[4], {"status": "judged", "value": 45}, {})
    for _ in range(2):
        assert values(store) == SOUND | {IDS[4]: 44}
        ledger.compact(SCHEMA)


@pytest.mark.parametrize("filled", [False, True])
@pytest.mark.parametrize("compacted", [False, True])
def test_a_folder_in_place_of_a_record_is_judged_again(tmp_path: Path, filled: bool, compacted: bool) -> None:
    store = open_store(str(tmp_path))
    committed(store)
    if compacted:
        Ledger(store).compact(SCHEMA)
    put_folder(tmp_path / record_path(IDS[2]), filled)
    ledger = Ledger(store)
    assert not ledger.commit(IDS[2], {"status": "judged", "value": 2}, {"a": b"1"})
    assert not list(store.list("images"))
    assert ledger.outcome(IDS[2])["error_class"] == "damaged"
    ledger = Ledger(store, seen := Damage())
    assert ledger.mend() == [IDS[2]] and seen.paths == [record_path(IDS[2])]
    assert Ledger(store).mend() == []
    assert Ledger(store).commit(IDS[2], {"status": "judged", "value": 22}, {})
    for _ in range(2):
        assert values(store) == SOUND | {IDS[2]: 22}
        assert sorted(Ledger(store).recorded().to_pylist()) == IDS
        Ledger(store).compact(SCHEMA)


@pytest.mark.parametrize("filled", [False, True])
def test_a_folder_in_the_place_of_a_retry_is_a_damaged_retry(tmp_path: Path, filled: bool) -> None:
    store = open_store(str(tmp_path))
    ledger = committed(store)
    ledger.queue_again(lambda row: "odd" if row["value"] % 2 else None, ["value"], {})
    for number in (1, 3, 5):
        assert ledger.commit(IDS[number], {"status": "judged", "value": 10 + number}, {})
    left = values(store)
    put_folder(tmp_path / "retries" / "000001.json", filled)
    rows = Ledger(store, seen := Damage()).rows(["image_id", "value"])
    assert {row["image_id"]: row["value"] for row in rows} == left and seen.paths == ["retries/000001.json"]
    assert Ledger(store).mend() == [] and values(store) == left
    assert (tmp_path / "retries" / "000001.json").is_dir() == filled  # somebody's files stay
    taken = Ledger(store).queue_again(lambda row: "two" if row["value"] == 2 else None, ["value"], {})
    assert taken == {IDS[2]: "two"} and values(store).keys() == {*IDS} - {IDS[2]}


def put_folder(path: Path, filled: bool) -> None:
    path.unlink()
    path.mkdir()
    if filled:
        (path / "x").write_bytes(b"1")


def test_a_file_with_a_foreign_name_adds_no_retries() -> None:
    store = open_store("memory://")
    committed(store)
    store.write(record_path(IDS[0], 999_999), b"{}")
    store.write(f"records/00/{IDS[0]}.one.json", b"{}")
    assert values(store) == SOUND and Ledger(store).mend() == []
    assert not list(store.list("retries"))


def test_two_starts_at_once_queue_a_damaged_record_once() -> None:
    store = open_store("memory://")
    committed(store)
    store.write(record_path(IDS[3]), b"")
    first, second = Ledger(store), Ledger(store)
    views, view = [second._view()], second._view
    assert first.mend() == [IDS[3]]
    second._view = lambda: views.pop() if views else view()  # type: ignore[method-assign] # as it had begun
    assert second.mend() == [] and not views
    assert [found.path for found in store.list("retries")] == ["retries/000001.json"]


class Garbled(Store):
    """A store whose first answer for an object is another than what is kept."""

    def __init__(self, store: Store) -> None:
        super().__init__(store.url, store.objects)
        self.requested: Counter[str] = Counter()

    def read(self, path: str, check: Callable[[int], None] | None = None) -> bytes:
        self.requested[path] += 1
        data = super().read(path, check)
        return data[:-1] if self.requested[path] == 1 else data


def test_damage_in_transit_is_not_judged_again() -> None:
    store = open_store("memory://")
    committed(store).queue_again(lambda row: "odd" if row["value"] % 2 else None, ["value"], {})
    left = values(store)
    ledger = Ledger(Garbled(store), seen := Damage())
    assert ledger.mend() == [] and not seen.paths
    assert values(store) == left and len(left) == 3


def test_after_a_damaged_retry_newer_records_still_count() -> None:
    store = open_store("memory://")
    ledger = committed(store)
    ledger.compact(SCHEMA)
    ledger.queue_again(lambda row: "odd" if row["value"] % 2 else None, ["value"], {})
    for number in (1, 3):
        assert ledger.commit(IDS[number], {"status": "judged", "value": 10 + number}, {})
    for compacted in (False, True):
        if compacted:
            ledger.compact(SCHEMA)
        store.write("retries/000001.json", b"{")
        again = Ledger(store, seen := Damage())
        found = {row["image_id"]: row["value"] for row in again.rows(["image_id", "value"])}
        assert found == SOUND | {IDS[1]: 11, IDS[3]: 13}  # and of the last one the row from before
        assert seen.paths == ["retries/000001.json"]
    assert again.queue_again(lambda row: "odd" if row["value"] == 5 else None, ["value"], {}) == {
        IDS[5]: "odd"
    }
    assert again.commit(IDS[5], {"status": "judged", "value": 15}, {})
    assert values(store) == SOUND | {IDS[1]: 11, IDS[3]: 13, IDS[5]: 15}
    assert Ledger(store).mend() == []
    assert list(Ledger(store, seen := Damage()).rows()) and not seen.paths
    assert values(store) == SOUND | {IDS[1]: 11, IDS[3]: 13, IDS[5]: 15}


def test_any_flipped_bit_of_a_retry_is_noticed() -> None:
    store = open_store("memory://")
    ledger = committed(store)
    ledger.queue_again(lambda row: "odd" if row["value"] % 2 else None, ["value"], {"reason": "odd"})
    queued_again = values(store)
    data = store.read("retries/000001.json")
    for damaged in flipped(data, seed=3):
        store.write("retries/000001.json", damaged)
        assert values(store) in (queued_again, SOUND)
    store.write("retries/000001.json", data)
    assert values(store) == queued_again


@pytest.mark.parametrize("where", ["memory", "folder"])
def test_readers_beside_retries_and_compactions_see_one_state(where: str, tmp_path: Path) -> None:
    """Each image's row at most once, none missing of those that nobody queues again, and none that was queued
    again when a reader looked before."""
    store = open_store("memory://" if where == "memory" else str(tmp_path))
    committed(store)
    moving = IDS[:3]  # is judged again and again, with a larger number each time; the others stay as they are
    done, failed = threading.Event(), []

    def work() -> None:
        try:
            for value in range(10, 40):
                ledger = Ledger(store)
                ledger.compact(SCHEMA)
                ledger.queue_again(lambda row: "any" if row["image_id"] in moving else None, [], {})
                for image_id in moving:
                    assert ledger.commit(image_id, {"status": "judged", "value": value}, {})
        except BaseException as error:
            failed.append(error)
            raise
        finally:
            done.set()

    writer = threading.Thread(target=work)
    writer.start()
    last, absent = dict.fromkeys(moving, 0), set[str]()
    reads = 0
    while not done.is_set() or not reads:
        found = values(store)
        assert all(found.get(image_id) == SOUND[image_id] for image_id in IDS[3:])
        for image_id in found.keys() & moving:
            assert found[image_id] >= last[image_id] + (image_id in absent)
            last[image_id] = found[image_id]
        absent = {*moving} - found.keys()
        recorded = set(Ledger(store).recorded().to_pylist())
        assert recorded >= set(IDS[3:])
        reads += 1
    writer.join(PATIENCE)
    assert not failed and values(store) == SOUND | dict.fromkeys(moving, 39)


def test_a_deleted_record_does_not_count() -> None:
    store = open_store("memory://")
    ledger = committed(store)

    class Late(Store):
        def read(self, path: str, check: Callable[[int], None] | None = None) -> bytes:
            self.delete(record_path(IDS[0]))
            return super().read(path, check)

    late = Ledger(Late(store.url, store.objects))
    assert sorted(row["value"] for row in late.rows()) == [1, 2, 3, 4, 5]
    with pytest.raises(NotFound):
        ledger.record(IDS[0])
