"""Several starts of one run: which work concurrently, which wait, and which are refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Barrier, Thread
from threading import Lock as Mutex
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.driver import driver
from cluster.inputs.manifest import Manifest, Selection
from cluster.run import turn as turn_module
from cluster.run.folder import RunFolder, open_run, plan
from cluster.run.layout import DRIVERS
from cluster.run.turn import exclusive_turn, overlap, selection_of, turn
from cluster.storage.heartbeat import Heartbeat, pulses
from cluster.storage.store import Refused, StoreError, open_store
from cluster.storage.turns import Superseded
from jobs import INTERRUPTED
from jobs.auditing.audit_run import audit, audit_session
from jobs.auditing.prepare import PreparedAudit
from jobs.cli import main
from jobs.commandline import exits
from jobs.retry import retry
from originality.contract.config import SettingsError
from originality.settings.presets import load_settings
from tests.support.mean_colour import MeanColour, paint
from tests.support.waiting import PATIENCE, until


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    for i in range(4):
        paint(tmp_path / "in", f"{i}.png", (i, i, i))
    return plan(str(tmp_path / "in"), open_store(str(tmp_path / "run")), {"model": "m"})


@pytest.fixture(autouse=True)
def quick_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turn_module, "LOOK_SECONDS", 0.02)


class Counting:
    """Counts how many work at the same time."""

    def __init__(self) -> None:
        self.most, self.now, self.turns = 0, 0, 0
        self._mutex = Mutex()

    def __enter__(self) -> None:
        with self._mutex:
            self.now += 1
            self.turns += 1
            self.most = max(self.most, self.now)

    def __exit__(self, *_: object) -> None:
        with self._mutex:
            self.now -= 1


def waits(run: RunFolder) -> bool:
    """Whether the second start of a run has seen that the first one works."""
    return len({found.path.partition(".")[0] for found in run.store.list(DRIVERS)}) == 2


def test_of_starts_in_the_same_instant_one_works_at_a_time(run: RunFolder) -> None:
    together, at_once = Barrier(4), Counting()
    output: list[str] = []

    def start(_: int) -> None:
        mine = open_run(run.store.url)
        together.wait(PATIENCE)
        with turn(mine, "audit", say=output.append), at_once:
            until(lambda: len(output) >= 3)  # whoever is first may have seen one that then moved behind it

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(start, range(4)))
    assert (at_once.most, at_once.turns) == (1, 4)
    assert all("works on this run" in line and "Ctrl-C" in line for line in output)
    assert list(run.store.list("progress")) == []


def test_disjoint_shards_work_side_by_side(run: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    both_in = Barrier(2)

    def start(number: int) -> None:
        with turn(open_run(run.store.url), "audit", Selection(shard=(number, 2))):
            both_in.wait(PATIENCE)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(start, (1, 2)))
    assert capsys.readouterr().err == ""


SHARDS = st.integers(1, 6).flatmap(lambda of: st.tuples(st.integers(1, of), st.just(of)))
SELECTIONS = st.builds(
    Selection, st.none() | st.integers(1, 8), st.none() | st.integers(1, 8), st.integers(0, 3), SHARDS
)


@given(SELECTIONS, SELECTIONS, st.integers(1, 30))
def test_selections_overlap_where_they_share_an_input(one: Selection, other: Selection, inputs: int) -> None:
    table = pa.table({"uri": [str(i) for i in range(inputs)], "bytes": [1] * inputs})
    manifest = Manifest("", table)
    shared = set(one.numbers(manifest).tolist()) & set(other.numbers(manifest).tolist())
    assert overlap(one, other, manifest) == bool(shared)
    messages = json.loads(json.dumps({"selection": vars(one)}))
    assert selection_of(messages) == one


@pytest.mark.parametrize(
    "output",
    [None, {}, {"selection": 3}, {"selection": {"shard": [0, 0], "limit": None, "sample": None, "seed": 0}}],
)
def test_a_damaged_selection_is_ignored(output: Any) -> None:
    assert selection_of(output or {}) is None


def test_a_retry_excludes_all_other_processes(run: RunFolder) -> None:
    with exclusive_turn(run):
        with (
            pytest.raises(SettingsError, match=r"being queued again by .*process \d+"),
            turn(run, "audit"),
        ):
            pass
        with pytest.raises(SettingsError, match=r"is being worked on \(.*, process \d+\)"):
            retry(run, "failed", None)
    with turn(run, "audit", Selection(shard=(1, 2))), pytest.raises(SettingsError, match="stop that first"):
        retry(run, "failed", None)
    assert retry(run, "failed", None).total() == 0


def test_an_audit_and_a_simultaneous_retry_never_run_together(run: RunFolder) -> None:
    at_once = Counting()
    for _ in range(10):
        together = Barrier(2)

        def start(begin: Callable[[RunFolder], Any], together: Barrier = together) -> None:
            mine = open_run(run.store.url)
            together.wait(PATIENCE)
            try:
                with begin(mine), at_once:
                    pass
            except SettingsError:
                pass

        with ThreadPoolExecutor(2) as pool:
            list(pool.map(start, (exclusive_turn, lambda mine: turn(mine, "audit"))))
    assert at_once.most <= 1


def test_one_whose_place_was_taken_stops_as_interrupted(run: RunFolder) -> None:
    with turn(run, "audit") as heartbeat:
        heartbeat.update({"done": 1})
        for found in list(run.store.list(DRIVERS)):  # as whoever takes over does
            run.store.delete(found.path)
        with pytest.raises(Superseded, match="another has taken its place") as caught:
            heartbeat.check()
        with pytest.raises(Superseded):
            heartbeat.update({"done": 2})
    assert exits.code_of(caught.value) == INTERRUPTED
    assert list(run.store.list("progress")) == []


def test_a_retry_whose_place_was_taken_queues_nothing(run: RunFolder) -> None:
    run.ledger.commit("ab", {"status": "failed", "error_class": "x", "error_message": ""}, {})
    with pytest.raises(Superseded), exclusive_turn(run) as heartbeat:
        for found in list(run.store.list(DRIVERS)):
            run.store.delete(found.path)
        heartbeat.check()
    assert run.ledger.has_record("ab")
    assert retry(run, "failed", None).total() == 1


def test_a_waiting_start_stops_at_the_deadline(run: RunFolder) -> None:
    long_ago = datetime.now(UTC) - timedelta(hours=1)
    with (
        turn(run, "audit"),
        pytest.raises(driver.Interrupted, match="stopped at the deadline"),
        turn(run, "audit", deadline=long_ago),
    ):
        pass
    with turn(run, "audit", deadline=long_ago):
        pass


def test_a_run_removed_while_a_start_waited(run: RunFolder) -> None:
    assert run.new
    found: list[BaseException] = []

    def second() -> None:
        try:
            with audit_session(open_run(run.store.url)):
                pass
        except BaseException as error:
            found.append(error)

    with pytest.raises(SettingsError, match="no GPU"), audit_session(run):
        waiting = Thread(target=second)
        waiting.start()
        until(lambda: waits(run))
        raise SettingsError("no GPU")
    waiting.join(PATIENCE)
    assert not found and open_run(run.store.url).description  # as somebody waited, it stayed
    with turn(run, "audit"):
        waiting = Thread(target=second)
        waiting.start()
        until(lambda: waits(run))
        run.withdraw()
    waiting.join(PATIENCE)
    (error,) = found
    assert isinstance(error, StoreError) and "was withdrawn" in str(error)


DAMAGED = (b"", b"{", b"\xff\xfe", b"[]", b'{"host": "\\u001b[2J", "pid": "x", "done": 1, "role": "audit"}')


@pytest.mark.parametrize("content", DAMAGED)
def test_a_damaged_heartbeat_ends_no_command(
    run: RunFolder, content: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    with Heartbeat(run.store, "audit"):
        for found in list(run.store.list(DRIVERS)):
            run.store.write(found.path, content)
        assert main(["status", run.store.url]) == exits.ALL_JUDGED
        output = capsys.readouterr().out
        assert "the driver on" in output and "\x1b" not in output
        assert main(["status", run.store.url, "--json"]) == exits.ALL_JUDGED
        (driver_said,) = json.loads(capsys.readouterr().out)["drivers"]
        assert driver_said["alive"]
        assert main(["retry", run.store.url, "--status", "failed"]) == exits.BAD_SETTINGS
        assert "is being worked on" in capsys.readouterr().err


def test_readers_without_write_access_see_who_works(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    with Heartbeat(run.store, "audit"):

        def refused(path: str, data: bytes) -> None:
            raise Refused("AccessDenied")

        monkeypatch.setattr(run.store, "write", refused)
        (pulse,) = pulses(run.store)
        assert pulse.alive and pulse.state["role"] == "audit"
        monkeypatch.undo()


@pytest.mark.long
def test_two_audits_at_once_do_the_work_once(
    run: RunFolder,
    tmp_path: Path,
    local_ray: None,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    science = PreparedAudit(load_settings(), MeanColour, {"model_digest": "abc"})
    runs: list[int] = []
    carry_out = driver.run

    def counted(task: Any, leases: Any, *arguments: Any, **named: Any) -> driver.Outcome:
        runs.append(leases.open)
        return carry_out(task, leases, *arguments, **named)

    monkeypatch.setattr(driver, "run", counted)
    together = Barrier(2)

    def start(_: int) -> int:
        together.wait(PATIENCE)
        return audit(science, str(tmp_path / "in"), str(tmp_path / "both"))

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(start, range(2))) == [exits.ALL_JUDGED] * 2
    assert runs == [4]
    assert caplog.text.count("works on this run") == 1
    assert not list((tmp_path / "both").glob("progress/*"))
