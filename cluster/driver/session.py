"""One process's session of work on a run, from waiting for its turn to the last save."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime

import pyarrow as pa

from cluster.driver import driver
from cluster.inputs.manifest import Selection
from cluster.run.folder import RunFolder
from cluster.run.leases import Leases
from cluster.run.turn import turn
from cluster.settings import ClusterSettings
from cluster.storage.heartbeat import Heartbeat
from cluster.storage.periodic import regularly
from cluster.storage.store import StoreError, hurried_after_outage
from cluster.worker.messages import Task

SAVE_SECONDS = 60.0
"""Between two saves of what was learnt of the inputs. What a crash loses of it is only read again."""
COMPACT_SECONDS = 600.0
"""Between two compactions. Each of them lists all records."""


@dataclass(frozen=True)
class Session:
    """A process that has its turn on a run, and keeps it until the session is closed."""

    run: RunFolder
    selection: Selection
    heartbeat: Heartbeat

    def leases(self) -> Leases:
        """Leases of the selected inputs whose image has no record yet."""
        return self.run.leases(self.selection.numbers(self.run.manifest))

    def work(
        self, task: Task, leases: Leases, settings: ClusterSettings, *, gpu: bool | None
    ) -> driver.Outcome:
        """Run the driver until every leased input is settled.

        Args:
            gpu: as of :func:`cluster.driver.driver.run`.

        Raises:
            Interrupted, EngineError, Unusable: as of :func:`cluster.driver.driver.run`.
            Superseded: another process has taken this one's place.
        """
        run = self.run
        try:
            with hurried_after_outage(run.store):  # so that the save below does not wait for the store again
                return driver.run(
                    task, leases, settings, gpu=gpu, learn=run.identities.learn, beat=self.heartbeat.update
                )
        finally:
            # Suppressed: the store may be what ended the run, and its own error says more. What is not saved
            # is learnt again, as the next start reads those images again.
            with suppress(StoreError):
                run.identities.save()


@contextmanager
def run_session(
    run: RunFolder,
    role: str,
    *,
    selection: Selection = Selection(),
    deadline: datetime | None = None,
    schema: pa.Schema | None = None,
    withdraw_if_unused: bool = False,
    say: Callable[[str], None] = lambda line: None,
) -> Iterator[Session]:
    """Wait for this process's turn on a run, then show others that it works there and keep the run's
    tables up to date while the context is open.

    Damaged parts of the folder are removed on entry, so that they are made again.

    Args:
        role: "audit" or "experiment"; shown to others.
        selection: the inputs to judge; starts with others may work at the same time.
        schema: of the records, which are then compacted now and then; None: they never are.
        withdraw_if_unused: a new run that ends by an error before anything came of it leaves no plan behind.
        say: called with one line for people when this process has to wait.

    Raises:
        SettingsError, StoreError, Interrupted, Superseded: as of :func:`cluster.run.turn.turn`.
    """
    with turn(run, role, selection, deadline, say) as heartbeat, ExitStack() as periodic:
        try:
            periodic.enter_context(regularly(SAVE_SECONDS, lambda: run.identities.save()))
            if schema is not None:
                # Only full parts, as more records are to come: else each compaction would leave a small one.
                compact = regularly(COMPACT_SECONDS, lambda: run.ledger.compact(schema, full_parts_only=True))
                periodic.enter_context(compact)
            with hurried_after_outage(run.store):
                run.mend()
                yield Session(run, selection, heartbeat)
        except BaseException:
            # Nothing may write tables into a run that is being withdrawn.
            periodic.close()
            if withdraw_if_unused:
                with suppress(StoreError):  # which may be what ended it
                    _withdraw_if_unused(run, heartbeat)
            raise


def _withdraw_if_unused(run: RunFolder, heartbeat: Heartbeat) -> None:
    """Remove the plan of a run that this process planned and of which nothing came.

    Only while nobody else waits: whoever takes a turn after this looks again whether the plan is still there.
    """
    if run.new and run.empty and heartbeat.alone:
        heartbeat.check()
        run.withdraw()
