"""The driver: leases images to workers, buries the dead, and shows how far it is.

The only scheduler of a run. It holds no image and writes no verdict, except for an image that
killed every worker that had it.
"""

from __future__ import annotations

import os
import sys
import threading
from collections import Counter
from collections.abc import Iterable
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
    stream: TextIO | None = None,
) -> Counter[str]:
    """Has every image judged that is given (manifest entries with their paths); how many ended
    with which status.

    ``gpu``: whether a worker holds one; None takes one where there is one. ``stream``: where
    progress is shown; None is stderr.

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
            driver = _Driver(task, leases, progress, _gpus(gpu), stopping)
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


class _Driver:
    """One run with one worker at a time. More workers are more of ``_worker``; the leases are kept
    by worker already."""

    def __init__(
        self, task: Task, leases: Leases, progress: Progress, gpus: int, stopping: threading.Event
    ) -> None:
        self._task = task
        self._leases = leases
        self._progress = progress
        self._gpus = gpus
        self._stopping = stopping
        self._ledger = Ledger(open_store(task.run))
        self._hired = 0
        self._stillborn = 0
        self._hire()

    def work(self) -> None:
        while self._leases.open:
            try:
                most = self._capacity + PREFETCH if self._capacity else 0
                granted = self._leases.grant(self._name, most)
                self._take(self._answer(self._worker.poll.remote(granted)))
            except DEATHS as death:
                self._bury(death)
            except Interrupted:
                self._wind_up()
                raise
            self._stopping.wait(POLL_SECONDS)

    def dismiss(self) -> None:
        ray.kill(self._worker)

    def _hire(self) -> None:
        self._hired += 1
        self._name = f"worker-{self._hired}"
        self._capacity = 0
        self._doing = "starting a worker"
        actor = ray.remote(Worker).options(
            num_cpus=1,
            num_gpus=self._gpus,
            runtime_env={"env_vars": worker_environment(available_cpus())},
        )
        self._worker: Any = actor.remote(self._task)

    def _answer(self, reference: Any) -> Report:
        """Waits for a worker with an eye on the clock and on who wants to stop."""
        while True:
            self._progress.show(self._doing)
            if self._stopping.is_set():
                raise Interrupted
            ready, _ = ray.wait([reference], timeout=POLL_SECONDS)
            if ready:
                return _result(reference)

    def _take(self, report: Report) -> None:
        for image_id, status in report.settled:
            self._settle(image_id, status)
        for lease in self._leases.suspect(self._name, report.returned):
            self._condemn(lease, "the scorer broke each time")
        self._capacity = report.capacity
        if report.capacity:
            self._stillborn = 0
            self._progress.began()
        self._doing = report.progress if report.capacity else "loading the model"

    def _settle(self, image_id: str, status: str) -> None:
        self._leases.settle(self._name, image_id)
        self._progress.settled(status)

    def _bury(self, death: Exception) -> None:
        """Puts the dead worker's images back and a new worker in its place."""
        cause = _cause(death)
        self._progress.show(f"a worker died: {cause}", now=True)
        ray.kill(self._worker)
        if self._capacity == 0:
            self._stillborn += 1
        if self._stillborn >= MOST_DEATHS:
            raise EngineError(f"{self._stillborn} workers died before they were ready: {cause}")
        held = [lease.image_id for lease in self._leases.held(self._name)]
        done = {i for i in held if self._ledger.store.exists(record_path(i))}
        for image_id in done:
            self._settle(image_id, str(self._ledger.record(image_id)["status"]))
        for lease in self._leases.suspect(self._name, (i for i in held if i not in done)):
            self._condemn(lease, cause)
        self._hire()

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
        """Lets the worker commit what its step under way finishes."""
        if not self._capacity:
            return
        self._progress.show("stopping after this step; Ctrl-C again leaves at once", now=True)
        reference = self._worker.stop.remote(STOP_GRACE_SECONDS)
        try:
            ray.wait([reference], timeout=STOP_GRACE_SECONDS + 5)
            self._take(_result(reference, timeout=0))
        except (*DEATHS, EngineError, ray.exceptions.GetTimeoutError):
            return  # what it committed is committed


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
