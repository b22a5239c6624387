"""The driver: leases images to workers, buries the dead, and shows how far it is.

The only scheduler of a run. It holds no image and writes no verdict, except for an image that
killed every worker that had it.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TextIO

import ray

from cluster.leases import MOST_DEATHS, Lease, Leases
from cluster.ledger import Ledger, record_path, sign
from cluster.manifest import Entry
from cluster.progress import Progress
from cluster.runtime import available_cpus, ray_running, stop_signals, worker_environment
from cluster.store import StoreError, open_store
from cluster.worker import Report, Task, Worker

PREFETCH = 2
"""Leases beyond a scorer's capacity, so that a lane is refilled without asking the driver."""
POLL_SECONDS = 0.1
STOP_GRACE_SECONDS = 20.0
"""How long a stop waits for the step under way."""

DEATHS = (
    ray.exceptions.RayActorError,
    ray.exceptions.NodeDiedError,
    ray.exceptions.WorkerCrashedError,
    ray.exceptions.OutOfMemoryError,
)


class Interrupted(Exception):  # noqa: N818 - somebody asked for it
    """Stopped by a signal; all that was finished is committed, and a resume goes on."""


class EngineError(RuntimeError):
    """The run cannot go on, through no image's fault; the message is one line."""


class NoGpu(EngineError):  # noqa: N818
    """A GPU was asked for and there is none."""


def run(
    task: Task,
    images: Iterable[tuple[Entry, str]],
    *,
    gpu: bool | None = None,
    workers: int | None = None,
    stream: TextIO | None = None,
) -> Counter[str]:
    """Has every image judged that is given (manifest entries with their paths); how many ended
    with which status.

    ``gpu``: whether a worker holds one; None takes one where there is one. ``workers``: most at once;
    None is one for every GPU or, without, CPU that Ray has. ``stream``: where progress is shown;
    None is stderr.

    Raises:
        Interrupted: Ctrl-C or SIGTERM.
        EngineError: workers die before they are ready, the store is out of reach, or no GPU.
        Exception: whatever kept the factory from building a scorer.
    """
    leases = Leases(images)
    progress = Progress(leases.open, stream or sys.stderr)
    progress.show("starting Ray")
    with ray_running(), stop_signals() as stopping:
        try:
            gpus = _gpus(gpu)
            places = _places(gpus, task.memory)
            # Threads change a sum's last bits, so they follow from the machine, not from how many work.
            threads = max(1, available_cpus() // places)
            driver = _Driver(
                task,
                leases,
                progress,
                workers=workers or places,
                gpus=gpus,
                threads=threads,
                stopping=stopping,
            )
            try:
                driver.work()
            finally:
                driver.dismiss()
        finally:
            progress.close()
    return progress.counts


def _gpus(wanted: bool | None) -> int:
    """GPUs of a worker. On a cluster that grows there may be none yet, so only a machine of one's
    own is known to have none."""
    there = ray.cluster_resources().get("GPU", 0) >= 1
    if wanted and not there and not os.environ.get("RAY_ADDRESS"):
        raise NoGpu("no GPU on this machine; choose the device cpu")
    return int(there if wanted is None else wanted)


def _places(gpus: int, memory: int) -> int:
    """Workers that there is room for now, each with a GPU, or a CPU and its memory."""
    there = ray.cluster_resources()
    if gpus:
        return max(1, int(there.get("GPU", 0)))
    return max(1, int(min(there.get("CPU", 0), there.get("memory", 0) // memory)))


@dataclass
class _Hired:
    """A worker as the driver sees it."""

    name: str
    actor: Any
    capacity: int = 0
    """Images it takes at once; 0 until its scorer is built."""
    doing: str = "starting a worker"
    answer: ray.ObjectRef[Report] | None = None
    """Of the call that is on its way."""
    rests_until: float = 0.0
    """Monotonic time of the next call, so that a busy worker is not asked without end."""


class _Driver:
    """One run: as many workers as there are images for, up to ``workers``."""

    def __init__(
        self,
        task: Task,
        leases: Leases,
        progress: Progress,
        *,
        workers: int,
        gpus: int,
        threads: int,
        stopping: threading.Event,
    ) -> None:
        self._task = task
        self._leases = leases
        self._progress = progress
        self._most = workers
        self._threads = threads
        self._gpus = gpus
        self._stopping = stopping
        self._ledger = Ledger(open_store(task.run))
        self._workers: dict[str, _Hired] = {}
        self._hired = 0
        self._stillborn = 0

    def work(self) -> None:
        while self._leases.open:
            self._hire()
            self._ask()
            self._progress.show(self._doing())
            if self._stopping.is_set():
                self._wind_up()
                raise Interrupted
            self._hear(self._answered(POLL_SECONDS))
            self._release()

    def dismiss(self) -> None:
        for worker in self._workers.values():
            ray.kill(worker.actor)

    def _hire(self) -> None:
        """Fills up to as many workers as there is work for."""
        busy = sum(bool(self._leases.held(name)) for name in self._workers)
        while len(self._workers) < min(self._most, busy + self._leases.queued):
            self._hired += 1
            actor = ray.remote(Worker).options(
                num_cpus=1,
                num_gpus=self._gpus,
                runtime_env={"env_vars": worker_environment(self._threads)},
            )
            name = f"worker-{self._hired}"
            self._workers[name] = _Hired(name, actor.remote(self._task))

    def _ask(self) -> None:
        """Calls every worker that is not being called, with more leases where it can take them."""
        now = time.monotonic()
        for worker in self._workers.values():
            if worker.answer is None and now >= worker.rests_until:
                granted = self._leases.grant(worker.name, self._share(worker))
                worker.answer = worker.actor.poll.remote(granted)

    def _share(self, worker: _Hired) -> int:
        """Most images that a worker may hold. What it cannot start at once stays with those who soon
        could, unless there is enough for all."""
        enough = (worker.capacity + PREFETCH) * len(self._workers)
        return worker.capacity + (PREFETCH if worker.capacity and self._leases.queued > enough else 0)

    def _answered(self, timeout: float) -> list[_Hired]:
        """The workers that have answered, after at most ``timeout`` seconds."""
        asked = {w.answer: w for w in self._workers.values() if w.answer is not None}
        if not asked:
            self._stopping.wait(timeout)
            return []
        ready, _ = ray.wait(list(asked), num_returns=len(asked), timeout=timeout)
        return [asked[reference] for reference in ready]

    def _hear(self, workers: Iterable[_Hired]) -> None:
        for worker in workers:
            answer, worker.answer = worker.answer, None
            worker.rests_until = time.monotonic() + POLL_SECONDS
            try:
                self._take(worker, _result(answer))
            except DEATHS as death:
                self._bury(worker, death)

    def _take(self, worker: _Hired, report: Report) -> None:
        for image_id, status in report.settled:
            self._settle(worker, image_id, status)
        for lease in self._leases.suspect(worker.name, report.returned):
            self._condemn(lease, "the scorer broke each time")
        if report.capacity and not worker.capacity:
            self._stillborn = 0
            self._progress.began()
        worker.capacity = report.capacity
        worker.doing = report.progress if report.capacity else "loading the model"

    def _settle(self, worker: _Hired, image_id: str, status: str) -> None:
        self._leases.settle(worker.name, image_id)
        self._progress.settled(status)

    def _release(self) -> None:
        """Lets go of workers for which nothing is left, so that none is idle at the end."""
        if self._leases.queued:
            return
        for worker in list(self._workers.values()):
            if not self._leases.held(worker.name):
                ray.kill(self._workers.pop(worker.name).actor)

    def _doing(self) -> str:
        workers = list(self._workers.values())
        shown = [w for w in workers if w.capacity] or workers
        said = " | ".join(dict.fromkeys(w.doing for w in shown if w.doing))
        return f"{len(shown)} workers: {said}" if said and len(shown) > 1 else said

    def _bury(self, worker: _Hired, death: Exception) -> None:
        """Puts the dead worker's images back."""
        cause = _cause(death)
        self._progress.show(f"a worker died: {cause}", now=True)
        ray.kill(self._workers.pop(worker.name).actor)
        if worker.capacity == 0:
            self._stillborn += 1
        if self._stillborn >= MOST_DEATHS:
            ready = sum(w.capacity > 0 for w in self._workers.values())
            if not ready:
                raise EngineError(f"{self._stillborn} workers died before they were ready: {cause}")
            self._most, self._stillborn = ready, 0  # there may be no room for more
        held = [lease.image_id for lease in self._leases.held(worker.name)]
        done = {i for i in held if self._ledger.store.exists(record_path(i))}
        for image_id in done:
            self._settle(worker, image_id, str(self._ledger.record(image_id)["status"]))
        for lease in self._leases.suspect(worker.name, (i for i in held if i not in done)):
            self._condemn(lease, cause)

    def _condemn(self, lease: Lease, cause: str) -> None:
        """The third death with the same image in hand: it is recorded as failed and let go."""
        said = {
            "status": "failed",
            "error_class": "WorkerDied",
            "error_message": f"{MOST_DEATHS} workers died with this image in hand; last: {cause}",
        }
        record = sign(said, blank=self._task.blank, attempts=lease.attempt, worker="driver")
        self._ledger.commit(lease.image_id, record, {})
        self._progress.settled("failed")

    def _wind_up(self) -> None:
        """Lets the workers commit what their steps under way finish."""
        working = [w for w in self._workers.values() if w.capacity]
        if not working:
            return
        self._progress.show("stopping after this step; Ctrl-C again leaves at once", now=True)
        for worker in working:
            worker.answer = worker.actor.stop.remote(STOP_GRACE_SECONDS)
        ray.wait([w.answer for w in working], num_returns=len(working), timeout=STOP_GRACE_SECONDS + 5)
        for worker in working:
            try:
                self._take(worker, _result(worker.answer, timeout=0))
            except (*DEATHS, EngineError, ray.exceptions.GetTimeoutError):
                continue  # what it committed is committed


def _result(reference: Any, timeout: float | None = None) -> Report:
    """A worker's report, or what ended the worker's work."""
    try:
        return ray.get(reference, timeout=timeout)
    except ray.exceptions.RayTaskError as error:
        cause = error.cause
        if isinstance(cause, StoreError):
            raise EngineError(str(cause)) from error
        raise cause from error


def _cause(death: Exception) -> str:
    """One line of Ray's many: the exception, where one in the worker's own start was the cause."""
    lines = [line.strip() for line in str(death).splitlines() if line.strip()]
    if not lines:
        return type(death).__name__
    return lines[-1] if "creation task" in lines[0] else lines[0]
