"""Estimate an audit's speed, worker hours and cost by judging a random sample of its images.

With ``--out`` the verdicts of the sample become part of that run, and an audit into the same folder continues
it. ``--predict`` judges nothing: it computes the operations per image from the settings alone.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from cluster.driver.progress import duration
from cluster.inputs.manifest import Selection
from cluster.ray_runtime.ray_address import on_cluster
from cluster.run.folder import RunFolder
from cluster.storage.store import removing_empty_folders
from jobs.auditing import predict
from jobs.auditing.audit_run import audit_session, judge, plan_audit
from jobs.auditing.prepare import check_first, prepare
from jobs.auditing.suitability import warn
from jobs.commandline import exits, options
from originality.contract.config import SettingsError

_SAMPLE = 8
"""Default number of inputs in the sample."""
_RESAMPLES = 2000
"""Bootstrap samples for the range of the estimate."""


@dataclass(frozen=True)
class Estimate:
    """Estimate for all inputs, with a range that holds nine of ten bootstrap means."""

    inputs: int
    seconds: tuple[float, float, float]
    """Worker seconds per input: low, mean, high."""
    price: float
    """US dollars per hour of one worker; 0 if unknown."""

    @property
    def hours(self) -> tuple[float, float, float]:
        """Worker hours for all inputs: low, mean, high."""
        low, mean, high = self.seconds
        return self.inputs * low / 3600, self.inputs * mean / 3600, self.inputs * high / 3600

    def lines(self, workers: int) -> list[str]:
        """The estimate as text for this number of workers, line by line."""
        if not self.seconds[1]:
            return ["no image of the sample could be judged; check the images with audit --dry-run"]
        low, mean, high = self.hours
        lines = [
            f"{3600 / self.seconds[1]:.3g} images/h per worker (from {3600 / self.seconds[2]:.3g}"
            + (f" to {3600 / self.seconds[0]:.3g})" if self.seconds[0] else " up)"),
            f"{mean:.3g} worker hours for {self.inputs} inputs ({low:.3g} to {high:.3g})",
            f"{duration(mean * 3600 / workers)} with {workers} workers, plus the time to start machines and "
            "load models",
        ]
        if self.price:
            lines.append(
                f"${mean * self.price:.2f} at ${self.price:g} per hour (${low * self.price:.2f} to "
                f"${high * self.price:.2f})"
            )
        else:
            lines.append(
                "cost: no price is set for this worker; add --set cluster.prices='{L4: 0.8}' (or CPU)"
            )
        return lines


def spread(seconds: Sequence[float], seed: int = 0) -> tuple[float, float, float]:
    """Mean of a sample with a range: 5th percentile, mean and 95th percentile of its bootstrap means.

    A single value says nothing about its spread, so its range is set to a third of it and three times it.
    """
    values = np.asarray(seconds, float)
    if len(values) == 1:
        return values[0] / 3, values[0], values[0] * 3
    drawn = np.random.default_rng(seed).choice(values, (_RESAMPLES, len(values))).mean(1)
    low, high = np.percentile(drawn, (5, 95))
    return float(low), float(values.mean()), float(high)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to a parser."""
    parser.add_argument("input", nargs="*", help="images of the audit; optional with --predict")
    parser.add_argument(
        "--sample", type=int, metavar="N", help=f"number of inputs to judge and time (default: {_SAMPLE})"
    )
    parser.add_argument("--out", help="run folder that keeps the sample's verdicts, for an audit to continue")
    predict.add_arguments(parser)
    options.add_list_arguments(parser)
    options.add_settings_arguments(parser)
    options.add_cluster_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Run the command with parsed arguments; the exit code."""
    if arguments.predict:
        return predict.run(arguments)
    predict.refuse_alone(arguments)
    if not arguments.input:
        raise SettingsError("name the images: a folder, prefix, glob, list or file (optional with --predict)")
    settings = options.settings_of(arguments, run=arguments.out)
    how = options.cluster_settings_of(arguments)
    sample = _SAMPLE if arguments.sample is None else arguments.sample
    if sample < 1:
        raise SettingsError(f"--sample {sample}: give 1 or more")
    if not arguments.out and on_cluster():
        raise SettingsError("--out is missing: on a cluster, name a run folder that all nodes can reach")
    selection = Selection(sample=sample, seed=settings.seed)
    check_first(settings, how, arguments.out)
    with tempfile.TemporaryDirectory() as scratch, removing_empty_folders(arguments.out or scratch):
        prepared = replace(prepare(settings), table_options=options.table_options_of(arguments))
        folder = plan_audit(prepared, arguments.input, arguments.out or scratch)
        warn(settings, folder.manifest, selection.numbers(folder.manifest))
        with audit_session(folder, selection, how.deadline) as session:
            outcome = judge(prepared, session, how)
        numbers = [int(number) for number in selection.numbers(folder.manifest)]
        seconds = [seconds_of(folder, number) for number in numbers]
    price = outcome.cost / outcome.worker_hours if outcome and outcome.worker_hours else 0.0
    if outcome is None:
        print("all images of the sample were judged before: recorded times are used, the price is unknown")
    estimate = Estimate(len(folder.manifest), spread(seconds), price)
    print(f"from a random sample of {len(seconds)} of {len(folder.manifest)} inputs:")
    for line in estimate.lines(how.max_workers or (outcome.workers if outcome else 1)):
        print(line)
    return exits.ALL_JUDGED


def seconds_of(run: RunFolder, number: int) -> float:
    """Worker seconds that an input took; 0 if it was rejected."""
    image_id = run.identities[number]
    if image_id is None:
        return 0.0
    return sum(attempt["seconds"] for attempt in run.ledger.record(image_id).get("sweep") or ())


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``python -m jobs.estimate``; the exit code."""
    return exits.main("originality estimate", __doc__, add_arguments, run, argv)


if __name__ == "__main__":
    sys.exit(main())
