"""The driver's loop: leases out to workers, reports in, the dead buried.

The only scheduler of a run. It holds no image and writes no verdict, except for an image that
killed every worker that had it. What a death or a failure says, :mod:`cluster.driver.failures` knows.
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
from cluster.driver.progress import Progress
from cluster.driver.read_retries import MANY, MAX_EXTRA_READS, ReadRetries
from cluster.driver.results import Results
from cluster.driver.startup import START_SECONDS, StartupMonitor
from cluster.driver.worker_handle import WorkerHandle
from cluster.driver.worker_pool import WorkerPool
from cluster.ray_runtime.ray_health import RayHealth
from cluster.ray_runtime.runtime import EngineError
from cluster.run.interrupted import Interrupted
from cluster.run.leases import Lease, Leases
from cluster.run.ledger import Ledger
from cluster.storage.store import open_store
from cluster.worker.metrics import Metrics
from cluster.worker.worker import POLL_SECONDS, Orders, Report

PREFETCH = 2
"""Leases beyond a scorer's capacity, so that a lane is refilled without asking the driver."""
PREFETCH_SECONDS = 1.0
"""Or as many as a fast scorer settles in this time."""
REST_SECONDS = 0.02
"""Between two calls of a worker: what happens in it is told together."""
_WAIT_SECONDS = 0.1
"""How long the driver waits for answers before it looks for other things to do."""
SILENCE_SECONDS = 120.0
"""Every call is answered at once; a worker that has not answered for so long is dead."""


class Dispatcher:
    """One run: as many workers as there are images for, up to the settings' most."""

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
        self._failures = FailureHandler(leases, pool, self._results, self.deaths, progress, self._metrics)
        self._read_retries = ReadRetries(leases, pool, self._settings.stop_after_failures)
        self._startup = StartupMonitor(pool)
        self.duplicates = 0

    def work(self) -> None:
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
            self._handle_answers(self._wait_for_answers())
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
        """Where something ails them all, the rest is better kept for later.

        Raises:
            EngineError: so many images in a row have failed.
        """
        most, failed = self._settings.stop_after_failures, self._results.failed_in_a_row
        if most is None or failed < most:
            return
        last = self._results.last_failure
        self._stop_workers("every image fails")  # in which some may yet be judged
        raise EngineError(
            f"{failed} images in a row failed, the last with {last}; mend that, put them back (originality "
            "retry OUTPUT --status failed) and start again; if they are to fail, start again with "
            "--set cluster.stop_after_failures=null"
        )

    def _check_unread(self) -> None:
        """Sees to what some machine could not read.

        Raises:
            EngineError: inputs are missing wherever they are looked for.
        """
        for node in self._read_retries.machines_to_replace():
            self._failures.quit_machine(node, "nothing could be read on its machine; another one is to look")
        why = self._read_retries.review()
        if why:
            self._stop_workers("nothing is found any more")
            raise EngineError(why)

    def _show_progress(self) -> None:
        pool = self._pool
        shown = pool.ready or list(pool)
        said = list(dict.fromkeys(handle.doing for handle in shown if handle.doing))
        idle = "" if pool.ready else pool.waiting_for()
        self._progress.in_flight([parts for handle in pool for parts in handle.parts])
        self._progress.show(" | ".join(said[:4]) or idle, workers=len(pool.ready), cost=pool.cost)
        self._metrics.queue(self._leases.queued, len(pool))
        self._beat({**self._progress.state(), "workers": len(pool.ready), "cost": round(pool.cost, 4)})

    def _hire(self) -> None:
        """Fills up to as many workers as there is work for: the first ones, and when one of them has shown
        that it can work, more."""
        pool = self._pool
        if pool.is_stuck():
            pool.forget_failures()
            self._read_retries.forget_failures()
        busy = sum(self._leases.holds(handle.name) for handle in pool)
        most = self.deaths.capped(pool.most if pool.ready else pool.first)
        while len(pool) < min(most, busy + self._leases.queued):
            pool.hire()

    def _poll_workers(self) -> None:
        """Calls every worker that is not being called, with more leases where it can take them."""
        now = self._pool.clock.now()
        for handle in self._pool:
            if handle.answer is None and now >= handle.rests_until:
                leases = [] if handle.leaving else self._new_leases(handle)
                orders = Orders(leases, handle.orders.go, handle.orders.drop)
                handle.orders = Orders()
                handle.answer, handle.asked_at = handle.actor.poll.remote(orders, POLL_SECONDS), now

    def _new_leases(self, handle: WorkerHandle) -> list[Lease]:
        """More leases for a worker."""
        ready = [m for m in self._pool if m.capacity and not m.leaving]
        sound = [m for m in ready if not m.failures]
        if handle.may_be_broken and sound:
            return []  # until others have judged their images, and so shown that it is this worker
        # One that just took a dead worker's place may have its broken machine, too.
        proven = [m for m in sound if m.judged] or sound[:1] or ready[:1]

        def suits(suspect: Lease) -> bool:
            """A suspect is tried by a worker that has judged others, and on another machine, while there is
            one: so that a broken machine does not meet the same image three times."""
            elsewhere = [m for m in proven if m.node not in suspect.nodes]
            return any(m is handle for m in elsewhere or proven)

        def may_retry_read(unread: Lease) -> bool:
            return self._read_retries.may_retry_read(handle, unread)

        share = self._max_leases(handle)
        if not share or self._read_retries.may_take_new_inputs(handle):
            return self._leases.grant(
                handle.name, share, suits, may_retry_read, MAX_EXTRA_READS if share else 0
            )
        return self._leases.grant(handle.name, 0, suits, may_retry_read, share + MAX_EXTRA_READS)

    def _max_leases(self, handle: WorkerHandle) -> int:
        """Most inputs that a worker may hold. What it cannot start soon stays with those who could, unless
        there is enough for all."""
        if not handle.capacity:
            return 0
        ahead = max(PREFETCH, round(handle.rate * PREFETCH_SECONDS))
        enough = (handle.capacity + ahead) * len(self._pool)
        return handle.capacity + (ahead if self._leases.queued > enough else 0)

    def _wait_for_answers(self) -> list[WorkerHandle]:
        """The workers that have answered, after a short wait."""
        asked = {m.answer: m for m in self._pool if m.answer is not None}
        if not asked:
            self._stopping.wait(REST_SECONDS)
            return []
        resting = len(asked) < len(self._pool)
        ray.wait(list(asked), timeout=REST_SECONDS if resting else _WAIT_SECONDS)
        ready, _ = ray.wait(list(asked), num_returns=len(asked), timeout=0)
        self._remove_silent([handle for handle in asked.values() if handle.answer not in ready])
        return [asked[reference] for reference in ready]

    def _remove_silent(self, handles: list[WorkerHandle]) -> None:
        """Gives up workers that have not answered for too long. That says nothing of their images for sure:
        a machine that stands still is silent, too."""
        since = self._pool.clock.now() - SILENCE_SECONDS
        for handle in handles:
            if handle.answered and handle.asked_at < since:
                cause = f"no answer for {SILENCE_SECONDS:g} s"
                self._failures.remove(handle, WorkerDeath(cause, blame=True, of_machine=True))
        for handle, node in self._startup.overdue():
            if handle in handles and self._failures.may_stay(handle, node):  # which notes where it is
                self._failures.remove(
                    handle, WorkerDeath(f"no answer in {START_SECONDS:g} s of start", blame=False)
                )

    def _handle_answers(self, handles: list[WorkerHandle]) -> None:
        for handle in handles:
            answer, handle.answer = handle.answer, None
            handle.rests_until = self._pool.clock.now() + REST_SECONDS
            try:
                report = report_of(answer)
            except Exception as error:
                if handle.name in self._pool.handles:  # not let go since, with its whole machine
                    self._failures.ended(handle, error)
            else:
                if handle.name in self._pool.handles:
                    self._handle_report(handle, report)

    def _handle_report(self, handle: WorkerHandle, report: Report) -> None:
        if not handle.answered and report.node and not self._failures.may_stay(handle, report.node):
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
        if handle.heard_at:
            handle.rate += 0.3 * (len(report.settled) / (now - handle.heard_at) - handle.rate)
        handle.heard_at = now
        for note in report.notes:
            self._progress.show(note, now=True)
        for returned in report.returned:
            if not returned.unread_as:
                self._failures.gave_back(handle, returned)
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
            self._failures.leaves(handle, report)
        elif self._failures.is_broken(handle):
            self._failures.remove_broken(handle)
        for node in blind:
            cause = f"{MANY} inputs in a row could not be read on its machine, and could on another one"
            self._failures.quit_machine(node, cause)

    def _note_reads(self, handle: WorkerHandle, report: Report) -> list[str]:
        """What a worker could read, and what it could not. Machines that are now known not to see the
        inputs."""
        for returned in report.returned:
            if returned.unread_as:
                self._read_retries.note_unreadable(handle, returned.numbers, returned.unread_as)
        return [node for number in report.read for node in self._read_retries.note_read(handle, number)]

    def _release_idle(self) -> None:
        """Lets go of workers for which nothing is left, so that few are idle at the end: one that has judged
        images stays while the last ones are with workers that have not, and may turn out to be broken."""
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
        """Lets the workers keep what their steps under way bring."""
        working = self._pool.ready
        if not working:
            return
        grace = self._settings.stop_grace
        self._progress.show(f"{why}; stopping after this step; Ctrl-C again leaves at once", now=True)
        for handle in working:
            handle.answer = handle.actor.stop.remote(grace)
        ray.wait([m.answer for m in working], num_returns=len(working), timeout=grace + 5)
        for handle in working:
            try:
                self._handle_report(handle, report_of(handle.answer, timeout=0))
            except Exception as error:  # what it committed is committed
                self._progress.show(f"a worker did not end well: {cause_of(error)}")
