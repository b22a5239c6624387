"""Drivers that were suspended at the end of their work and resume after another one has taken their place."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from cluster.inputs.identities import image_id_of
from cluster.run.folder import RunFolder, open_run
from cluster.run.layout import DRIVERS, REPORT_LOCK, REPORT_PAGE, SUMMARY_LOCK, snapshot_path
from cluster.settings import ClusterSettings
from cluster.storage.heartbeat import Heartbeat
from cluster.storage.store import Store
from cluster.storage.turns import Superseded
from jobs.auditing import audit_run, report_data
from jobs.auditing.audit_run import audit_session, plan_audit
from jobs.auditing.prepare import PreparedAudit
from jobs.experimenting.plan_runs import carry_out
from originality.contract.config import SettingsError
from originality.settings.presets import load_settings
from tests.support.mean_colour import MeanColour, paint
from tests.support.waiting import until

SCIENCE = PreparedAudit(load_settings(), MeanColour, {"model_digest": "abc"})
INPUTS = 3


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    for i in range(INPUTS):
        paint(tmp_path / "in", f"{i}.png", (i, i, i))
    return plan_audit(SCIENCE, str(tmp_path / "in"), str(tmp_path / "run"))


def judged(run: RunFolder, number: int) -> str:
    """Judge an input as a separate process would; its image_id."""
    image_id = image_id_of(bytes([number]))
    mine = RunFolder(run.store)
    mine.identities.learn(number, image_id)
    mine.identities.save()
    record = {**audit_run.blank(SCIENCE.settings), "status": "rejected", "error_class": f"of-{number}"}
    assert mine.ledger.commit(image_id, record, {})
    return image_id


def lose(store: Store, *folders: str) -> None:
    """Remove this process's claims, as a process that takes over does."""
    for folder in folders:
        for found in list(store.list(folder)):
            store.delete(found.path)


def sum_up(run: RunFolder, heartbeat: Heartbeat) -> dict[str, Any]:
    return audit_run.write_results(SCIENCE, open_run(run.store.url), heartbeat)[0]


def first_time(function: Callable[..., Any], then: Callable[[], object]) -> Callable[..., Any]:
    """A function after whose first call something else happens, as if its caller were suspended."""
    calls: list[object] = []

    def called(*arguments: Any, **named: Any) -> Any:
        found = function(*arguments, **named)
        calls.append(found)
        if len(calls) == 1:
            then()
        return found

    return called


def page_of(run: RunFolder) -> str:
    return run.store.read(REPORT_PAGE).decode()


def test_a_returned_driver_does_not_touch_the_newer_report(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    judged(run, 0)

    def another_takes_over() -> None:
        lose(run.store, DRIVERS, SUMMARY_LOCK)
        judged(run, 1)
        with Heartbeat(run.store, "audit") as other:
            assert sum_up(run, other)["pending"] == 1

    monkeypatch.setattr(audit_run, "summarise", first_time(audit_run.summarise, another_takes_over))
    with Heartbeat(run.store, "audit") as heartbeat, pytest.raises(Superseded):
        sum_up(run, heartbeat)
    assert RunFolder(run.store).summary()["pending"] == 1
    assert "of-1" in page_of(run)
    assert not list(run.store.list("progress"))


def test_one_that_returns_before_the_page_is_written_writes_none(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    judged(run, 0)

    def another_takes_over() -> None:
        lose(run.store, DRIVERS, REPORT_LOCK)
        run.store.write(REPORT_PAGE, b"a later page")

    monkeypatch.setattr(report_data, "render", first_time(report_data.render, another_takes_over))
    with Heartbeat(run.store, "audit") as heartbeat, pytest.raises(Superseded):
        sum_up(run, heartbeat)
    assert page_of(run) == "a later page"


def test_one_whose_turn_to_write_results_was_taken_ends_well(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two drivers with different shards: the other one has written the results of both."""
    judged(run, 0)

    def another_sums_up() -> None:
        lose(run.store, SUMMARY_LOCK)
        judged(run, 1)
        with Heartbeat(run.store, "audit") as other:
            sum_up(run, other)

    monkeypatch.setattr(audit_run, "summarise", first_time(audit_run.summarise, another_sums_up))
    with Heartbeat(run.store, "audit") as heartbeat:
        assert sum_up(run, heartbeat)["pending"] == 2
    assert RunFolder(run.store).summary()["pending"] == 1
    assert "of-1" in page_of(run)


def test_shards_that_end_together_write_results_one_after_the_other(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    judged(run, 0)
    write_summary = RunFolder.write_summary
    written: list[int] = []

    def note(run: RunFolder, summary: dict[str, Any]) -> None:
        written.append(summary["pending"])
        write_summary(run, summary)

    monkeypatch.setattr(RunFolder, "write_summary", note)
    with Heartbeat(run.store, "audit") as heartbeat, ThreadPoolExecutor(1) as pool:

        def another_ends() -> None:
            judged(run, 1)
            pool.submit(sum_up, run, heartbeat)
            until(lambda: len({f.path.partition(".")[0] for f in run.store.list(SUMMARY_LOCK)}) == 2)

        monkeypatch.setattr(audit_run, "summarise", first_time(audit_run.summarise, another_ends))
        sum_up(run, heartbeat)
        until(lambda: len(written) == 2)
    assert written == [2, 1]
    assert RunFolder(run.store).summary()["pending"] == 1


def test_one_that_returns_withdraws_no_run(run: RunFolder) -> None:
    assert run.new
    with pytest.raises(Superseded), audit_session(run):
        lose(run.store, DRIVERS)
        raise SettingsError("no GPU")
    assert open_run(run.store.url).description


@pytest.mark.parametrize("ending", ["audit", "documents"])
def test_one_that_returns_clears_no_snapshots(
    run: RunFolder, ending: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = [snapshot_path(judged(run, number)) for number in range(INPUTS)]
    for path in kept:
        run.store.write(path, b"of the one at work")
    mend = RunFolder.mend

    def suspended(run: RunFolder) -> None:
        mend(run)
        lose(run.store, DRIVERS)

    monkeypatch.setattr(RunFolder, "mend", suspended)
    how = ClusterSettings()
    with pytest.raises(Superseded):
        if ending == "audit":
            audit_run.run_to_end(SCIENCE, run, how, audit_run.Selection())
        else:
            carry_out(run, MeanColour, how, gpu=False, memory=0)
    assert all(run.store.exists(path) for path in kept)
