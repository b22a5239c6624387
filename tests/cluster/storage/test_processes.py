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

# Private: processes._here, because it remembers /proc, which is there for the whole life of a real process.


def test_a_running_process_has_not_ended() -> None:
    assert not ended_here(this_process())


def test_a_zombie_has_ended() -> None:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    messages = {**this_process(), "pid": child.pid, "started": processes.start_time(child.pid)}
    try:
        assert not ended_here(messages)
    finally:
        child.kill()
    until(lambda: ended_here(messages))
    child.wait()
    assert ended_here(messages)


def test_a_reused_id_is_a_different_process() -> None:
    messages = this_process()
    assert ended_here({**messages, "started": messages["started"] - 100})


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
def test_processes_of_other_machines_are_never_certain_to_have_ended(change: dict[str, Any]) -> None:
    """Even though no process has this id here."""
    gone = {**this_process(), "pid": 2**22 + 1}
    assert ended_here(gone)
    assert not ended_here({**gone, **change})


def test_a_process_that_cannot_be_inspected_is_not_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "start_time", lambda pid: None)
    assert not ended_here({**this_process(), "started": 1.0})
    assert ended_here({**this_process(), "pid": 2**22 + 1, "started": 1.0})


def test_without_proc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on macOS."""
    monkeypatch.setattr(processes, "PROC", tmp_path)
    processes._here.cache_clear()
    try:
        messages = this_process()
        assert messages["started"] == psutil.Process(os.getpid()).create_time() and messages["boot"]
        assert not ended_here(messages)
        assert ended_here({**messages, "started": 1.0})
        assert ended_here({**messages, "pid": 2**22 + 1})
    finally:
        processes._here.cache_clear()
