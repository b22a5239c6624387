"""The driver's loop: leases out to workers, reports in, the dead buried.

The only scheduler of a run. It holds no image and writes no verdict, except for an image that
killed every worker that had it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import ray

from cluster.crew import Crew, Member, NoPrice
from cluster.deaths import DEATHS, Deaths, cause_of, report_of
from cluster.decoder import DecoderError
from cluster.desk import Settled, snapshot_path
from cluster.identities import unread_id
from cluster.leases import MOST_DEATHS, Lease, Leases
from cluster.ledger import Ledger, sign
from cluster.metrics import Metrics
from cluster.progress import Progress
from cluster.runtime import EngineError
from cluster.store import StoreError, open_store
from cluster.worker import NEWS_SECONDS, Orders, Report
from originality.faults import is_machine_fault, line_of
from originality.scoring import Unusable

PREFETCH = 2
"""Leases beyond a scorer's capacity, so that a lane is refilled without asking the driver."""
PREFETCH_SECONDS = 1.0
"""Or as many as a fast scorer settles in this time."""
REST_SECONDS = 0.02
"""Between two calls of a worker: what happens in it is told together."""
_WAIT_SECONDS = 0.1
"""How long the driver waits for answers before it looks for other things to do."""
_MOST_FAILURES = 5
"""Images in a row that one worker gives back as failed, after which it gets no more while there are others,
and is taken for broken when these judge theirs."""
SILENCE_SECONDS = 120.0
"""Every call is answered at once; a worker that has not answered for so long is dead."""


class Interrupted(Exception):  # noqa: N818 - somebody asked for it
    """Stopped by a signal, a deadline or a bound on cost; all that was finished is committed, and a resume
    goes on."""


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
        self._learn = learn
        self._beat = beat
        self._ledger = Ledger(open_store(crew.task.run))
        self._metrics = Metrics()
        self._judged = 0
        self._failed = 0
        """Failures since the last image that did not fail; missing ones do not count."""
        self._last_failure = ""
        self.deaths = Deaths()
        self.duplicates = 0

    def work(self) -> None:
        while self._leases.open:
            if not (self._leases.queued or any(self._leases.holds(m.name) for m in self._crew)):
                raise EngineError(
                    "internal error: queued inputs are held by no worker; run the same command again to "
                    "resume"
                )
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
        most, failed = self._settings.stop_after_failures, self._failed
        if most is None or failed < most:
            return
        last = self._last_failure
        self._wind_up("every image fails")  # in which some may yet be judged
        raise EngineError(
            f"{failed} images in a row failed, the last with {last}; mend that, put them back (originality "
            "retry OUTPUT --status failed) and start again; if they are to fail, start again with "
            "--set cluster.stop_after_failures=null"
        )

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
        busy = sum(self._leases.holds(member.name) for member in crew)
        most = self.deaths.capped(crew.most if crew.ready else crew.first)
        while len(crew) < min(most, busy + self._leases.queued):
            crew.hire()

    def _ask(self) -> None:
        """Calls every worker that is not being called, with more leases where it can take them."""
        now = time.monotonic()
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
        if member.failures >= _MOST_FAILURES and sound:
            return []  # until others have judged their images, and so shown that it is this worker
        # One that just took a dead worker's place may have its broken machine, too.
        proven = [m for m in sound if m.judged] or sound[:1] or ready[:1]

        def suits(suspect: Lease) -> bool:
            """A suspect is tried by a worker that has judged others, and on another machine, while there is
            one: so that a broken machine does not meet the same image three times."""
            elsewhere = [m for m in proven if m.node not in suspect.nodes]
            return any(m is member for m in elsewhere or proven)

        return self._leases.grant(member.name, self._share(member), suits)

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
        silent = time.monotonic() - SILENCE_SECONDS
        for member in asked.values():
            if member.answered and member.asked_at < silent and member.answer not in ready:
                self._bury(member, f"no answer for {SILENCE_SECONDS:g} s", blame=True)
        return [asked[reference] for reference in ready]

    def _hear(self, members: list[Member]) -> None:
        for member in members:
            answer, member.answer = member.answer, None
            member.rests_until = time.monotonic() + REST_SECONDS
            try:
                report = report_of(answer)
            except DEATHS as death:
                foreseen = member.leaving or getattr(death, "preempted", False)
                expected = foreseen or not self._crew.is_alive(member.node)
                counts = member.failed or not expected
                out_of_memory = isinstance(death, ray.exceptions.OutOfMemoryError)
                blame, cause = not expected, cause_of(death)
                self._bury(member, cause, blame=blame, counts=counts, of_machine=out_of_memory)
            except (StoreError, DecoderError) as error:
                self._bury(member, str(error), blame=False, counts=False)
                if self._crew.ready:
                    self._crew.avoid_failed(member.node)
                self.deaths.cut_off(error, len(self._crew.ready))
            except Unusable as error:
                if member.capacity:
                    raise  # the scorer was built, and its settings suit no image
                self.deaths.refused(error, self._others_elsewhere(member, member.node))
                self._bury(member, str(error), blame=False)
            except Exception as error:
                self._bury(member, line_of(error), blame=not is_machine_fault(error))
            else:
                self._take(member, report)

    def _take(self, member: Member, report: Report) -> None:
        if not member.answered and report.node and not self._placed(member, report.node):
            return
        member.answered = True
        for number, image_id in report.identified:
            self._learn(number, image_id)
            goes = self._leases.identify(member.name, number, image_id)
            (member.orders.go if goes else member.orders.drop).append(number)
        for settled in report.settled:
            self._learn(settled.number, settled.image_id)
            self._settle(member, settled)
        now = time.monotonic()
        if member.heard_at:
            member.rate += 0.3 * (len(report.settled) / (now - member.heard_at) - member.rate)
        member.heard_at = now
        for returned in report.returned:
            self._suspect(member, returned.numbers, returned.cause, of_machine=returned.of_machine)
            self._note_failure(returned.cause)
            if not member.failures:
                member.others_judged = self._judged
            member.failures += 1
        if report.capacity and not member.capacity:
            self.deaths.one_is_ready()
            self._progress.began()
        member.capacity = report.capacity
        member.doing = report.progress if report.capacity else self._crew.task.loading
        self._progress.worked(report.worked - member.worked)
        member.parts, member.worked = report.parts, report.worked
        self.duplicates += report.duplicates - member.duplicates
        member.duplicates = report.duplicates
        if report.leaving:
            self._see_off(member, report)
        elif member.failures >= _MOST_FAILURES and self._judged > member.others_judged:
            cause = f"{member.failures} images in a row failed here, and none elsewhere: {self._last_failure}"
            self._bury(member, cause, blame=False)

    def _placed(self, member: Member, node: str) -> bool:
        """Whether a worker may stay on the machine that it got.

        Raises:
            NoPrice: the machine has no price, the cost is bounded, and there is no other worker.
        """
        try:
            self._crew.place(member, node)
        except NoPrice as error:
            if not self._others_elsewhere(member, node):
                raise
            self._bury(member, str(error), blame=False, counts=False)
            return False
        return True

    def _others_elsewhere(self, member: Member, node: str | None) -> int:
        """Workers on other machines that are ready, or building their scorers, or may start on one."""
        may = self._crew.has_others(node)
        others = (m for m in self._crew if m is not member)
        return sum(1 for m in others if (m.node != node if m.answered else may))

    def _settle(self, member: Member, settled: Settled) -> None:
        self.deaths.one_settled()
        if settled.status != "failed":
            self._failed = 0
        elif settled.error_class != "missing":
            record = self._ledger.record(settled.image_id)
            self._note_failure(f"{record['error_class']}: {record['error_message']}")
        if settled.status == "judged":
            if not member.judged:
                self.deaths.one_judged_its_first()
            self._judged += 1
            member.judged += 1
            member.failures = 0
        inputs = self._leases.settle(member.name, settled.number, settled.image_id)
        self._progress.settled(settled.status, len(inputs), settled.parts)

    def _see_off(self, member: Member, report: Report) -> None:
        """A worker that must leave takes nothing more, and is let go when all that it finished is written."""
        if not member.leaving:
            member.leaving, member.failed = True, report.failed
            if report.failed:
                self._progress.show(f"a worker's machine failed: {report.leaving}", now=True)
            else:
                self._progress.show(f"a worker leaves: {report.leaving}", now=True)
                self._crew.avoid(member.node)
        if report.empty_handed and report.failed:
            self._bury(member, str(report.leaving), blame=False)
        elif report.empty_handed:
            self._leases.give_back(member.name)
            self._crew.let_go(member)

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

    def _bury(
        self, member: Member, cause: str, *, blame: bool, counts: bool = True, of_machine: bool = False
    ) -> None:
        """Puts the dead worker's images back.

        Args:
            blame: whether they may be what killed it; else its machine is.
            counts: whether the death says something of its machine, or of all of them.
            of_machine: whether its machine may be what killed it even though the images are to blame.

        Raises:
            EngineError: too many workers died before they judged anything.
        """
        self.deaths.total += 1
        self._metrics.worker_died()
        self._progress.show(f"a worker died: {cause}", now=True)
        self._crew.let_go(member)
        for lease in self._leases.held(member.name):
            if lease.image_id is not None and self._ledger.has_record(lease.image_id):
                record = self._ledger.record(lease.image_id)
                said = str(record["status"]), record.get("error_class")
                self._settle(member, Settled(lease.number, lease.image_id, *said))
        if blame:
            numbers = [lease.number for lease in self._leases.held(member.name)]
            self._suspect(member, numbers, cause, of_machine=of_machine)
        else:
            self._leases.give_back(member.name)
        if counts and not member.judged:
            self._note_fruitless(member, cause, machine=not blame)
        elif counts and not blame:
            self._crew.failed_again(member.node)

    def _note_fruitless(self, member: Member, cause: str, *, machine: bool) -> None:
        """A worker died before it judged anything."""
        if machine:
            self._crew.avoid_failed(member.node)
        died = self.deaths.fruitless if member.capacity else self.deaths.stillborn
        may = self._crew.may_come(member.node)
        died(sum(1 for m in self._crew if m.answered or may), cause)

    def _suspect(self, member: Member, numbers: list[int], cause: str, *, of_machine: bool = False) -> None:
        open_inputs = self._leases.open

        def guilty(lease: Lease) -> bool:
            """An error of the machine speaks against an image only if others were judged since its first
            one, or before it where it is the last that is left: else it may be the only card, and broken."""
            return not of_machine or self._judged > (lease.judged_before if open_inputs > 1 else 0)

        found = self._leases.suspect(
            member.name, numbers, cause, member.node, judged=self._judged, guilty=guilty
        )
        for lease, settled in found:
            self._condemn(lease)
            self._progress.settled("failed", len(settled))

    def _condemn(self, lease: Lease) -> None:
        """The third death with the same image in hand: it is recorded as failed and let go."""
        causes = "; ".join(dict.fromkeys(lease.causes))
        said = {
            "status": "failed",
            "error_class": "WorkerDied",
            "error_message": f"{MOST_DEATHS} workers died with this image in hand: {causes}",
        }
        record = sign(said, blank=self._crew.task.blank, attempts=len(lease.causes), worker="driver")
        image_id = lease.image_id or unread_id(lease.uri)
        self._learn(lease.number, image_id)
        self._ledger.commit(image_id, record, {})
        self._ledger.store.delete(snapshot_path(image_id))
        self._metrics.settled("failed")
        self._note_failure(f"{said['error_class']}: {said['error_message']}")

    def _note_failure(self, cause: str) -> None:
        self._failed, self._last_failure = self._failed + 1, cause

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
