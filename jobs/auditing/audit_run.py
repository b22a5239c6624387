"""Run an audit: plan or resume its run, judge its images, write tables, summary and report."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from cluster.driver import driver
from cluster.driver.session import Session, run_session
from cluster.inputs.manifest import Manifest, Selection
from cluster.inputs.readable import check_readable
from cluster.run.folder import RunFolder, RunMismatch, beside, plan
from cluster.run.layout import SUMMARY_LOCK
from cluster.settings import ClusterSettings
from cluster.storage.heartbeat import Heartbeat
from cluster.storage.lock import Lock, LockLost
from cluster.storage.store import (
    Damaged,
    NotFound,
    StoreError,
    open_store,
    removing_empty_folders,
)
from cluster.worker.messages import Task
from jobs.auditing.changes import Changes, Collection, place_of
from jobs.auditing.damaged import warn_of_damage
from jobs.auditing.prepare import PreparedAudit
from jobs.auditing.sampled import check_sample, frozen, noted
from jobs.auditing.suitability import UNSUITED, Unsuited, warn
from jobs.auditing.verdict_table import SCHEMA, blank, min_tokens_text, summarise
from jobs.commandline import exits, options, process
from originality.contract.faults import MachineFault
from originality.settings.audit import later_defaults

_log = logging.getLogger(__name__)

_TABLE_ROWS = 40
"""Most rows of the table on stdout."""
_NAME_WIDTH = 60
"""Largest width of its first column, in characters."""
LATER_DEFAULTS = {"settings": later_defaults()}
"""Values of settings that did not exist yet when an older run was planned."""
_NOT_IDENTITY = ("settings.model.device", "settings_digest", "rejudged_from")
"""Parts of the identity that may differ on resume: a run may continue on a different kind of machine, the
digest follows from the settings, which are compared one by one, and a run that ``originality rejudge`` wrote
is resumed by the audit's own command."""


def audit(
    prepared: PreparedAudit,
    source: Collection,
    output: str,
    *,
    how: ClusterSettings = ClusterSettings(),
    selection: Selection = Selection(),
    force_new: bool = False,
    changes: Changes = Changes(),
) -> int:
    """Judge the images that have no record yet, then write and print the results; the exit code.

    Args:
        source: the collection.
        output: the run folder.
        selection: inputs to judge this time; a later start may judge the others.
        force_new: if the folder holds a run with different settings, start a new one in a folder beside it.
        changes: of the collection, to follow.
    """
    with removing_empty_folders(output):
        changes.relocate(output, source, prepared.table_options)
        run = plan_audit(prepared, source, output, force_new, selection)
        run = changes.renewed(run, source, prepared.table_options)
        return run_to_end(prepared, run, how, frozen(run, selection))


def unsuited(prepared: PreparedAudit, run: RunFolder, selection: Selection) -> Unsuited | None:
    """Finding that the model cannot judge these images, from a sample of them or from an earlier start.

    A finished run samples none.
    """
    earlier, found = None, None
    # A summary that is damaged or of a different version is ignored, as it is written again at the end.
    with suppress(KeyError, TypeError, StoreError):
        earlier = Unsuited(**run.summary()[UNSUITED])
    numbers = selection.numbers(run.manifest)
    if run.leases(numbers).open:
        with suppress(StoreError, MachineFault):  # reported when the images are judged
            found = warn(prepared.settings, run.manifest, numbers)
    return found or earlier


def run_to_end(prepared: PreparedAudit, run: RunFolder, how: ClusterSettings, selection: Selection) -> int:
    """Judge what is pending in a planned run, then write and print the results; the exit code.

    Raises:
        Interrupted, EngineError: the run can be resumed; results so far are written.
        Superseded: another process has taken this one's place.
    """
    with audit_session(run, selection, how.deadline) as session:
        heartbeat = session.heartbeat
        prepared = replace(prepared, unsuited=unsuited(prepared, run, selection))
        try:
            outcome = judge(prepared, session, how)
        except (driver.Interrupted, driver.EngineError):
            # The run may never be resumed, so the results so far are written now. An unavailable store may be
            # what ended the run; the original error is more useful then.
            with suppress(StoreError):
                if not run.empty:
                    write_results(prepared, run, heartbeat)
            raise
        if outcome and (outcome.cost or outcome.duplicates):
            dropped = f"{outcome.duplicates} duplicate verdicts discarded" if outcome.duplicates else ""
            cost = f"cost ${outcome.cost:.2f}" if outcome.cost else ""
            _log.info("%s", ", ".join(filter(None, (cost, dropped))))
        run = RunFolder(run.store)  # opened again: other processes may have worked on it too
        heartbeat.check()
        run.clear_snapshots()
        summary, page = write_results(prepared, run, heartbeat)
        with process.final_output():
            _print_table(run)
            print(page)
        if summary["pending"]:
            _log.info(
                "%d inputs are pending; to judge them, run the same command without --limit, --sample, "
                "--shard",
                summary["pending"],
            )
    unjudged = summary["rejected"] + summary["failed"]
    return exits.SOME_UNJUDGED if unjudged else exits.ALL_JUDGED


def write_results(
    prepared: PreparedAudit, run: RunFolder, heartbeat: Heartbeat
) -> tuple[dict[str, Any], str]:
    """Write tables, summary and report from all records.

    Returns:
        The summary, and the path or URL of the report.

    Raises:
        Superseded: another process has taken this one's place; its summary and report are left unchanged.
    """
    from jobs.auditing.report_data import write_report

    run.damage.clear()
    run.ledger.compact(SCHEMA)
    # Shards that end at the same time write one after the other. Each reads the run only when it holds the
    # lock, so the last one to write has seen all records.
    with Lock(run.store, SUMMARY_LOCK) as lock, lock.renewed():
        run = RunFolder(run.store, damage=run.damage)
        summary = summarise(run)
        if calibration := prepared.settings.calibration:
            summary["calibration"] = calibration.model_dump(mode="json")
            summary["calibration_doubts"] = list(prepared.doubts)
        if prepared.unsuited:
            summary[UNSUITED] = prepared.unsuited.fact()
        heartbeat.check()
        with suppress(LockLost):  # the process that took the lock over writes the same records, or more
            lock.check()
            run.write_summary(summary)
    page = write_report(run, before=heartbeat.check)
    warn_of_damage(run)
    return summary, page


@contextmanager
def audit_session(
    run: RunFolder, selection: Selection = Selection(), deadline: datetime | None = None
) -> Iterator[Session]:
    """Session of work on an audit's run. A new run that ends before any result is removed again.

    Raises:
        SettingsError, StoreError, Interrupted, Superseded: as of :func:`cluster.driver.session.run_session`.
    """
    with run_session(
        run,
        "audit",
        selection=selection,
        deadline=deadline,
        schema=SCHEMA,
        withdraw_if_unused=True,
        say=_log.warning,
    ) as session:
        warn_of_damage(run)
        yield session


def judge(prepared: PreparedAudit, session: Session, how: ClusterSettings) -> driver.Outcome | None:
    """Judge the inputs whose image has no record yet; None if there are none."""
    run = session.run
    leases = session.leases()
    if not leases.open:
        return None
    open_store(run.manifest.source or "/", create=False)  # fails before Ray starts if the collection is gone
    task = Task(
        run.store.url,
        prepared.factory,
        blank(prepared.settings),
        prepared.memory,
        how.snapshot_every,
        how.step_limit,
        source="" if how.stop_after_failures is None else run.manifest.source,
        one_input=len(run.manifest) == 1,
        readable=check_readable(run.manifest),
        limits=how.limits,
        most_parts=prepared.settings.max_tokens,
        loading=prepared.loading,
        load_limit=how.load_limit,
    )
    return session.work(task, leases, how, gpu=options.GPU[prepared.settings.model.device])


def plan_audit(
    prepared: PreparedAudit,
    source: Collection,
    output: str,
    force_new: bool = False,
    selection: Selection = Selection(),
) -> RunFolder:
    """Plan the run, or open it if it was planned before.

    Raises:
        RunMismatch: the folder holds a run with different settings.
    """
    identified = identity(prepared, source)

    def check(manifest: Manifest) -> None:
        prepared.check(manifest)
        check_sample(selection, manifest)

    def plan_in(folder: str) -> RunFolder:
        return plan(
            source,
            open_store(folder),
            identified,
            check,
            LATER_DEFAULTS,
            ignored=_NOT_IDENTITY,
            table_options=prepared.table_options,
            noted=noted(selection),
        )

    try:
        return plan_in(output)
    except RunMismatch:
        if not force_new:
            raise
    for other in beside(output):  # the first folder that is free, or that holds this run already
        with suppress(RunMismatch):
            run = plan_in(other)
            _log.warning("%s holds a run with different settings; this run is in %s", output, other)
            return run
    raise AssertionError("beside() never ends")


def identity(prepared: PreparedAudit, source: Collection) -> dict[str, Any]:
    """Everything that decides the verdicts. A resume with anything different is refused.

    The source of the thresholds is excluded: a run may be resumed with a calibration that gives the same
        ones.
    """
    try:
        code_version = version("originality")
    except PackageNotFoundError:
        code_version = "unknown"
    return {
        "job": "audit",
        "input": place_of(source),
        "settings": prepared.settings.model_dump(mode="json", exclude={"calibration"}),
        "settings_digest": prepared.settings.digest(),
        "model": prepared.settings.model.path,
        **prepared.digests,
        "code_version": code_version,
    }


def _print_table(run: RunFolder) -> None:
    """Print min tokens and status of the first inputs."""
    rows = [run.about(number) for number in range(min(len(run.manifest), _TABLE_ROWS))]
    for row in rows:
        if row["image_id"]:
            with suppress(NotFound, Damaged):
                row.update(run.ledger.record(row["image_id"]))
    width = min(max(len(repr(row["path"])) for row in rows), _NAME_WIDTH)
    print(f"{'image':{width}}  min tokens  status")
    for row in rows:
        reason = f" ({row['error_class']})" if row.get("error_class") else ""
        # repr, because a file name may hold anything, escape sequences for the terminal included
        print(f"{row['path']!r:{width}}  {min_tokens_text(row):10}  {row['status']}{reason}")
    if len(run.manifest) > _TABLE_ROWS:
        print(f"and {len(run.manifest) - _TABLE_ROWS} more")
