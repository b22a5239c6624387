"""The driver's loop: grants leases to workers, takes their reports, and removes workers that died.

It is the only scheduler of a run. It holds no image and writes no record, except of an image that killed
every worker that held it. What a death or a failure means is decided in :mod:`cluster.driver.failures`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import ray

from cluster.driver.deaths import DeathCounter, cause_of, report_of
from cluster.driver.failures import FailureHandler, WorkerDeath
from cluster.driver.granting import LeaseGranter
from cluster.driver.progress import Progress
from cluster.driver.read_retries import MANY, ReadRetries
from cluster.driver.results import Results
from cluster.driver.startup import START_SECONDS, StartupMonitor
from cluster.driver.worker_handle import WorkerHandle
from cluster.driver.worker_pool import WorkerPool
from cluster.ray_runtime.ray_health import RayHealth
from cluster.ray_runtime.runtime import EngineError
from cluster.run.interrupted import Interrupted
from cluster.run.leases import Leases
from cluster.run.ledger import Ledger
from cluster.storage.store import open_store
from cluster.worker.messages import Orders, Report
from cluster.worker.metrics import Metrics
from cluster.worker.worker import POLL_SECONDS

REST_SECONDS = 0.02
"""Between two calls of a worker, so that what happens meanwhile comes in one report."""
_WAIT_SECONDS = 0.1
"""How long the driver waits for answers before it does its other work."""
SILENCE_SECONDS = 120.0
"""After which a worker that does not answer counts as dead. A worker answers every call at once, whatever its
scorer is doing, so silence never means that it is busy. Measured by the driver's own ObserverClock: no clock
of the worker is trusted, and time in which the driver itself was suspended does not count."""


class Dispatcher:
    """Schedules one run: as many workers as there are images for, up to the settings' limit."""

    def __init__(
        self,
        leases: Leases,
        pool: WorkerPool,
        progress: Progress,
        stopping: threading.Event,
        learn: Callable[[int, str], None],
        beat: Callable[[dict[str, Any]], None],
    ) -> None:
        self._leases = leases
        self._pool = pool
        self._settings = pool.settings
        self._progress = progress
        self._stopping = stopping
        self._beat = beat
        self._metrics = Metrics()
        self._ray = RayHealth(pool.clock, pool.on_cluster)
        self.deaths = DeathCounter()
        ledger = Ledger(open_store(pool.task.run))
        self._results = Results(leases, pool, ledger, progress, self._metrics, self.deaths, learn)
        self.failures = FailureHandler(leases, pool, self._results, self.deaths, progress, self._metrics)
        """Decides what the death or failure of a worker means for its machine and its images."""
        self._read_retries = ReadRetries(leases, pool, self._settings.stop_after_failures)
        self._granter = LeaseGranter(leases, pool, self._read_retries)
        self._startup = StartupMonitor(pool)
        self.duplicates = 0

    def work(self) -> None:
        """Run until every input is settled.

        Raises:
            Interrupted: a signal, the deadline or the limit on cost.
            EngineError, Unusable: the run cannot continue.
        """
        while self._leases.open:
            if not (self._leases.queued or any(self._leases.holds(m.name) for m in self._pool)):
                raise EngineError(
                    "internal error: queued inputs are held by no worker; run the same command again to "
                    "resume"
                )
            self._ray.check()
            self._check_unread()
            self._hire()
            self._poll_workers()
            self._show_progress()
            stop = self._stop_reason()
            if stop:
                self._stop_workers(stop)
                raise Interrupted(stop)
            self._stop_if_all_fail()
            self._handle_answers(self.wait_for_answers())
            self._release_idle()

    def _stop_reason(self) -> str | None:
        settings = self._settings
        if self._stopping.is_set():
            return "interrupted"
        if settings.max_cost is not None and self._pool.cost >= settings.max_cost:
            return f"stopped at the bound of ${settings.max_cost:g}"
        if settings.deadline is not None and datetime.now(UTC) >= settings.deadline:
            return f"stopped at the deadline {settings.deadline:%Y-%m-%d %H:%M}"
        return None

    def _stop_if_all_fail(self) -> None:
        """Stop a run in which one image after the other fails: expired keys, say, would fail them all.

        Raises:
            EngineError: as many images in a row have failed as the settings allow.
        """
        most, failed = self._settings.stop_after_failures, self._results.failed_in_a_row
        if most is None or failed < most:
            return
        last = self._results.last_failure
        self._stop_workers("every image fails")  # images in flight may still be judged meanwhile
        raise EngineError(
            f"{failed} images in a row failed, the last with {last}; fix that, queue them again (originality "
            "retry RUN --status failed) and start again; if they are meant to fail, start again with "
            "--set cluster.stop_after_failures=null"
        )

    def _check_unread(self) -> None:
        """Have inputs that some machine could not read tried on other machines.

        Raises:
            EngineError: inputs are missing on every machine.
        """
        for node in self._read_retries.machines_to_replace():
            self.failures.quit_machine(node, "nothing could be read on its machine; trying a different one")
        why = self._read_retries.review()
        if why:
            self._stop_workers("inputs are missing")
            raise EngineError(why)

    def _show_progress(self) -> None:
        """Update the progress view, the metrics and the heartbeat."""
        pool = self._pool
        shown = pool.ready or list(pool)
        doing = list(dict.fromkeys(handle.doing for handle in shown if handle.doing))
        idle = "" if pool.ready else pool.waiting_for()
        self._progress.in_flight([parts for handle in pool for parts in handle.parts])
        self._progress.show(" | ".join(doing[:4]) or idle, workers=len(pool.ready), cost=pool.cost)
        self._metrics.queue(self._leases.queued, len(pool))
        self._beat({**self._progress.state(), "workers": len(pool.ready), "cost": round(pool.cost, 4)})

    def _hire(self) -> None:
        """Hire up to as many workers as there is work for.

        Only the first few until one of them is ready: a mistake in the settings should not start a hundred
        machines.
        """
        pool = self._pool
        if pool.is_stuck():
            pool.forget_failures()
            self._read_retries.forget_failures()
        busy = sum(self._leases.holds(handle.name) for handle in pool)
        most = self.deaths.capped(pool.max_workers if pool.ready else pool.initial_workers)
        while len(pool) < min(most, busy + self._leases.queued):
            pool.hire()

    def _poll_workers(self) -> None:
        """Call every worker that has no call under way, with more leases if it can take them."""
        now = self._pool.clock.now()
        for handle in self._pool:
            if handle.answer is None and now >= handle.next_call_at:
                leases = [] if handle.leaving else self._granter.grant(handle)
                orders = Orders(leases, handle.orders.go, handle.orders.drop)
                handle.orders = Orders()
                handle.answer, handle.called_at = handle.actor.poll.remote(orders, POLL_SECONDS), now

    def wait_for_answers(self) -> list[WorkerHandle]:
        """Return the workers that have answered, after a short wait."""
        called = {m.answer: m for m in self._pool if m.answer is not None}
        if not called:
            self._stopping.wait(REST_SECONDS)
            return []
        resting = len(called) < len(self._pool)
        ray.wait(list(called), timeout=REST_SECONDS if resting else _WAIT_SECONDS)
        ready, _ = ray.wait(list(called), num_returns=len(called), timeout=0)
        self._remove_silent([handle for handle in called.values() if handle.answer not in ready])
        return [called[reference] for reference in ready]

    def _remove_silent(self, handles: list[WorkerHandle]) -> None:
        """Remove workers that have not answered for too long.

        Their images become suspects, but as of an error of the machine: a machine that is suspended, or cut
        off, is silent too, and its images must not fail for that.
        """
        since = self._pool.clock.now() - SILENCE_SECONDS
        for handle in handles:
            if handle.answered and handle.called_at < since:
                cause = f"no answer for {SILENCE_SECONDS:g} s"
                self.failures.remove(handle, WorkerDeath(cause, blame=True, of_machine=True))
        for handle, node in self._startup.overdue():
            if handle in handles and self.failures.may_stay(handle, node):  # which notes where it is
                self.failures.remove(
                    handle, WorkerDeath(f"no answer in {START_SECONDS:g} s of start", blame=False)
                )

    def _handle_answers(self, handles: list[WorkerHandle]) -> None:
        """Take the answers of workers: reports, or exceptions."""
        for handle in handles:
            answer, handle.answer = handle.answer, None
            handle.next_call_at = self._pool.clock.now() + REST_SECONDS
            try:
                report = report_of(answer)
            except Exception as error:
                if handle.name in self._pool.handles:  # else it was removed with its machine, just before
                    self.failures.ended(handle, error)
            else:
                if handle.name in self._pool.handles:
                    self._handle_report(handle, report)

    def _handle_report(self, handle: WorkerHandle, report: Report) -> None:
        """Bring leases, results and the worker's handle up to date with a report.

        Identified inputs come before settled ones, since an input is settled as the image that it was
        identified as. Returned inputs come after both: they are suspects only among what is still held.
        """
        if not handle.answered and report.node and not self.failures.may_stay(handle, report.node):
            return
        handle.answered = True
        blind = self._note_reads(handle, report)
        for number, image_id in report.identified:
            self._results.learn(number, image_id)
            goes = self._leases.identify(handle.name, number, image_id)
            (handle.orders.go if goes else handle.orders.drop).append(number)
        for settled in report.settled:
            self._results.learn(settled.number, settled.image_id)
            self._results.settle(handle, settled)
        now = time.monotonic()
        if handle.reported_at:
            handle.rate += 0.3 * (len(report.settled) / (now - handle.reported_at) - handle.rate)
        handle.reported_at = now
        for note in report.notes:
            self._progress.show(note, now=True)
        for returned in report.returned:
            if not returned.unread_as:
                self.failures.handle_returned(handle, returned)
        if report.capacity and not handle.capacity:
            self.deaths.worker_ready()
            self._progress.began()
        handle.capacity = report.capacity
        handle.doing = report.progress if report.capacity else self._pool.task.loading
        if report.worked > handle.worked:
            self.deaths.work_done()
        self._progress.worked(report.worked - handle.worked)
        handle.parts, handle.worked = report.parts, report.worked
        self.duplicates += report.duplicates - handle.duplicates
        handle.duplicates = report.duplicates
        if report.leaving:
            self.failures.leaves(handle, report)
        elif self.failures.is_broken(handle):
            self.failures.remove_broken(handle)
        for node in blind:
            cause = f"{MANY} inputs in a row could not be read on its machine, and could on a different one"
            self.failures.quit_machine(node, cause)

    def _note_reads(self, handle: WorkerHandle, report: Report) -> list[str]:
        """Note what a worker could and could not read; return the machines that are now known to be unable
        to read the inputs."""
        for returned in report.returned:
            if returned.unread_as:
                self._read_retries.note_unreadable(handle, returned.numbers, returned.unread_as)
        return [node for number in report.read for node in self._read_retries.note_read(handle, number)]

    def _release_idle(self) -> None:
        """Release workers for which nothing is left.

        One that has judged images stays as long as the last inputs are held by workers that have judged none,
        or that failed: these may be broken, and a sound worker would then have to be hired again.
        """
        if self._leases.queued:
            return
        idle = [m for m in self._pool if not self._leases.holds(m.name)]
        unproven = any(m.failures or not m.judged for m in self._pool if self._leases.holds(m.name))
        able = (m for m in idle if m.judged and not m.leaving)
        stays = max(able, key=lambda m: m.judged, default=None) if unproven else None
        for handle in idle:
            if handle is not stays:
                self._pool.release(handle)

    def _stop_workers(self, why: str) -> None:
        """Stop all workers after their current step, and take what they finished and saved."""
        working = self._pool.ready
        if not working:
            return
        grace = self._settings.stop_grace
        self._progress.show(f"{why}; stopping after this step; press Ctrl-C again to stop at once", now=True)
        for handle in working:
            handle.answer = handle.actor.stop.remote(grace)
        ray.wait([m.answer for m in working], num_returns=len(working), timeout=grace + 5)
        for handle in working:
            try:
                self._handle_report(handle, report_of(handle.answer, timeout=0))
            except Exception as error:  # only the report is lost: its records are in the store
                self._progress.show(f"a worker did not stop properly: {cause_of(error)}")
