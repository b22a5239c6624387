"""Models in a single file: unpacked once per node, completely or not at all."""

from __future__ import annotations

import multiprocessing
import shutil
import uuid
from pathlib import Path

import pytest

from cluster.storage.store import NotFound, open_store
from cluster.weights.single_file import is_single_file, unpacked_copy
from originality.contract import node_cache
from originality.contract.config import SettingsError
from originality.contract.download import FetchError
from originality.contract.node_cache import CHECKSUMS
from tests.support.waiting import PATIENCE


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "model.fp16.safetensors").write_bytes(b"weights")
    return tmp_path / "model.fp16.safetensors"


def unpack(file: Path, into: Path) -> None:
    """A folder whose files tell what they were unpacked from, and how often."""
    (into / "unet").mkdir(parents=True)
    (into / "unet" / "weights").write_bytes(file.read_bytes() * 3)
    (into / "index.json").write_text("{}")
    with (node_cache.cache_path() / "made").open("a") as made:
        made.write("1")


def made(cache: Path) -> int:
    return len((cache / "made").read_text())


def fail(file: Path, into: Path) -> None:
    into.mkdir()
    (into / "half").write_text("")
    raise SettingsError(f"model file {str(file)!r} is none")


def test_a_file_is_unpacked_once(cache: Path, file: Path) -> None:
    folder = unpacked_copy(str(file), unpack)
    assert (folder / "unet" / "weights").read_bytes() == b"weights" * 3
    elsewhere = shutil.copy(file, file.with_name("renamed.safetensors"))
    assert unpacked_copy(str(elsewhere), unpack) == folder and made(cache) == 1
    assert unpacked_copy(str(file), unpack, "v_prediction") != folder and made(cache) == 2
    file.write_bytes(b"others")
    assert unpacked_copy(str(file), unpack) != folder and made(cache) == 3


def test_a_file_of_a_bucket(s3: str, cache: Path, file: Path) -> None:
    store = open_store(f"{s3}/{uuid.uuid4().hex}")
    store.write(file.name, b"weights")
    uri = f"{store.url}/{file.name}"
    folder = unpacked_copy(uri, unpack)
    assert (folder / "unet" / "weights").read_bytes() == b"weights" * 3
    assert unpacked_copy(uri, unpack) == folder and made(cache) == 1
    assert not list(cache.rglob("*.safetensors"))  # the file itself is not kept
    store.write(file.name, b"changed")
    assert (unpacked_copy(uri, unpack) / "unet" / "weights").read_bytes() == b"changed" * 3
    with pytest.raises(SettingsError, match=f"model file '{uri}' is none"):
        unpacked_copy(uri, fail, "again")
    with pytest.raises(NotFound, match=r"missing\.safetensors does not exist"):
        unpacked_copy(f"{store.url}/missing.safetensors", unpack)


@pytest.mark.parametrize("harm", ["flip", "remove"])
def test_a_damaged_folder_is_unpacked_again(
    cache: Path, file: Path, monkeypatch: pytest.MonkeyPatch, harm: str
) -> None:
    folder = unpacked_copy(str(file), unpack)
    if harm == "flip":
        (folder / "unet" / "weights").write_bytes(b"weightS" * 3)
        monkeypatch.setattr(node_cache, "known_digests", {})  # as in a new process
    else:
        (folder / "unet" / "weights").unlink()
    assert unpacked_copy(str(file), unpack) == folder and made(cache) == 2
    assert (folder / "unet" / "weights").read_bytes() == b"weights" * 3


def test_a_failed_unpacking_leaves_nothing(cache: Path, file: Path) -> None:
    with pytest.raises(SettingsError, match="is none"):
        unpacked_copy(str(file), fail)
    assert {path.suffix for path in cache.iterdir() if path.name != CHECKSUMS} == {".lock"}
    with pytest.raises(SettingsError, match="does not exist"):
        unpacked_copy(str(file) + ".safetensors", unpack)
    with pytest.raises(SettingsError, match="is a pickle"):
        unpacked_copy("s3://nowhere/model.ckpt", unpack)
    shutil.rmtree(cache)
    cache.write_text("a file")
    with pytest.raises(FetchError, match="ORIGINALITY_CACHE"):
        unpacked_copy(str(file), unpack)


def test_one_of_several_racing_processes_unpacks(cache: Path, file: Path) -> None:
    context = multiprocessing.get_context("fork")
    racers = [context.Process(target=unpacked_copy, args=(str(file), unpack)) for _ in range(6)]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join(PATIENCE)
    assert [racer.exitcode for racer in racers] == [0] * 6 and made(cache) == 1


def test_names_of_single_files(tmp_path: Path) -> None:
    (tmp_path / "odd.safetensors").mkdir()
    files = ("a.safetensors", "s3://b/c/A.SafeTensors", "/x/y.ckpt")
    assert all(map(is_single_file, files))
    assert not any(map(is_single_file, ("shapes", "org/name", "s3://b/c", str(tmp_path / "odd.safetensors"))))
