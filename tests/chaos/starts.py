"""The starts of a schedule's run: its drivers, perhaps several at the same time, and how each ended."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from jobs import INTERRUPTED
from jobs.commandline import exits
from tests.chaos.job import command_line
from tests.chaos.schedule import HOUR
from tests.chaos.stage import Stage
from tests.support.places import ROOT
from tests.support.waiting import PATIENCE

DONE = (exits.ALL_JUDGED, exits.SOME_UNJUDGED)
_RESUMABLE = (exits.ENGINE_FAILED, INTERRUPTED)
_TRACEBACK = "Traceback (most recent call last)"
_BETWEEN_SIGNALS = 0.3


@dataclass
class Start:
    """A driver that was started."""

    process: subprocess.Popen[bytes]
    log: Path
    whole: bool
    """Whether it judges all that is left, and not only a part."""
    began: float
    asleep: bool = False
    killed: bool = False

    @property
    def has_begun(self) -> bool:
        """Whether Python has started; before that, a signal simply ends the process."""
        return self.log.stat().st_size > 0

    def signal(self, *signals: signal.Signals) -> bool:
        """Sends signals, one after the other; whether there was a process to send them to."""
        self.killed = self.killed or signal.SIGKILL in signals
        if not (self.has_begun or self.killed):
            return False
        for number, one in enumerate(signals):
            time.sleep(_BETWEEN_SIGNALS if number else 0)
            self.process.send_signal(one)
        return True

    def suspend(self) -> None:
        self.process.send_signal(signal.SIGSTOP)
        self.asleep = True

    def resume(self) -> None:
        self.process.send_signal(signal.SIGCONT)
        self.asleep = False

    def wrong(self) -> str | None:
        """What is wrong with how it ended, if anything."""
        said, code = self.log.read_text(errors="replace"), self.process.returncode
        if _TRACEBACK in said:
            return f"{self.log.name} has a traceback"
        if code in (*DONE, *_RESUMABLE) or (self.killed and code == -signal.SIGKILL):
            return None
        if code == exits.BAD_SETTINGS and _is_refusal(said):
            return None
        last = said.strip().rpartition("\n")[2]
        return f"{self.log.name} ended with code {code}: {last}"


def _is_refusal(said: str) -> bool:
    """Whether a start was refused because of this stage: images are being queued again, a different start
    withdrew the plan before it had results, or the collection is not there now."""
    return any(reason in said for reason in ("being queued again", "was withdrawn", "NoSuchBucket"))


@dataclass
class Starts:
    """The starts on one run folder."""

    stage: Stage
    name: str
    """Name of the schedule, for its logs."""
    output: str
    local: bool = False
    """Whether later starts bring up their own Ray."""
    clock: float = 0.0
    """Seconds by which the first driver's clock is wrong; the next one's is wrong in the other direction."""
    clocks: Mapping[str, float] = field(default_factory=dict)
    """The same for workers, by machine."""
    count: int = 0
    running: list[Start] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    done: bool = False
    """Whether a start that judges all has ended with success since this was last reset."""

    def begin(self, shard: str = "1/1") -> Start:
        self.count += 1
        clock = self.clock * (-1) ** self.count
        arguments = ("chain", self.stage.source, self.output, shard)
        command = command_line(*arguments, clock=clock, clocks=self.clocks)
        log = self.stage.folder / f"{self.name}-start-{self.count}.log"
        with log.open("wb") as out:
            process = subprocess.Popen(
                command,
                cwd=ROOT,
                env={**os.environ, "RAY_ADDRESS": "" if self.local else self.stage.cluster.address},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
            )
        start = Start(process, log, shard == "1/1", time.monotonic())
        self.running.append(start)
        return start

    def newest(self) -> Start | None:
        """The latest start that runs and is not suspended."""
        return next((start for start in reversed(self.running) if not start.asleep), None)

    def reap(self) -> None:
        """Notes which starts have ended, and how."""
        for start in [start for start in self.running if start.process.poll() is not None]:
            self.running.remove(start)
            self.wrong += filter(None, [start.wrong()])
            self.done = self.done or (start.whole and start.process.returncode in DONE)

    def kill(self) -> None:
        """Ends all starts."""
        for start in self.running:
            start.signal(signal.SIGKILL)
            start.process.wait(PATIENCE)
        self.reap()

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Runs a command of the product until it ends."""
        answer = subprocess.run(
            command_line(*arguments, clock=-self.clock),
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        with (self.stage.folder / f"{self.name}-commands.log").open("a") as log:
            log.write(f"{' '.join(arguments)}: {answer.returncode}\n{answer.stdout}{answer.stderr}")
        if _TRACEBACK in answer.stderr:
            self.wrong.append(f"{arguments[0]} ended in a traceback")
        return answer


def clocks_of(kinds: set[str]) -> tuple[float, dict[str, float]]:
    """Of the drivers and of the machines of a schedule."""
    drivers = HOUR if "wrong clock of drivers" in kinds else 0.0
    workers = {"0": HOUR, "1": -HOUR} if "wrong clocks of workers" in kinds else {}
    return drivers, workers
