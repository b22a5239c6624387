"""Whose fault it is when a worker ends or fails: its images', its machine's, or everybody's.

DESIGN section 5 has the rule. Each end of a worker puts its images back; what differs is whether they count
as suspects, whether its machine is avoided, and whether the run may go on.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import ray

from cluster.driver.deaths import DEATHS, Deaths, cause_of
from cluster.driver.member import Member
from cluster.driver.progress import Progress
from cluster.driver.results import Results
from cluster.driver.workers import Crew, NoPrice
from cluster.inputs.decoder import DecoderError
from cluster.inputs.source_check import SourceGone
from cluster.run.leases import Lease, Leases
from cluster.storage.store import StoreError
from cluster.worker.metrics import Metrics
from cluster.worker.watch import Hung
from cluster.worker.worker import Report, Returned
from originality.contract.faults import is_machine_fault, line_of
from originality.contract.scorer import Unusable


@dataclass(frozen=True)
class Death:
    """The end of a worker that did not come by the driver's wish."""

    cause: str
    blame: bool
    """Whether its images may be what killed it; else its machine is."""
    counts: bool = True
    """Whether it says something of its machine, or of all of them."""
    of_machine: bool = False
    """Whether its machine may be what killed it even though the images are to blame."""
    suspects: Collection[int] | None = None
    """Numbers of those of its images that are to blame; None: of all."""
    foreseen: bool = False
    """Whether its machine was to be taken away, or may not be used: that happens as often as it likes."""


class Blame:
    """Of one run, on the driver."""

    def __init__(
        self,
        leases: Leases,
        crew: Crew,
        results: Results,
        deaths: Deaths,
        progress: Progress,
        metrics: Metrics,
    ) -> None:
        self._leases = leases
        self._crew = crew
        self._results = results
        self._deaths = deaths
        self._progress = progress
        self._metrics = metrics

    def ended(self, member: Member, error: Exception) -> None:
        """A worker's answer was that it, or its work, has ended.

        Raises:
            EngineError: it is not this worker alone.
            Unusable: nor is it the machine.
        """
        if isinstance(error, DEATHS):
            self.remove(member, self._death_of(member, error))
        elif isinstance(error, SourceGone):
            self._lost_source(member, error)
        elif isinstance(error, StoreError | DecoderError):
            self._cut_off(member, error)
        elif isinstance(error, Unusable):
            if member.capacity:
                raise error  # the scorer was built, and its settings suit no image
            self._deaths.refused(error, self.others_elsewhere(member, member.node))
            self.remove(member, Death(str(error), blame=False))
        elif isinstance(error, Hung):
            self.remove(member, Death(line_of(error), blame=bool(error.suspects), suspects=error.suspects))
        else:
            self.remove(member, Death(line_of(error), blame=not is_machine_fault(error)))

    def _death_of(self, member: Member, death: Exception) -> Death:
        foreseen = member.leaving or bool(getattr(death, "preempted", False))
        expected = foreseen or not self._crew.is_alive(member.node)
        if expected and not foreseen:
            self._crew.lost(member)
        return Death(
            cause_of(death),
            blame=not expected,
            counts=member.failed or not expected,
            of_machine=isinstance(death, ray.exceptions.OutOfMemoryError),
            foreseen=foreseen and not member.failed,
        )

    def _cut_off(self, member: Member, error: Exception) -> None:
        """A worker waited in vain for a store, or cannot decode: its machine may be cut off, or broken."""
        self.remove(member, Death(str(error), blame=False, counts=False))
        self._crew.failed_again(member.node)
        self._deaths.cut_off(error, len(self._crew.ready))

    def _lost_source(self, member: Member, error: SourceGone) -> None:
        """A worker's machine does not have the collection, which was listed elsewhere.

        Raises:
            EngineError: there is no other machine, or several have not got it.
        """
        elsewhere = self._crew.may_come(member.node) or self.others_elsewhere(member, member.node)
        self.quit_machine(member.node or "", str(error))
        self._deaths.lost_source(error, bool(elsewhere), len(self._crew.ready))

    def remove(self, member: Member, death: Death) -> None:
        """Puts a dead worker's images back.

        Raises:
            EngineError: too many workers died before they judged anything.
        """
        self._deaths.total += 1
        self._metrics.worker_died()
        self._progress.show(f"a worker died: {death.cause}", now=True)
        self._crew.let_go(member)
        self._results.settle_recorded(member, self._leases.held(member.name))
        if death.blame:
            held = [lease.number for lease in self._leases.held(member.name)]
            numbers = [n for n in held if death.suspects is None or n in death.suspects]
            self._suspect(member, numbers, death.cause, of_machine=death.of_machine)
        self._leases.give_back(member.name)
        if not death.foreseen:
            self._deaths.another(death.cause, self._crew.most, len(self._crew.ready))
        if death.counts and not member.judged:
            self._note_fruitless(member, death)
        elif death.counts and not death.blame:
            self._crew.failed_again(member.node)

    def quit_machine(self, node: str, cause: str) -> None:
        """Lets go of all workers on a machine that does not see the inputs, and hires elsewhere."""
        self._crew.avoid_failed(node)
        for member in self._crew:
            if member.node == node:
                self.remove(member, Death(cause, blame=False, counts=False, foreseen=True))

    def gave_back(self, member: Member, returned: Returned) -> None:
        """A worker gave inputs back as failed."""
        self._suspect(member, returned.numbers, returned.cause, of_machine=returned.of_machine)
        self._results.note_failure(returned.cause)
        if not member.failures:
            member.others_judged = self._results.judged
        member.failures += 1

    def is_broken(self, member: Member) -> bool:
        """Whether it is this worker whose images fail, as others judged theirs since."""
        return member.may_be_broken and self._results.judged > member.others_judged

    def remove_broken(self, member: Member) -> None:
        last = self._results.last_failure
        cause = f"{member.failures} images in a row failed here, and none elsewhere: {last}"
        self.remove(member, Death(cause, blame=False))

    def leaves(self, member: Member, report: Report) -> None:
        """A worker that must leave takes nothing more, and is let go when all that it finished is written."""
        if not member.leaving:
            member.leaving, member.failed = True, report.failed
            if report.failed:
                self._progress.show(f"a worker's machine failed: {report.leaving}", now=True)
            else:
                self._progress.show(f"a worker leaves: {report.leaving}", now=True)
                self._crew.avoid(member.node)
        if report.empty_handed and report.failed:
            self.remove(member, Death(str(report.leaving), blame=False))
        elif report.empty_handed:
            self._leases.give_back(member.name)
            self._crew.let_go(member)

    def may_stay(self, member: Member, node: str) -> bool:
        """Whether a worker may stay on the machine that it got.

        Raises:
            NoPrice: the machine has no price, the cost is bounded, and there is no other worker.
        """
        try:
            self._crew.place(member, node)
        except NoPrice as error:
            if not self.others_elsewhere(member, node):
                raise
            self.remove(member, Death(str(error), blame=False, counts=False, foreseen=True))
            return False
        if self._crew.is_lost_again_and_again(member) and self._crew.may_come(node):
            self._crew.avoid_failed(node)
            cause = f"the machine {member.address} was lost several times, and is avoided"
            self.remove(member, Death(cause, blame=False, counts=False, foreseen=True))
            return False
        return True

    def others_elsewhere(self, member: Member, node: str | None) -> int:
        """Workers on other machines that are ready, or building their scorers, or may start on one."""
        may = self._crew.has_others(node)
        others = (m for m in self._crew if m is not member)
        return sum(1 for m in others if (m.node != node if m.answered else may))

    def _note_fruitless(self, member: Member, death: Death) -> None:
        """A worker died before it judged anything."""
        if not death.blame:
            self._crew.avoid_failed(member.node)
        died = self._deaths.fruitless if member.capacity else self._deaths.stillborn
        may = self._crew.may_come(member.node)
        died(sum(1 for m in self._crew if m.answered or may), death.cause)

    def _suspect(self, member: Member, numbers: list[int], cause: str, *, of_machine: bool = False) -> None:
        open_inputs = self._leases.open
        judged = self._results.judged

        def guilty(lease: Lease) -> bool:
            """An error of the machine speaks against an image only if others were judged since its first
            one, or before it where it is the last that is left: else it may be the only card, and broken."""
            return not of_machine or judged > (lease.judged_before if open_inputs > 1 else 0)

        found = self._leases.suspect(member.name, numbers, cause, member.node, judged=judged, guilty=guilty)
        for lease, settled in found:
            self._results.fail(lease, settled)
