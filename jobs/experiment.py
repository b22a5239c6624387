"""Run one of the paper's synthetic experiments: train models, then measure them, each as a separate task.

OUT/train and OUT/measure are two runs. Run the same command again to resume both; ``originality status``
shows the progress of each.
"""

from __future__ import annotations

import argparse
import logging
import sys
from itertools import chain
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from cluster.run.folder import RunFolder
from jobs.commandline import exits, options
from jobs.experimenting.kept import check_room, keep
from jobs.experimenting.plan_runs import id_of
from jobs.experimenting.takeover import Earlier, take_over
from jobs.experimenting.two_runs import measure, measures, report_failures, train, trainings, wanted_of
from originality.contract.config import SettingsError
from originality.contract.settings_files import merged, one_line

_log = logging.getLogger(__name__)

EXPERIMENTS = ("frequency", "conditions", "diversity")


def _keep(folder: Path, models: RunFolder, run: RunFolder) -> None:
    """Copy the results to a folder, or report on stderr why that would lose some that it holds."""
    lacking = keep(folder, models, run)
    if lacking:
        _log.warning(
            "%s was not changed: it holds %s, which this run has not measured yet; run the same command "
            "again to resume",
            folder,
            ", ".join(lacking),
        )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to a parser."""
    parser.add_argument("experiment", choices=EXPERIMENTS, help="experiment to run")
    parser.add_argument("--out", required=True, help="run folder; an existing one is resumed")
    parser.add_argument(
        "--scale",
        choices=("laptop", "paper"),
        default="laptop",
        help="size of models and measurements (default: laptop)",
    )
    parser.add_argument(
        "--before",
        nargs="+",
        default=[],
        metavar="RUN",
        help="earlier experiments (their --out or --keep folders) whose identical trainings and measurements "
        "are reused",
    )
    parser.add_argument(
        "--keep",
        metavar="DIR",
        help="local folder for records and pictures of the results, small enough to commit; also written if "
        "the command is stopped",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY.PATH=VALUE",
        help="any setting of the experiment, by its path; may be repeated",
    )
    options.add_cluster_arguments(parser)
    parser.set_defaults(config=[])


def experiment_of(arguments: argparse.Namespace) -> Any:
    """The experiment at its scale, with the settings that --set changes.

    Raises:
        SettingsError: a setting is unknown or invalid.
    """
    from originality.experiments.scales import SCALES
    from originality.experiments.tasks.measure_pairs import PairsMeasure

    usual = SCALES[arguments.scale][arguments.experiment]
    over = {k: v for k, v in options.assignments(arguments).items() if k != "cluster"}
    try:
        experiment = type(usual).model_validate(merged(usual.model_dump(), over))
        plans = experiment.plans()
        # Validated now, as mistakes in these settings would otherwise appear only after a night of training.
        for measure in experiment.measures({plan.name: plan.name for plan in plans}):
            if isinstance(measure, PairsMeasure):
                measure.settings()
    except ValidationError as error:
        raise SettingsError(one_line(error, type(usual))) from error
    return experiment


def keep_folder(given: str | None) -> Path | None:
    """The folder of --keep.

    Raises:
        SettingsError: it is not a local folder.
    """
    if given and "://" in given:
        raise SettingsError(
            f"--keep {given}: give a local folder, as its files are meant to be committed; --out, which "
            "holds all results, may be in a bucket"
        )
    return Path(given) if given else None


def run(arguments: argparse.Namespace) -> int:
    """Run the command with parsed arguments; the exit code."""
    how = options.cluster_settings_of(arguments)
    experiment, device = experiment_of(arguments), arguments.device or "auto"
    before = [Earlier.at(where) for where in arguments.before]
    plans, wanted = experiment.plans(), wanted_of(experiment)
    kept = keep_folder(arguments.keep)
    if kept:
        check_room(kept, [id_of(plan.document()) for plan in plans], chain.from_iterable(wanted.values()))
    models = trainings(f"{arguments.out}/train", plans)
    run = measures(f"{arguments.out}/measure", experiment)
    if before:
        take_over(models, run, wanted, before)
        missing = [plan.name for plan in plans if not models.ledger.has_record(id_of(plan.document()))]
        if missing:
            _log.info(
                "%s: trained here, as no run of --before has the model or all its measurements",
                ", ".join(missing),
            )
    train(models, plans, device, how)
    failed = report_failures(models)
    if failed:
        return failed
    try:
        measure(run, models, device, how)
    finally:  # also after a stop: partial results can be committed, and reused by --before
        if kept:
            _keep(kept, models, run)
    print(kept or run.store.url)
    return report_failures(run)


def main(argv: Any = None) -> int:
    """Run ``python -m jobs.experiment``; the exit code."""
    return exits.main("originality synthetic experiment", __doc__, add_arguments, run, argv)


if __name__ == "__main__":
    sys.exit(main())
