"""Where the chaos is played: a Ray cluster of three nodes, an S3 gateway, a faulty proxy before it, and
images of which each is known to come to what."""

from __future__ import annotations

import io
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil
import pyarrow.parquet as pq
from PIL import Image

from cluster.identities import image_id_of
from cluster.ledger import artefacts_of
from cluster.runfolder import open_run
from cluster.store import open_store
from originality.scoring import Item
from tests.chaos.chain import STEPS, link, start
from tests.faults import FaultyProxy
from tests.rays import Machines
from tests.seaweed import BUCKET, Gateway
from tests.waiting import PATIENCE

ROOT = Path(__file__).parents[2]
IMAGES, COPIES = 24, 4
_GIVE_UP = PATIENCE
"""Seconds after which a schedule is taken to hang."""
PROXY_FAULTS: dict[str, dict[str, Any]] = {
    "500": {"mode": "error", "status": 500},
    "503": {"mode": "error", "status": 503},
    "slow": {"mode": "slow", "seconds": 0.5},
    "cut": {"mode": "cut"},
    "lose answer": {"mode": "lose_answer"},
    "refuse": {"mode": "refuse"},
}
OTHER_FAULTS = ("kill worker", "kill driver", "stop driver", "interrupt driver", "lose node", "kill store")


@dataclass(frozen=True)
class Event:
    at: float
    """Seconds after the schedule began."""
    what: str
    seconds: float
    """How long it lasts, where it lasts."""


def schedule(seed: int) -> list[Event]:
    """Two to five troubles, by dice."""
    dice = random.Random(seed)
    kinds = [*OTHER_FAULTS, *PROXY_FAULTS]
    events = [
        Event(dice.uniform(2.0, 9.0), dice.choice(kinds), dice.uniform(0.3, 2.0))
        for _ in range(dice.randint(2, 5))
    ]
    return sorted(events, key=lambda event: event.at)


@dataclass
class Played:
    """What came of a schedule."""

    seed: int
    events: list[str] = field(default_factory=list)
    """The troubles that were made before it was done."""
    starts: int = 0
    """How often the job was started until it was done."""
    seconds: float = 0.0
    wrong: list[str] = field(default_factory=list)
    """What is not as it should be."""


class Stage:
    """To be entered once for many schedules. Sets the environment that leads to its parts."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.expected: dict[str, tuple[str, str | None]] = {}
        """image_id to status and chain."""
        self.inputs: dict[str, str] = {}
        """uri to image_id."""
        self._stack = ExitStack()
        self._dice = random.Random()

    def __enter__(self) -> Self:
        self.gateway = Gateway(self.folder)
        self._stack.callback(self.gateway.stop)
        self.gateway.start()
        self.proxy = self._stack.enter_context(FaultyProxy(self.gateway.port))
        before = dict(os.environ)
        self._stack.callback(lambda: (os.environ.clear(), os.environ.update(before)))
        os.environ.update(self.gateway.environment)
        os.environ["AWS_ENDPOINT_URL"] = self.proxy.url
        os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), *filter(None, sys.path)])
        self._upload()
        self.cluster = Machines(initialize_head=True, head_node_args={"num_cpus": 0})
        self._stack.callback(self.cluster.shutdown)
        self._nodes = [self.cluster.add_node(num_cpus=1) for _ in range(2)]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def _upload(self) -> None:
        store = open_store(f"s3://{BUCKET}/in")
        dice = random.Random(0)
        for i in range(IMAGES):
            image = Image.new("RGB", (4, 4), tuple(dice.randrange(256) for _ in range(3)))
            data = io.BytesIO()
            image.save(data, "PNG")
            chain = start(Item("", image))
            for step in range(STEPS):
                chain = link(chain, step)
            self._put(store, f"{i:02}.png", data.getvalue(), ("judged", chain))
            if i < COPIES:
                self._put(store, f"copies/{i:02}.png", data.getvalue(), ("judged", chain))
        self._put(store, "text.png", b"no image", ("rejected", None))
        self._put(store, "empty.png", b"", ("rejected", None))

    def _put(self, store: Any, path: str, data: bytes, ends: tuple[str, str | None]) -> None:
        store.write(path, data)
        self.expected[image_id_of(data)] = ends
        self.inputs[f"{store.url}/{path}"] = image_id_of(data)

    def play(self, seed: int) -> Played:
        """Starts the job, makes trouble, and starts it again until it is done; then looks at what is left."""
        events = schedule(seed)
        played = Played(seed)
        self._dice = random.Random(seed)
        output = f"s3://{BUCKET}/run-{seed}"
        began = time.monotonic()
        with (self.folder / f"job-{seed}.log").open("wb") as log:
            while True:
                played.starts += 1
                code = self._start(output, log, events, began, played)
                if code == 0:
                    break
                if time.monotonic() - began > _GIVE_UP:
                    played.wrong.append(f"not done after {_GIVE_UP:g} s; exit code {code}")
                    break
        played.seconds = round(time.monotonic() - began, 1)
        played.wrong += self._look(output)
        return played

    def _start(self, output: str, log: Any, events: list[Event], began: float, played: Played) -> int:
        """One start of the job, to its end; its exit code."""
        job = subprocess.Popen(
            [sys.executable, "-m", "tests.chaos.job", f"s3://{BUCKET}/in", output],
            cwd=ROOT,
            env={**os.environ, "RAY_ADDRESS": self.cluster.address},
            stdout=log,
            stderr=log,
        )
        ends: list[tuple[float, Event]] = []
        try:
            while job.poll() is None and time.monotonic() - began < _GIVE_UP:
                now = time.monotonic() - began
                while events and events[0].at <= now:
                    event = events.pop(0)
                    if self._begin(event, job):
                        played.events.append(f"{event.what} at {event.at:.1f} s")
                    ends.append((now + event.seconds, event))
                for due in [pair for pair in ends if pair[0] <= now]:
                    ends.remove(due)
                    self._end(due[1])
                time.sleep(0.05)
        finally:
            job.kill()
            job.wait()
            for _, event in ends:
                self._end(event)
        return job.returncode

    def _begin(self, event: Event, job: subprocess.Popen[bytes]) -> bool:
        """Whether there was anything to trouble."""
        if event.what in PROXY_FAULTS:
            share = 1.0 if event.what in ("refuse", "503") else 0.5
            self.proxy.fault(share=share, seed=self._dice.randrange(2**32), **PROXY_FAULTS[event.what])
            return True
        begin: dict[str, Callable[[], Any]] = {
            "kill worker": self._kill_worker,
            "kill driver": job.kill,
            "stop driver": lambda: job.send_signal(signal.SIGTERM),
            "interrupt driver": lambda: job.send_signal(signal.SIGINT),
            "lose node": self._lose_node,
            "kill store": self.gateway.kill,
        }
        return begin[event.what]() is not False

    def _end(self, event: Event) -> None:
        if event.what in PROXY_FAULTS:
            self.proxy.heal()
        elif event.what == "kill store":
            self.gateway.start()
        elif event.what == "lose node" and len(self._nodes) < 2:
            self._nodes.append(self.cluster.add_node(num_cpus=1))

    def _kill_worker(self) -> bool:
        below = psutil.Process().children(recursive=True)  # of this cluster's nodes alone
        workers = [process for process in below if "ray::Worker" in _title(process)]
        if workers:
            self._dice.choice(workers).kill()
        return bool(workers)

    def _lose_node(self) -> bool:
        if len(self._nodes) < 2:
            return False
        node = self._nodes.pop(self._dice.randrange(2))
        self.cluster.remove_node(node, allow_graceful=False)
        return True

    def _look(self, output: str) -> list[str]:
        """What is wrong with what a run has left."""
        run = open_run(output)
        wrong = []
        rows = list(run.ledger.rows())
        counts = Counter(row["image_id"] for row in rows)
        wrong += [f"{image_id} has {n} rows" for image_id, n in counts.items() if n > 1]
        found = {row["image_id"]: (row["status"], row.get("chain")) for row in rows}
        for image_id in self.expected.keys() | found.keys():
            if found.get(image_id) != self.expected.get(image_id):
                wrong.append(f"{image_id}: {found.get(image_id)}, not {self.expected.get(image_id)}")
        in_parts: Counter[str] = Counter()
        for part in run.store.list("verdicts"):
            in_parts.update(pq.read_table(io.BytesIO(run.store.read(part.path)))["image_id"].to_pylist())
        if in_parts != Counter(self.expected.keys()):
            wrong.append(f"the parts hold {in_parts.total()} rows of {len(in_parts)} images")
        uris = {run.manifest.uri(n): run.identities[n] for n in range(len(run.manifest))}
        if uris != self.inputs:
            wrong.append(f"{sum(uris.get(u) != i for u, i in self.inputs.items())} inputs are not known")
        left = [f.path for f in run.store.list("progress") if f.path.endswith(".snapshot")]
        wrong += [f"{path} is left" for path in left]
        chains = {
            row["image_id"]: run.store.read(f"{artefacts_of(row)}/chain.txt").decode()
            for row in rows
            if row.get("artefacts")
        }
        if chains != {i: chain for i, (_, chain) in self.expected.items() if chain}:
            wrong.append("the artefacts are not those of the verdicts")
        return wrong


def _title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""
