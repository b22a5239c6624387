"""Locks on files, among processes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from originality.contract.file_lock import locked, locked_if_free
from tests.support.waiting import PATIENCE

HOLD = (
    "import sys; from pathlib import Path; from originality.contract.file_lock import locked\n"
    "with locked(Path(sys.argv[1]), 'the model'):\n"
    "    print('held', flush=True); sys.stdin.readline()"
)


def holder(path: Path) -> subprocess.Popen[str]:
    """A process that takes the lock and holds it until it reads a line."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.Popen(
        [sys.executable, "-c", HOLD, path], env=environment, stdin=-1, stdout=-1, stderr=-1, text=True
    )


def test_a_waiting_process_names_what_is_fetched(tmp_path: Path) -> None:
    with locked(tmp_path / "lock"):
        other = holder(tmp_path / "lock")
        assert other.stderr is not None and "fetches the model" in other.stderr.readline()
        assert other.poll() is None
    assert other.communicate("\n", timeout=PATIENCE)[0] == "held\n"


def test_a_killed_process_leaves_no_lock(tmp_path: Path) -> None:
    other = holder(tmp_path / "lock")
    assert other.stdout is not None and other.stdout.readline() == "held\n"
    with locked_if_free(tmp_path / "lock") as free:
        assert not free
    other.kill()
    other.communicate(timeout=PATIENCE)
    with locked_if_free(tmp_path / "lock") as free:
        assert free
    assert (tmp_path / "lock").exists()


def test_a_holder_may_remove_the_folder_that_others_wait_in(tmp_path: Path) -> None:
    folder = tmp_path / "scratch"
    with locked(folder / "lock"):
        others = [holder(folder / "lock") for _ in range(2)]
        for other in others:
            assert other.stderr is not None and other.stderr.readline()
        shutil.rmtree(folder)
    for other in others:  # any of them may get the lock first, and must not wait for its line then
        assert other.stdin is not None
        other.stdin.write("\n")
        other.stdin.flush()
    printed = [other.communicate(timeout=PATIENCE)[0] for other in others]
    assert printed == ["held\n"] * 2
    assert (folder / "lock").exists()


def test_the_lock_is_released_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(KeyError), locked(tmp_path / "lock"):
        raise KeyError
    with locked(tmp_path / "lock"), locked_if_free(tmp_path / "other") as free:
        assert free


def test_a_file_in_the_folders_place_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FileExistsError), locked(tmp_path / "file" / "lock"):
        pass
