"""Plays a schedule: starts the job, disturbs it, and starts it again until it is done; then checks its
results."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from jobs.commandline import exits
from tests.chaos.damage import damage
from tests.chaos.judging import wrong_with
from tests.chaos.schedule import LOCAL_RAY, Event, Schedule
from tests.chaos.stage import Stage
from tests.chaos.starts import Starts, clocks_of
from tests.chaos.troubles import Troubles, Undo
from tests.support.places import ROOT
from tests.support.seaweed import BUCKET
from tests.support.waiting import PATIENCE, until

_GIVE_UP = PATIENCE
"""Seconds after which a schedule counts as hung."""
_MOST_STARTS = 30
"""Number of starts after which a schedule counts as making no progress."""
_LOOK_SECONDS = 0.1
_REFILL_SECONDS = 1.0
_PAUSE_SECONDS = 0.5
"""Before a command that was refused is run again."""


class GivenUp(Exception):  # noqa: N818 - an outcome of the schedule
    """The schedule is not continued, as something is wrong already."""


@dataclass
class Played:
    """The outcome of a schedule."""

    seed: int
    events: list[str] = field(default_factory=list)
    """Troubles that were made before the job was done."""
    starts: int = 0
    """Number of starts until the job was done."""
    seconds: float = 0.0
    wrong: list[str] = field(default_factory=list)
    """What is wrong, one line each."""


def play(stage: Stage, schedule: Schedule) -> Played:
    """Plays a schedule, and repairs the stage afterwards."""
    return _Play(stage, schedule).to_the_end()


class _Play:
    def __init__(self, stage: Stage, schedule: Schedule) -> None:
        name = f"seed-{schedule.seed}-{time.monotonic_ns()}"
        drivers, workers = clocks_of(schedule.kinds)
        self._stage = stage
        self._schedule = schedule
        self._dice = random.Random(schedule.seed)
        local = LOCAL_RAY in schedule.kinds
        self._starts = Starts(stage, name, f"s3://{BUCKET}/{name}", local, drivers, workers)
        self._troubles = Troubles(stage, self._starts, self._dice)
        self._to_come = list(schedule.events)
        self._ends: list[tuple[float, Undo]] = []
        self._began = time.monotonic()
        self._refills_at = 0.0
        self._played = Played(schedule.seed)
        self._afterwards = {
            "damage the finished run": self._damage,
            "retry beside readers": self._retry_beside_readers,
            "late compaction": self._late_compaction,
        }

    def to_the_end(self) -> Played:
        self._stage.mend()
        self._played.events += [f"{kind} at 0.0 s" for kind in self._schedule.clocks]
        try:
            self._until_done()
            for kind in self._schedule.afterwards:
                self._note(kind)
                self._afterwards[kind]()
        except GivenUp:
            pass
        finally:
            self._end_troubles()
            self._starts.kill()
            self._stage.mend()
        self._played.starts = self._starts.count
        self._played.seconds = round(self._time(), 1)
        self._played.wrong += self._starts.wrong
        self._played.wrong += self._wrong_with_what_is_left()
        return self._played

    def _wrong_with_what_is_left(self) -> list[str]:
        try:
            return wrong_with(self._stage.store(self._starts.output), self._stage.expected)
        except Exception as error:
            return [f"what is left cannot be read: {type(error).__name__}: {error}"]

    def _time(self) -> float:
        return time.monotonic() - self._began

    def _note(self, kind: str) -> None:
        self._played.events.append(f"{kind} at {self._time():.1f} s")

    def _until_done(self) -> None:
        """Starts the job again until a start has finished it, and waits for all other starts."""
        starts = self._starts
        starts.done = False
        while True:
            starts.reap()
            if starts.done and not starts.running:
                break
            if not (starts.done or starts.newest()):
                starts.begin()
            self._make_trouble()
            self._wait()
        self._end_troubles()

    def _wait(self) -> None:
        if self._time() > _GIVE_UP:
            left = len(self._starts.running)
            self._starts.wrong.append(f"not done after {_GIVE_UP:g} s, with {left} drivers left")
        if self._starts.count > _MOST_STARTS:
            self._starts.wrong.append(f"not done after {_MOST_STARTS} starts")
        if self._starts.wrong:
            raise GivenUp
        time.sleep(_LOOK_SECONDS)

    def _make_trouble(self) -> None:
        if self._time() > self._refills_at:
            self._troubles.refill()
            self._refills_at = self._time() + _REFILL_SECONDS
        for event in [event for event in self._to_come if self._is_due(event)]:
            undo = self._troubles.begin(event)
            if undo is not None:  # None: there is nothing to disturb yet
                self._to_come.remove(event)
                self._note(event.what)
                self._ends.append((self._time() + event.seconds, undo))
        for due in [pair for pair in self._ends if pair[0] <= self._time()]:
            self._ends.remove(due)
            due[1]()

    def _is_due(self, event: Event) -> bool:
        """Troubles of the cluster wait until it is used."""
        return event.at <= self._time() and (event.what == LOCAL_RAY or not self._starts.local)

    def _end_troubles(self) -> None:
        """Ends the troubles under way; those that have not begun are dropped."""
        self._to_come.clear()
        while self._ends:
            self._ends.pop()[1]()

    def _damage(self) -> None:
        damage(self._stage.store(self._starts.output), self._dice)
        self._until_done()

    def _retry(self) -> None:
        """Puts the rejected images back for a retry, which is refused while a driver may be alive."""
        while True:
            answer = self._starts.command("retry", self._starts.output, "--status", "rejected")
            if answer.returncode == exits.ALL_JUDGED:
                return
            if answer.returncode != exits.BAD_SETTINGS or "worked on" not in answer.stderr:
                self._starts.wrong.append(f"retry: {answer.returncode}, {answer.stderr.strip()[-300:]}")
            time.sleep(_PAUSE_SECONDS)
            self._wait()

    def _retry_beside_readers(self) -> None:
        with self._reader():
            self._retry()
            self._until_done()

    @contextmanager
    def _reader(self) -> Iterator[None]:
        command = [sys.executable, "-m", "tests.chaos.reader", self._starts.output]
        log = self._stage.folder / f"{self._starts.name}-reader.log"
        with log.open("wb") as said:
            pipe = subprocess.PIPE
            reader = subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, stderr=said)
        try:
            yield
            seen, _ = reader.communicate(timeout=PATIENCE)
        finally:
            reader.kill()
        self._starts.wrong += seen.decode().splitlines()
        if reader.returncode != 0:
            self._starts.wrong.append(f"the reader ended with code {reader.returncode}: {log.name}")

    def _late_compaction(self) -> None:
        """Suspends a driver while it writes a table; what it copied is queued and judged again meanwhile.
        Its request arrives after that."""
        starts, proxy = self._starts, self._stage.proxies[0]
        self._retry()
        proxy.fault("hold", method="PUT", name="/verdicts/", times=1)
        late = starts.begin()
        until(lambda: proxy.struck or late.process.poll() is not None)
        late.suspend()
        self._retry()
        starts.done = False
        while not starts.done:
            starts.reap()
            if not (starts.done or starts.newest()):
                starts.begin()
            self._wait()
        proxy.heal()
        late.resume()
        until(lambda: late.process.poll() is not None)
        starts.reap()
        self._retry()
        self._until_done()
