"""The paper's synthetic experiments: models are trained, then measured, each a task of its own.

OUT/train and OUT/measure are two runs: the same command goes on with both, and ``originality status`` says
how far each is.
"""

from __future__ import annotations

import argparse
import sys
from itertools import chain
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from cluster.run.folder import RunFolder
from jobs.commandline import exits, options
from jobs.experimenting.kept import check_disk_space, keep
from jobs.experimenting.plan_runs import id_of
from jobs.experimenting.takeover import Earlier, take_over
from jobs.experimenting.two_runs import measure, measures, report_failures, train, trainings, wanted_of
from originality.contract.config import SettingsError
from originality.contract.settings_files import one_line

EXPERIMENTS = ("frequency", "conditions", "diversity")


def _keep(folder: Path, models: RunFolder, run: RunFolder) -> None:
    """Keeps what there is, and says it where that would be less than what is kept already."""
    lacking = keep(folder, models, run)
    if lacking:
        sys.stderr.write(
            f"{folder} is left as it is: it keeps {', '.join(lacking)}, which this run has not measured; "
            "go on with the same command\n"
        )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("experiment", choices=EXPERIMENTS)
    parser.add_argument("--out", required=True, help="run folder; the same one resumes")
    parser.add_argument("--scale", choices=("laptop", "paper"), default="laptop")
    parser.add_argument(
        "--before",
        nargs="+",
        default=[],
        metavar="RUN",
        help="experiments' runs, or folders of --keep, of which the same trainings and measurements are "
        "taken over",
    )
    parser.add_argument(
        "--keep",
        metavar="DIR",
        help="folder of this machine; records and pictures are written there, also of what is measured when "
        "it is stopped",
    )
    parser.add_argument("--set", action="append", default=[], metavar="KEY.PATH=VALUE", help="any setting")
    options.add_cluster_arguments(parser)
    parser.set_defaults(config=[])


def experiment_of(arguments: argparse.Namespace) -> Any:
    """The experiment at its scale, with what was set.

    Raises:
        SettingsError: with the fix.
    """
    from originality.experiments.scales import SCALES
    from originality.experiments.tasks.measure_pairs import PairsMeasure

    usual = SCALES[arguments.scale][arguments.experiment]
    over = {k: v for k, v in options.assignments(arguments).items() if k != "cluster"}
    try:
        experiment = type(usual).model_validate(options.merged(usual.model_dump(), over))
        plans = experiment.plans()
        # what would only come to light after a night of training
        for measure in experiment.measures({plan.name: plan.name for plan in plans}):
            if isinstance(measure, PairsMeasure):
                measure.settings()
    except ValidationError as error:
        raise SettingsError(one_line(error, type(usual))) from error
    return experiment


def kept_at(said: str | None) -> Path | None:
    """The folder of --keep.

    Raises:
        SettingsError: it is none of this machine's.
    """
    if said and "://" in said:
        raise SettingsError(
            f"--keep {said}: give a folder of this machine, as what is kept is meant to be committed; --out "
            "has all of it, and may be in a bucket"
        )
    return Path(said) if said else None


def run(arguments: argparse.Namespace) -> int:
    how = options.cluster_settings_of(arguments)
    experiment, device = experiment_of(arguments), arguments.device or "auto"
    before = [Earlier.at(where) for where in arguments.before]
    plans, wanted = experiment.plans(), wanted_of(experiment)
    kept = kept_at(arguments.keep)
    if kept:
        check_disk_space(
            kept, [id_of(plan.document()) for plan in plans], chain.from_iterable(wanted.values())
        )
    models = trainings(f"{arguments.out}/train", plans)
    run = measures(f"{arguments.out}/measure", experiment)
    if before:
        take_over(models, run, wanted, before)
        anew = [plan.name for plan in plans if not models.ledger.has_record(id_of(plan.document()))]
        if anew:
            sys.stderr.write(
                f"{', '.join(anew)}: trained here, as no --before has the model, or all that is to be "
                "measured of it\n"
            )
    train(models, plans, device, how)
    failed = report_failures(models)
    if failed:
        return failed
    try:
        measure(run, models, device, how)
    finally:  # what a stop leaves can be committed, and taken over
        if kept:
            _keep(kept, models, run)
    print(kept or run.store.url)
    return report_failures(run)


def main(argv: Any = None) -> int:
    return exits.main("originality synthetic experiment", __doc__, add_arguments, run, argv)


if __name__ == "__main__":
    sys.exit(main())
