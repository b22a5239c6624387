"""Checksums are computed once, and never believed of a file that changed."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from jobs.cli import main
from originality.contract import node_cache
from originality.contract.node_cache import CHECKSUMS, sha256

DATA = os.urandom(1_500_000)


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ORIGINALITY_CACHE", str(tmp_path / "cache"))
    file = tmp_path / "weights"
    written(file, DATA)
    return file


def written(file: Path, data: bytes) -> None:
    """A file that was written some time ago, to the file system's clock."""
    file.write_bytes(data)
    long_ago = time.time_ns() - 10**10
    os.utime(file, ns=(long_ago, long_ago))


def in_a_new_process(file: Path, monkeypatch: pytest.MonkeyPatch, *, may_read: bool = True) -> str:
    with monkeypatch.context() as patch:
        patch.setattr(node_cache, "known_digests", {})
        if not may_read:
            patch.setattr(node_cache, "computed_digest", None)
        return sha256(file)


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_a_file_is_read_once(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert in_a_new_process(file, monkeypatch) == digest(DATA)
    assert in_a_new_process(file, monkeypatch, may_read=False) == digest(DATA)
    link = file.with_name("link")
    link.symlink_to(file)
    assert in_a_new_process(link, monkeypatch, may_read=False) == digest(DATA)


def test_a_file_that_changed_is_read_again(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sha256(file)
    about, other = file.stat(), DATA[::-1]
    with file.open("r+b") as handle:  # the same inode, size and, at last, time
        handle.write(other)
    os.utime(file, ns=(about.st_atime_ns, about.st_mtime_ns))
    assert sha256(file) == in_a_new_process(file, monkeypatch) == digest(other)
    another = file.with_name("another")
    written(another, DATA)
    another.replace(file)
    assert sha256(file) == in_a_new_process(file, monkeypatch) == digest(DATA)


def test_a_file_that_is_being_written_is_not_remembered(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_bytes(DATA)
    now = time.time_ns() + 10**12  # whatever the pace of this machine
    os.utime(file, ns=(now, now))
    assert sha256(file) == digest(DATA)
    assert not (file.parent / "cache" / CHECKSUMS).exists()


@pytest.mark.parametrize("harm", ["", "{", "[]", "cut", "flip"])
def test_a_damaged_record_is_ignored(file: Path, monkeypatch: pytest.MonkeyPatch, harm: str) -> None:
    sha256(file)
    (record,) = (file.parent / "cache" / CHECKSUMS).iterdir()
    text = record.read_text()
    known = json.loads(text)["sha256"]
    flipped = known[:-1] + ("0" if known[-1] != "0" else "1")
    record.write_text({"cut": text[:-9], "flip": text.replace(known, flipped)}.get(harm, harm))
    assert in_a_new_process(file, monkeypatch) == digest(DATA)
    assert in_a_new_process(file, monkeypatch, may_read=False) == digest(DATA)


def test_a_cache_that_cannot_be_written_costs_only_time(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (file.parent / "cache").write_text("in the way")
    for _ in range(2):
        assert in_a_new_process(file, monkeypatch) == digest(DATA)


def test_a_cache_below_the_users_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("ORIGINALITY_CACHE", "~/weights")
    assert node_cache.cache_path() == tmp_path / "weights"
    node_cache.check_cache()


@pytest.mark.parametrize("below", ["", "/a/b"])
def test_a_cache_that_is_a_file_is_refused_at_the_start_of_a_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], below: str
) -> None:
    file = tmp_path / "file"
    file.write_text("in the way")
    monkeypatch.setenv("ORIGINALITY_CACHE", f"{file}{below}")
    assert main(["audit", str(tmp_path), "--dry-run"]) == 2
    line = capfd.readouterr().err
    assert line.startswith(f"originality: ORIGINALITY_CACHE={file}{below}: {file} ") and line.count("\n") == 1


def test_many_processes_at_once(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = (
        "import sys; from pathlib import Path; from originality.contract.node_cache import *\n"
        "print(sha256(Path(sys.argv[1])))"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    racers = [
        subprocess.Popen([sys.executable, "-c", code, file], env=environment, stdout=-1, text=True)
        for _ in range(6)
    ]
    assert {racer.communicate()[0].strip() for racer in racers} == {digest(DATA)}
    assert len(list((file.parent / "cache" / CHECKSUMS).iterdir())) == 1
    assert in_a_new_process(file, monkeypatch, may_read=False) == digest(DATA)
