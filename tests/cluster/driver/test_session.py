"""A session of work on a run: what is saved at its end, however it ends, and what remains of an unused
run."""

from __future__ import annotations

from collections import Counter
from contextlib import nullcontext
from pathlib import Path
from threading import Event
from typing import Any

import pyarrow as pa
import pytest

from cluster.driver import driver, session
from cluster.driver.session import run_session
from cluster.inputs.identities import image_id_of
from cluster.inputs.manifest import Selection
from cluster.run.folder import RunFolder, open_run, plan
from cluster.run.layout import DRIVERS, RUN_FILE
from cluster.settings import ClusterSettings
from cluster.storage.heartbeat import pulses
from cluster.storage.store import open_store
from cluster.worker.messages import Task
from tests.support.mean_colour import MeanColour, paint
from tests.support.waiting import PATIENCE

OUTCOME = driver.Outcome(Counter(), duplicates=0, deaths=0, cost=0.0, worker_hours=0.0, workers=1)


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    for i in range(4):
        paint(tmp_path / "in", f"{i}.png", (i, i, i))
    return plan(str(tmp_path / "in"), open_store(str(tmp_path / "run")), {"model": "m"})


@pytest.mark.parametrize("error", [None, driver.EngineError("no GPU"), KeyboardInterrupt()])
def test_identities_are_saved_however_the_driver_ends(
    run: RunFolder, error: BaseException | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def learns_one(task: Task, leases: Any, settings: Any, *, learn: Any, **_: Any) -> driver.Outcome:
        learn(0, image_id_of(b"first"))
        if error is not None:
            raise error
        return OUTCOME

    monkeypatch.setattr(driver, "run", learns_one)
    with pytest.raises(type(error)) if error else nullcontext(), run_session(run, "audit") as mine:
        task = Task(run.store.url, MeanColour, {})
        assert mine.work(task, mine.leases(), ClusterSettings(), gpu=False) is OUTCOME
    assert open_run(run.store.url).identities[0] == image_id_of(b"first")
    assert not list(run.store.list(DRIVERS))


def test_leases_are_of_the_selection_only_and_others_see_the_session(run: RunFolder) -> None:
    with run_session(run, "audit", selection=Selection(limit=1)) as mine:
        assert mine.leases().open == 1
        (pulse,) = pulses(run.store)
        assert pulse.state["role"] == "audit"


@pytest.mark.parametrize("withdraw", [True, False])
def test_a_new_run_without_results_is_removed_on_request(run: RunFolder, withdraw: bool) -> None:
    with pytest.raises(driver.EngineError), run_session(run, "audit", withdraw_if_unused=withdraw):
        raise driver.EngineError("no GPU")
    assert run.store.exists(RUN_FILE) is not withdraw


def test_tables_are_saved_and_compacted_now_and_then(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    saved, compacted = Event(), Event()
    monkeypatch.setattr(session, "SAVE_SECONDS", 0.01)
    monkeypatch.setattr(session, "COMPACT_SECONDS", 0.01)
    monkeypatch.setattr(type(run.identities), "save", lambda self: saved.set())
    monkeypatch.setattr(type(run.ledger), "compact", lambda self, schema, **_: compacted.set())
    with run_session(run, "audit", schema=pa.schema([("status", pa.string())])):
        assert saved.wait(PATIENCE) and compacted.wait(PATIENCE)
