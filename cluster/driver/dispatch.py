"""The driver's loop: leases out to workers, reports in, the dead buried.

The only scheduler of a run. It holds no image and writes no verdict, except for an image that
killed every worker that had it. What a death or a failure says, :mod:`cluster.driver.blame` knows.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import ray

from cluster.driver.blame import Blame, Death
from cluster.driver.deaths import Deaths, cause_of, report_of
from cluster.driver.member import Member
from cluster.driver.progress import Progress
from cluster.driver.results import Results
from cluster.driver.second_looks import LOOKS, MANY, SecondLooks
from cluster.driver.starts import START_SECONDS, Starts
from cluster.driver.workers import Crew
from cluster.ray_runtime.ray_health import RayHealth
from cluster.ray_runtime.runtime import EngineError
from cluster.run.interrupted import Interrupted
from cluster.run.leases import Lease, Leases
from cluster.run.ledger import Ledger
from cluster.storage.store import open_store
from cluster.worker.metrics import Metrics
from cluster.worker.worker import NEWS_SECONDS, Orders, Report

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
        crew: Crew,
        progress: Progress,
        stopping: threading.Event,
        learn: Callable[[int, str], None],
        beat: Callable[[dict[str, Any]], None],
    ) -> None:
        self._leases = leases
        self._crew = crew
        self._settings = crew.settings
        self._progress = progress
        self._stopping = stopping
        self._beat = beat
        self._metrics = Metrics()
        self._ray = RayHealth(crew.clock, crew.on_cluster)
        self.deaths = Deaths()
        ledger = Ledger(open_store(crew.task.run))
        self._results = Results(leases, crew, ledger, progress, self._metrics, self.deaths, learn)
        self._blame = Blame(leases, crew, self._results, self.deaths, progress, self._metrics)
        self._looks = SecondLooks(leases, crew, self._settings.stop_after_failures)
        self._starts = Starts(crew)
        self.duplicates = 0

    def work(self) -> None:
        while self._leases.open:
            if not (self._leases.queued or any(self._leases.holds(m.name) for m in self._crew)):
                raise EngineError(
                    "internal error: queued inputs are held by no worker; run the same command again to "
                    "resume"
                )
            self._ray.check()
            self._look_elsewhere()
            self._hire()
            self._ask()
            self._tell()
            stop = self._why_stop()
            if stop:
                self._wind_up(stop)
                raise Interrupted(stop)
            self._stop_if_all_fail()
            self._hear(self._answered())
            self._release()

    def _why_stop(self) -> str | None:
        settings = self._settings
        if self._stopping.is_set():
            return "interrupted"
        if settings.max_cost is not None and self._crew.cost >= settings.max_cost:
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
        self._wind_up("every image fails")  # in which some may yet be judged
        raise EngineError(
            f"{failed} images in a row failed, the last with {last}; mend that, put them back (originality "
            "retry OUTPUT --status failed) and start again; if they are to fail, start again with "
            "--set cluster.stop_after_failures=null"
        )

    def _look_elsewhere(self) -> None:
        """Sees to what some machine could not read.

        Raises:
            EngineError: inputs are missing wherever they are looked for.
        """
        for node in self._looks.to_replace():
            self._blame.quit_machine(node, "nothing could be read on its machine; another one is to look")
        why = self._looks.review()
        if why:
            self._wind_up("nothing is found any more")
            raise EngineError(why)

    def _tell(self) -> None:
        crew = self._crew
        shown = crew.ready or list(crew)
        said = list(dict.fromkeys(member.doing for member in shown if member.doing))
        idle = "" if crew.ready else crew.waiting_for()
        self._progress.in_flight([parts for member in crew for parts in member.parts])
        self._progress.show(" | ".join(said[:4]) or idle, workers=len(crew.ready), cost=crew.cost)
        self._metrics.queue(self._leases.queued, len(crew))
        self._beat({**self._progress.state(), "workers": len(crew.ready), "cost": round(crew.cost, 4)})

    def _hire(self) -> None:
        """Fills up to as many workers as there is work for: the first ones, and when one of them has shown
        that it can work, more."""
        crew = self._crew
        if crew.waits_in_vain():
            crew.forget_failures()
            self._looks.forget_failures()
        busy = sum(self._leases.holds(member.name) for member in crew)
        most = self.deaths.capped(crew.most if crew.ready else crew.first)
        while len(crew) < min(most, busy + self._leases.queued):
            crew.hire()

    def _ask(self) -> None:
        """Calls every worker that is not being called, with more leases where it can take them."""
        now = self._crew.clock.now()
        for member in self._crew:
            if member.answer is None and now >= member.rests_until:
                leases = [] if member.leaving else self._granted(member)
                orders = Orders(leases, member.orders.go, member.orders.drop)
                member.orders = Orders()
                member.answer, member.asked_at = member.actor.poll.remote(orders, NEWS_SECONDS), now

    def _granted(self, member: Member) -> list[Lease]:
        """More leases for a worker."""
        ready = [m for m in self._crew if m.capacity and not m.leaving]
        sound = [m for m in ready if not m.failures]
        if member.may_be_broken and sound:
            return []  # until others have judged their images, and so shown that it is this worker
        # One that just took a dead worker's place may have its broken machine, too.
        proven = [m for m in sound if m.judged] or sound[:1] or ready[:1]

        def suits(suspect: Lease) -> bool:
            """A suspect is tried by a worker that has judged others, and on another machine, while there is
            one: so that a broken machine does not meet the same image three times."""
            elsewhere = [m for m in proven if m.node not in suspect.nodes]
            return any(m is member for m in elsewhere or proven)

        def may_look(unread: Lease) -> bool:
            return self._looks.may_look(member, unread)

        share = self._share(member)
        if not share or self._looks.may_take_fresh(member):
            return self._leases.grant(member.name, share, suits, may_look, LOOKS if share else 0)
        return self._leases.grant(member.name, 0, suits, may_look, share + LOOKS)

    def _share(self, member: Member) -> int:
        """Most inputs that a worker may hold. What it cannot start soon stays with those who could, unless
        there is enough for all."""
        if not member.capacity:
            return 0
        ahead = max(PREFETCH, round(member.rate * PREFETCH_SECONDS))
        enough = (member.capacity + ahead) * len(self._crew)
        return member.capacity + (ahead if self._leases.queued > enough else 0)

    def _answered(self) -> list[Member]:
        """The workers that have answered, after a short wait."""
        asked = {m.answer: m for m in self._crew if m.answer is not None}
        if not asked:
            self._stopping.wait(REST_SECONDS)
            return []
        resting = len(asked) < len(self._crew)
        ray.wait(list(asked), timeout=REST_SECONDS if resting else _WAIT_SECONDS)
        ready, _ = ray.wait(list(asked), num_returns=len(asked), timeout=0)
        self._remove_silent([member for member in asked.values() if member.answer not in ready])
        return [asked[reference] for reference in ready]

    def _remove_silent(self, members: list[Member]) -> None:
        """Gives up workers that have not answered for too long. That says nothing of their images for sure:
        a machine that stands still is silent, too."""
        since = self._crew.clock.now() - SILENCE_SECONDS
        for member in members:
            if member.answered and member.asked_at < since:
                cause = f"no answer for {SILENCE_SECONDS:g} s"
                self._blame.remove(member, Death(cause, blame=True, of_machine=True))
        for member, node in self._starts.overdue():
            if member in members and self._blame.may_stay(member, node):  # which notes where it is
                self._blame.remove(member, Death(f"no answer in {START_SECONDS:g} s of start", blame=False))

    def _hear(self, members: list[Member]) -> None:
        for member in members:
            answer, member.answer = member.answer, None
            member.rests_until = self._crew.clock.now() + REST_SECONDS
            try:
                report = report_of(answer)
            except Exception as error:
                if member.name in self._crew.members:  # not let go since, with its whole machine
                    self._blame.ended(member, error)
            else:
                if member.name in self._crew.members:
                    self._take(member, report)

    def _take(self, member: Member, report: Report) -> None:
        if not member.answered and report.node and not self._blame.may_stay(member, report.node):
            return
        member.answered = True
        blind = self._take_reading(member, report)
        for number, image_id in report.identified:
            self._results.learn(number, image_id)
            goes = self._leases.identify(member.name, number, image_id)
            (member.orders.go if goes else member.orders.drop).append(number)
        for settled in report.settled:
            self._results.learn(settled.number, settled.image_id)
            self._results.settle(member, settled)
        now = time.monotonic()
        if member.heard_at:
            member.rate += 0.3 * (len(report.settled) / (now - member.heard_at) - member.rate)
        member.heard_at = now
        for note in report.notes:
            self._progress.show(note, now=True)
        for returned in report.returned:
            if not returned.unread_as:
                self._blame.gave_back(member, returned)
        if report.capacity and not member.capacity:
            self.deaths.one_is_ready()
            self._progress.began()
        member.capacity = report.capacity
        member.doing = report.progress if report.capacity else self._crew.task.loading
        if report.worked > member.worked:
            self.deaths.work_was_done()
        self._progress.worked(report.worked - member.worked)
        member.parts, member.worked = report.parts, report.worked
        self.duplicates += report.duplicates - member.duplicates
        member.duplicates = report.duplicates
        if report.leaving:
            self._blame.leaves(member, report)
        elif self._blame.is_broken(member):
            self._blame.remove_broken(member)
        for node in blind:
            cause = f"{MANY} inputs in a row could not be read on its machine, and could on another one"
            self._blame.quit_machine(node, cause)

    def _take_reading(self, member: Member, report: Report) -> list[str]:
        """What a worker could read, and what it could not. Machines that are now known not to see the
        inputs."""
        for returned in report.returned:
            if returned.unread_as:
                self._looks.could_not_read(member, returned.numbers, returned.unread_as)
        return [node for number in report.read for node in self._looks.could_read(member, number)]

    def _release(self) -> None:
        """Lets go of workers for which nothing is left, so that few are idle at the end: one that has judged
        images stays while the last ones are with workers that have not, and may turn out to be broken."""
        if self._leases.queued:
            return
        idle = [m for m in self._crew if not self._leases.holds(m.name)]
        unproven = any(m.failures or not m.judged for m in self._crew if self._leases.holds(m.name))
        able = (m for m in idle if m.judged and not m.leaving)
        stays = max(able, key=lambda m: m.judged, default=None) if unproven else None
        for member in idle:
            if member is not stays:
                self._crew.let_go(member)

    def _wind_up(self, why: str) -> None:
        """Lets the workers keep what their steps under way bring."""
        working = self._crew.ready
        if not working:
            return
        grace = self._settings.stop_grace
        self._progress.show(f"{why}; stopping after this step; Ctrl-C again leaves at once", now=True)
        for member in working:
            member.answer = member.actor.stop.remote(grace)
        ray.wait([m.answer for m in working], num_returns=len(working), timeout=grace + 5)
        for member in working:
            try:
                self._take(member, report_of(member.answer, timeout=0))
            except Exception as error:  # what it committed is committed
                self._progress.show(f"a worker did not end well: {cause_of(error)}")
