"""Damaged files of a run folder: noticed whatever bit it is, named, and no hindrance to the others."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cluster.inputs.identities import Identities, image_id_of
from cluster.run.folder import RunFolder, open_run, plan
from cluster.storage.checksums import FIELD, checked_parquet, json_bytes, json_values, parquet_bytes
from cluster.storage.store import Damaged, Store, StoreError, open_store
from originality.contract.checksum import Mismatch
from tests.support.bit_flips import FLIPS, flipped

IDENTITY = {"settings": {"seed": 0, "learning_rate": 5e-4}, "model_digest": "ab" * 32}


@pytest.fixture
def run(pictures: Path, tmp_path: Path) -> RunFolder:
    """Two of three inputs were read, by two processes."""
    run = plan(str(pictures), open_store(str(tmp_path / "run")), IDENTITY)
    run.write_summary({"judged": 1, "pending": 2, "min_tokens": {"1": 1}})
    for number, name in ((0, "first"), (2, "second")):
        other = open_store("memory://")
        identities = Identities(other, run.manifest)
        identities.learn(number, image_id_of(bytes([number])))
        identities.save()
        (part,) = other.list("inputs")
        run.store.write(f"inputs/{name}-00000.parquet", other.read(part.path))
    return open_run(run.store.url)


@pytest.mark.parametrize("filled", [False, True])
def test_a_folder_in_place_of_the_summary_stops_nothing(run: RunFolder, filled: bool) -> None:
    folder = Path(run.store.url, "summary.json")
    folder.unlink()
    folder.mkdir()
    if filled:
        (folder / "x").write_bytes(b"1")
    run.write_summary({"judged": 3})
    assert run.summary() == ({} if filled else {"judged": 3})
    output = run.damage.take()
    assert len(output) == filled and all("summary.json" in line and "remove it" in line for line in output)


def _manifest(run: RunFolder) -> object:
    manifest = RunFolder(run.store).manifest
    return manifest.table, manifest.source, manifest.skipped, manifest.skipped_kinds


def _known(run: RunFolder) -> object:
    return RunFolder(run.store).identities.image_ids().to_pylist()


READERS: dict[str, tuple[str, Callable[[RunFolder], object], object]] = {
    "run.json": ("run.json", lambda run: RunFolder(run.store).description, Damaged),
    "manifest.parquet": ("manifest.parquet", _manifest, Damaged),
    "summary.json": ("summary.json", lambda run: RunFolder(run.store).summary(), {}),
    "inputs": ("inputs/second-00000.parquet", _known, [image_id_of(b"\0"), None, None]),
}


@pytest.mark.parametrize("name", READERS)
def test_any_flipped_bit_is_noticed(run: RunFolder, name: str) -> None:
    """A file that was damaged is never read as another: it is as it was, or it is not there."""
    path, read, without = READERS[name]
    data, sound, noticed = run.store.read(path), read(run), 0
    for damaged in flipped(data, seed=len(name)):
        run.store.write(path, damaged)
        try:
            found = read(run)
        except Damaged as error:
            assert without is Damaged and error.path == path and "\n" not in str(error)
            noticed += 1
        else:
            assert found in (sound, without)
            noticed += found != sound
    assert noticed > FLIPS
    run.store.write(path, data)
    assert read(run) == sound


@pytest.mark.parametrize("cut", [0, 1, 7, 100, -1, -9, -100])
@pytest.mark.parametrize("name", READERS)
def test_truncated_and_overwritten_files_are_detected(run: RunFolder, name: str, cut: int) -> None:
    path, read, without = READERS[name]
    data = run.store.read(path)
    for damaged in (data[:cut], data[:cut] + bytes(len(data[cut:])), b"[]", b"\xff" * 99):
        run.store.write(path, damaged)
        if without is Damaged:
            with pytest.raises(Damaged, match=r"is damaged \(.+\).*--out"):
                read(run)
        else:
            assert read(run) == without


def test_files_of_older_versions_without_checksum_are_read(run: RunFolder) -> None:
    values = run.description
    assert FIELD not in values and FIELD in json.loads(run.store.read("run.json"))
    assert json_values(json.dumps(values).encode()) == values
    table = pa.table({"uri": ["a", None]})
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    assert pq.read_table(checked_parquet(sink.getvalue().to_pybytes())) == table


def test_values_with_a_checksum_are_plain_json(tmp_path: Path) -> None:
    values: dict[str, Any] = {"b": (1, 2.5e-9, -0.0), "a": {10: None, 9: "ü\ud800"}, "checked": True}
    data = json_bytes(values)
    assert json_values(data) == json.loads(json.dumps(values))
    assert json_values(json.dumps(json.loads(data), indent=7).encode()) == json_values(data)
    with pytest.raises(ValueError):
        json_bytes({"a": float("nan")})
    other = {**json.loads(data), "checked": False}
    with pytest.raises(Mismatch):
        json_values(json.dumps(other).encode())


def test_a_parquet_file_with_a_checksum_is_any_readers(tmp_path: Path) -> None:
    """Also one whose own text looks like a checksum."""
    text = parquet_bytes(pa.table({"x": [1]}))[-300:].hex()
    table = pa.table(
        {"x": [text, "originality.checksum", "originality-sha256:" + "0" * 64], "y": [1, 2, None]}
    )
    table = table.replace_schema_metadata({"source": "here"})
    (tmp_path / "x.parquet").write_bytes(parquet_bytes(table))
    assert pq.read_table(tmp_path / "x.parquet") == table
    assert pq.read_schema(tmp_path / "x.parquet").metadata == {b"source": b"here"}
    assert pq.read_table(checked_parquet((tmp_path / "x.parquet").read_bytes())) == table


def test_a_damaged_part_hides_no_other_and_is_learnt_again(run: RunFolder) -> None:
    first, second = (f"inputs/{name}-00000.parquet" for name in ("first", "second"))
    run.store.write(first, b"PAR1")
    damaged = RunFolder(run.store)
    assert damaged.identities.image_ids().to_pylist() == [None, None, image_id_of(b"\2")]
    assert damaged.damage.paths == [first]
    (line,) = damaged.damage.take()
    assert f"{first} is damaged (ArrowInvalid)" in line
    assert damaged.damage.take() == []
    assert {lease.number for lease in damaged.leases(np.arange(3)).grant("w", 9)} == {0, 1, 2}
    damaged.mend()
    assert [found.path for found in run.store.list("inputs")] == [second]
    damaged.identities.learn(0, image_id_of(b"\0"))
    damaged.identities.save()
    mended = RunFolder(run.store)
    assert _known(mended) == _known(run) and not mended.damage.paths


def test_a_part_of_a_different_manifest_is_ignored(run: RunFolder) -> None:
    for number in (-1, 3):
        ids = [image_id_of(b"\0"), image_id_of(b"\1")]
        table = pa.table({"number": [1, number], "uri": ["", ""], "image_id": ids})
        run.store.write("inputs/third-00000.parquet", parquet_bytes(table))
        other = RunFolder(run.store)
        assert other.identities.image_ids().to_pylist() == [image_id_of(b"\0"), None, image_id_of(b"\2")]
        assert other.damage.paths == ["inputs/third-00000.parquet"]


class Goes(Store):
    """A store from which an object is taken away after it was listed."""

    gone = ""

    def read(self, path: str, check: Callable[[int], None] | None = None) -> bytes:
        if path == self.gone:
            self.delete(path)
        return super().read(path, check)


def test_a_part_removed_while_it_is_read_is_skipped(run: RunFolder) -> None:
    store = Goes(run.store.url, run.store.objects)
    store.gone = "inputs/first-00000.parquet"
    other = RunFolder(store)
    assert other.identities.image_ids().to_pylist() == [None, None, image_id_of(b"\2")]
    assert not other.damage.paths


@pytest.mark.parametrize("name", ["run.json", "manifest.parquet"])
def test_damage_that_cannot_be_repaired_is_reported_first(run: RunFolder, pictures: Path, name: str) -> None:
    data = run.store.read(name)
    run.store.write(name, data[:50] + b"?" + data[51:])
    for use in (
        lambda: open_run(run.store.url),
        lambda: plan(str(pictures), run.store, IDENTITY),
        lambda: RunFolder(run.store).check(),
    ):
        with pytest.raises(Damaged, match=f"{name} is damaged"):
            use()
    run.store.delete(name)
    with pytest.raises(StoreError, match=name):
        plan(str(pictures), run.store, IDENTITY)
