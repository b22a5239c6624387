"""Train small models of the world of shapes from scratch, one task per plan.

A plan is a YAML file: a name, the image set, and where the recipe differs from that of the shipped model::

    name: few-colours
    images: {kind: elements, colours: [red, blue], missing: [big red full square]}
    recipe: {seed: 1, denoiser: {steps: [3000], batch_size: 64}}
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from cluster.run.record import artefacts_of
from jobs.commandline import exits, options
from jobs.experimenting.two_runs import report_failures, train, trainings
from originality.contract.config import SettingsError
from originality.contract.settings_files import one_line, read_yaml


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to a parser."""
    parser.add_argument("plans", nargs="+", type=Path, metavar="PLAN.yaml", help="plans of models to train")
    parser.add_argument("--out", required=True, help="run folder; an existing one is resumed")
    options.add_cluster_arguments(parser)
    parser.set_defaults(config=[], set=[])


def run(arguments: argparse.Namespace) -> int:
    """Run the command with parsed arguments; the exit code."""
    from originality.experiments.tasks.plans import ModelPlan
    from originality.experiments.tasks.train_model import MODEL

    how = options.cluster_settings_of(arguments)
    plans = []
    for file in arguments.plans:
        try:
            plans.append(ModelPlan.model_validate(read_yaml(file)))
        except ValidationError as error:
            raise SettingsError(f"{file}: {one_line(error, ModelPlan)}") from error
    names = [plan.name for plan in plans]
    if len(set(names)) < len(names):
        raise SettingsError(f"two plans have the name {max(names, key=names.count)!r}; rename one of them")
    run = trainings(arguments.out, plans)
    train(run, plans, arguments.device or "auto", how)
    for record in run.ledger.rows():
        if record["status"] == "judged":
            print(f"{record['name']}: {run.store.url}/{artefacts_of(record)}/{MODEL}")
    return report_failures(run)


def main(argv: Any = None) -> int:
    """Run ``python -m jobs.train``; the exit code."""
    return exits.main("originality synthetic train", __doc__, add_arguments, run, argv)


if __name__ == "__main__":
    sys.exit(main())
