"""The audit: how many pseudo-words does each image of a collection need?

``python -m jobs.audit INPUT --out OUTPUT``, or ``originality audit``.
"""

from __future__ import annotations

import argparse
import functools
import socket
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from cluster.driver import driver
from cluster.driver.progress import size
from cluster.driver.session import Session, run_session
from cluster.inputs.manifest import RUN_FILE, WORD, Manifest, Selection
from cluster.inputs.readable import check_readable
from cluster.ray_runtime.ray_address import on_cluster
from cluster.ray_runtime.runtime import check_ray
from cluster.run.folder import RunFolder, RunMismatch, beside, plan
from cluster.settings import ClusterSettings
from cluster.storage.heartbeat import Heartbeat
from cluster.storage.lock import Lock, LockLost
from cluster.storage.store import (
    Damaged,
    NotFound,
    StoreError,
    absolute,
    open_store,
    unmade,
)
from cluster.worker.messages import ScorerFactory, Task
from jobs.auditing.damaged import warn_of_damage
from jobs.auditing.dry_run import dry_run
from jobs.auditing.suitability import UNSUITED, Unsuited, warn
from jobs.auditing.verdict_table import SCHEMA, blank, min_tokens_text, summarise
from jobs.auditing.worker_gpu import check_gpu
from jobs.commandline import exits, options, process
from originality.contract.config import SettingsError
from originality.contract.faults import MachineFault
from originality.contract.scorer import Scorer
from originality.settings.audit import AuditSettings, later_defaults

_TABLE_ROWS = 40
_SUMMING = "progress/summing.json"
_NAME_WIDTH = 60
_LATER = {"settings": later_defaults()}
"""What holds of a run that was begun before some settings were there."""
_NO_OTHER_RUN = ("settings.model.device", "settings_digest")
"""The same run may continue on another kind of machine; and the digest follows from the settings."""


@dataclass(frozen=True)
class Science:
    """What an audit is of, beside the images."""

    settings: AuditSettings
    factory: ScorerFactory
    digests: Mapping[str, str]
    """Of all weights that have a say (originality.sweep.sweep.preflight)."""
    memory: int = Task.memory
    """Bytes of a worker on CPU."""
    loading: str = Task.loading
    """What a worker does until its model is loaded, for people."""
    doubts: Sequence[str] = ()
    """Why the thresholds' calibration does not speak for this audit."""
    unsuited: Unsuited | None = None
    """That the model cannot judge these images."""
    words_missing: str | None = None
    """What to say of a collection whose images bring no words (originality.inversion.initial_words); None
    where they need none."""

    def check(self, manifest: Manifest) -> None:
        """Refuses a collection of which no image could be judged. Says on stderr which files were skipped,
        and how many images cannot be judged.

        Raises:
            SettingsError: with the fix.
        """
        if manifest.skipped:
            sys.stderr.write(f"{manifest.skipped_text}\n")
        if self.words_missing is None or not (missing := manifest.missing(WORD.name)):
            return
        if missing == len(manifest):
            raise SettingsError(self.words_missing)
        sys.stderr.write(f"{missing} inputs have no word and will fail: {self.words_missing}\n")


def audit(
    science: Science,
    source: str,
    output: str,
    *,
    how: ClusterSettings = ClusterSettings(),
    selection: Selection = Selection(),
    force_new: bool = False,
) -> int:
    """Judges what has no record yet, then tells. The exit code.

    ``selection``: which inputs, this time; a later run goes on with the rest. ``force_new``: where the
    folder holds a run of other settings, begin another beside it.
    """
    with unmade(output):
        return _carried_out(science, planned(science, source, output, force_new), how, selection)


def unsuited(science: Science, run: RunFolder, selection: Selection) -> Unsuited | None:
    """What a look at some images says, or an earlier start of the run said; a finished run looks at none."""
    said, found = None, None
    # one that is damaged, or of another version, is written anew at the end
    with suppress(KeyError, TypeError, StoreError):
        said = Unsuited(**run.summary()[UNSUITED])
    numbers = selection.numbers(run.manifest)
    if run.leases(numbers).open:
        with suppress(StoreError, MachineFault):  # they are reported where the images are judged
            found = warn(science.settings, run.manifest, numbers)
    return found or said


def _carried_out(science: Science, run: RunFolder, how: ClusterSettings, selection: Selection) -> int:
    with audit_session(run, selection, how.deadline) as session:
        heartbeat = session.heartbeat
        science = replace(science, unsuited=unsuited(science, run, selection))
        try:
            outcome = judge(science, session, how)
        except (driver.Interrupted, driver.EngineError):
            with suppress(StoreError):  # which may be what ended it
                if not run.empty:
                    _sum_up(science, run, heartbeat)  # nobody may ever resume it
            raise
        if outcome and (outcome.cost or outcome.duplicates):
            dropped = f"{outcome.duplicates} late duplicates dropped" if outcome.duplicates else ""
            cost = f"cost ${outcome.cost:.2f}" if outcome.cost else ""
            sys.stderr.write(f"{', '.join(filter(None, (cost, dropped)))}\n")
        run = RunFolder(run.store)  # others may have worked on it too
        heartbeat.check()
        run.clear_snapshots()
        summary, page = _sum_up(science, run, heartbeat)
        with process.final_output():
            _tell(run)
            print(page)
        if summary["pending"]:
            left = f"{summary['pending']} inputs are pending"
            sys.stderr.write(f"{left}; the same command without --limit, --sample or --shard judges them\n")
    unjudged = summary["rejected"] + summary["failed"]
    return exits.SOME_UNJUDGED if unjudged else exits.ALL_JUDGED


def _sum_up(science: Science, run: RunFolder, heartbeat: Heartbeat) -> tuple[dict[str, Any], str]:
    """Tables, summary and report of what is recorded; the summary, and where the report is. Shards that end
    together do it one at a time, each from what is recorded by then.

    Raises:
        Superseded: another has taken this process's place; its summary and report stay as they are.
    """
    from jobs.auditing.report_data import write_report

    run.damage.clear()
    run.ledger.compact(SCHEMA)
    with Lock(run.store, _SUMMING) as lock, lock.kept():
        run = RunFolder(run.store, damage=run.damage)  # with the inputs that others have learnt meanwhile
        summary = summarise(run)
        if calibration := science.settings.calibration:
            told = {
                "calibration": calibration.model_dump(mode="json"),
                "calibration_doubts": list(science.doubts),
            }
            summary.update(told)
        if science.unsuited:
            summary[UNSUITED] = science.unsuited.fact()
        heartbeat.check()
        with suppress(LockLost):  # whoever took it sums up the same records, or more
            lock.check()
            run.write_summary(summary)
    page = write_report(run, before=heartbeat.check)
    warn_of_damage(run)
    return summary, page


@contextmanager
def audit_session(
    run: RunFolder, selection: Selection = Selection(), deadline: datetime | None = None
) -> Iterator[Session]:
    """A session of work on an audit's run. A new run that ends before anything came of it leaves no plan
    behind.

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
        say=process.notify,
    ) as session:
        warn_of_damage(run)
        yield session


def judge(science: Science, session: Session, how: ClusterSettings) -> driver.Outcome | None:
    """Has the inputs judged whose image has no record yet; None where there is none."""
    run = session.run
    leases = session.leases()
    if not leases.open:
        return None
    open_store(run.manifest.source or "/", create=False)  # if it is gone, that is said before Ray starts
    task = Task(
        run.store.url,
        science.factory,
        blank(science.settings),
        science.memory,
        how.snapshot_every,
        how.step_limit,
        source="" if how.stop_after_failures is None else run.manifest.source,
        one_input=len(run.manifest) == 1,
        readable=check_readable(run.manifest),
        limits=how.limits,
        most_parts=science.settings.max_tokens,
        loading=science.loading,
        load_limit=how.load_limit,
    )
    return session.work(task, leases, how, gpu=options.GPU[science.settings.model.device])


def planned(science: Science, source: str, output: str, force_new: bool = False) -> RunFolder:
    """The run in a folder, planned now or before."""
    identified = identity(science, source)
    try:
        return plan(source, open_store(output), identified, science.check, _LATER, ignored=_NO_OTHER_RUN)
    except RunMismatch:
        if not force_new:
            raise
    for other in beside(output):  # the first that is free, or is this one begun before
        with suppress(RunMismatch):
            run = plan(source, open_store(other), identified, science.check, _LATER, ignored=_NO_OTHER_RUN)
            sys.stderr.write(f"{output} holds a run with other settings; this one is {other}\n")
            return run
    raise AssertionError("there is no last name")


def identity(science: Science, source: str) -> dict[str, Any]:
    """All that decides the verdicts: a resume with anything else is refused. Where the thresholds come from
    is no part of it: a run goes on with a calibration that gives the thresholds it has."""
    try:
        code_version = version("originality")
    except PackageNotFoundError:
        code_version = "unknown"
    return {
        "job": "audit",
        "input": absolute(source),
        "settings": science.settings.model_dump(mode="json", exclude={"calibration"}),
        "settings_digest": science.settings.digest(),
        "model": science.settings.model.path,
        **science.digests,
        "code_version": code_version,
    }


def _tell(run: RunFolder) -> None:
    """A short table."""
    rows = [run.about(number) for number in range(min(len(run.manifest), _TABLE_ROWS))]
    for row in rows:
        if row["image_id"]:
            with suppress(NotFound, Damaged):
                row.update(run.ledger.record(row["image_id"]))
    width = min(max(len(repr(row["path"])) for row in rows), _NAME_WIDTH)
    print(f"{'image':{width}}  min tokens  status")
    for row in rows:
        reason = f" ({row['error_class']})" if row.get("error_class") else ""
        # repr: a file's name may hold anything, terminal commands included
        print(f"{row['path']!r:{width}}  {min_tokens_text(row):10}  {row['status']}{reason}")
    if len(run.manifest) > _TABLE_ROWS:
        print(f"and {len(run.manifest) - _TABLE_ROWS} more")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "input",
        help="folder, s3://, gs:// or az:// prefix, glob in quotes, CSV or Parquet list, or one image",
    )
    parser.add_argument("--out", help="run folder; the same one resumes")
    parser.add_argument("--dry-run", action="store_true", help="only read and check the images")
    parser.add_argument(
        "--force-new",
        action="store_true",
        help="where --out holds a run of other settings, begin another beside it",
    )
    parser.add_argument(
        "--unjudged-ok",
        action="store_true",
        help="exit code 0 also where images were rejected or failed, for schedulers that would try again",
    )
    options.add_settings_arguments(parser)
    options.add_selection_arguments(parser)
    options.add_cluster_arguments(parser)


def scorer_of(settings: AuditSettings, model_digest: str) -> Scorer:
    """What a worker calls once: the model brought to the worker's node and loaded.

    Raises:
        SettingsError: the node has another model under that name than the run was planned with.
        MachineFault: the node's GPU, disk or network failed.
    """
    from jobs.auditing.weights_here import copies_here
    from originality.sweep.sweep import build_scorer

    check_gpu()
    scorer = build_scorer(settings, copies_here(settings))
    if scorer.model.digest != model_digest:
        raise SettingsError(
            f"model {settings.model.path!r} has the digest {scorer.model.digest} on {socket.gethostname()}, "
            f"and {model_digest} where the run was started; give all nodes the same model"
        )
    return scorer


def run(arguments: argparse.Namespace) -> int:
    code = _run(arguments)
    return exits.ALL_JUDGED if code == exits.SOME_UNJUDGED and arguments.unjudged_ok else code


def _run(arguments: argparse.Namespace) -> int:
    # Which images are fit to be judged does not depend on the domain.
    settings = options.settings_of(arguments, run=arguments.out, any_domain=arguments.dry_run)
    how = options.cluster_settings_of(arguments)
    selection = options.selection_of(arguments, settings.seed)
    if arguments.dry_run:
        return dry_run(settings, arguments.input, selection, how.limits)
    if not arguments.out:
        raise SettingsError("--out is missing: name a folder for the results")
    if absolute(arguments.out) == absolute(arguments.input):
        raise SettingsError("--out is the input itself: name another folder for the results")
    check_first(settings, how, arguments.out)
    science = prepared(settings)
    return audit(
        science, arguments.input, arguments.out, how=how, selection=selection, force_new=arguments.force_new
    )


def check_first(settings: AuditSettings, how: ClusterSettings, output: str | None) -> None:
    """Finds, in a second, what would stop a run after minutes: before weights are brought and Ray starts.

    Raises:
        SettingsError, StoreError, Refused: with the fix.
    """
    options.check_price(settings, how)
    check_ray()
    if output:
        with unmade(output):
            store = open_store(output)
            RunFolder(store).check()
            if not store.exists(RUN_FILE):
                store.check_create()


def prepared(settings: AuditSettings) -> Science:
    """Everything found out that would stop every image, before anything is written. Says on stderr, in one
    line, where the thresholds' calibration is not of this model, metric and method.

    Raises:
        SettingsError: with the fix.
    """
    # The science is heavy to import, so only a job that is sure to start pays for it.
    from jobs.auditing.weights_here import copies_here
    from originality.calibration.thresholds import doubts
    from originality.cost.memory_plan import CPU_ROOM
    from originality.inversion.initial_words import subject_switched, words_missing
    from originality.model.model_folder import open_model
    from originality.sweep.preflight import preflight

    _look_for_gpu(settings)
    # a cluster's nodes fetch their own weights, so its head need not hold gigabytes before they start
    copies = copies_here(settings, outlined=on_cluster())
    model = open_model(settings.model, copies.model)
    digests = preflight(settings, copies, model, gpus_elsewhere=on_cluster())
    doubted = doubts(settings, digests)
    if doubted:
        sys.stderr.write(f"warning: the calibration does not speak for this audit: {'; '.join(doubted)}\n")
    factory = functools.partial(scorer_of, settings, digests["model_digest"])
    # weights are read as stored, then turned into fp32, and small models have small passes; torch and the
    # judges take the rest
    weights = model.weights_bytes
    memory = Task.memory + 3 * weights + min(CPU_ROOM, 2 * weights)
    if (switched := subject_switched(settings)) is not None:
        sys.stderr.write(f"{switched}\n")
    missing = words_missing(settings, model, copies)
    loading = f"loading the model {settings.model.path} ({size(weights)}) and what judges its redraws"
    return Science(settings, factory, digests, memory, loading, doubted, words_missing=missing)


def _look_for_gpu(settings: AuditSettings) -> None:
    """On a machine of one's own: says why torch sees none of its GPUs, before anything is started.

    Raises:
        SettingsError: a GPU is asked for.
    """
    from originality.model import nvidia
    from originality.model.device import torch_device

    if on_cluster():  # the GPUs are on other machines
        return
    device = torch_device(settings.model)
    problem = nvidia.missing() if settings.model.device == "auto" and device.type == "cpu" else None
    if problem is not None:
        sys.stderr.write(f"warning: torch sees no GPU, so the CPU is used: {problem}\n")


def main(argv: Sequence[str] | None = None) -> int:
    return exits.main("originality audit", __doc__, add_arguments, run, argv)


if __name__ == "__main__":
    sys.exit(main())
