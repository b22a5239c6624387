from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from cluster.storage import processes
from cluster.storage.processes import ended_here, this_process
from tests.support.waiting import until


def test_a_process_that_runs_has_not_ended() -> None:
    assert not ended_here(this_process())


def test_one_that_was_killed_has_ended_also_before_its_parent_asks() -> None:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    told = {**this_process(), "pid": child.pid, "started": processes._started(child.pid)}
    try:
        assert not ended_here(told)
    finally:
        child.kill()
    until(lambda: ended_here(told))
    child.wait()
    assert ended_here(told)


def test_an_id_that_was_given_again_is_another_process() -> None:
    told = this_process()
    assert ended_here({**told, "started": told["started"] - 100})


OF_OTHERS: dict[str, dict[str, Any]] = {
    "another machine": {"host": "elsewhere"},
    "a machine of the same name": {"boot": "another"},
    "another container of the same name": {"namespace": 1},
    "an older version": {"boot": None, "namespace": None, "started": None},
    "a damaged id": {"pid": "12"},
    "an id that is none": {"pid": True},
    "no id": {"pid": None},
    "no start": {"started": None},
}


@pytest.mark.parametrize("change", OF_OTHERS.values(), ids=OF_OTHERS)
def test_of_others_nothing_is_certain(change: dict[str, Any]) -> None:
    """Though there is no process with this id here."""
    gone = {**this_process(), "pid": 2**22 + 1}
    assert ended_here(gone)
    assert not ended_here({**gone, **change})


def test_a_process_that_may_not_be_looked_at_is_no_dead_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "_started", lambda pid: None)
    assert not ended_here({**this_process(), "started": 1.0})
    assert ended_here({**this_process(), "pid": 2**22 + 1, "started": 1.0})


def test_where_there_is_no_proc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on macOS."""
    monkeypatch.setattr(processes, "_PROC", tmp_path)
    processes._here.cache_clear()
    try:
        told = this_process()
        assert told["started"] == psutil.Process(os.getpid()).create_time() and told["boot"]
        assert not ended_here(told)
        assert ended_here({**told, "started": 1.0})
        assert ended_here({**told, "pid": 2**22 + 1})
    finally:
        processes._here.cache_clear()
