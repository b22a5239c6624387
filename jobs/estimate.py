"""What an audit would take: times a random sample, and tells images an hour, worker hours and money.

The sample's verdicts are kept: with ``--out`` they are part of that run, which an audit goes on with.
``--predict`` judges nothing: it tells the operations that an image takes, by the settings alone.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cluster.driver.progress import duration
from cluster.inputs.manifest import Selection
from cluster.ray_runtime.ray_address import on_cluster
from cluster.run.folder import RunFolder
from cluster.storage.store import unmade
from jobs.audit import audit_session, check_first, judge, planned, prepared
from jobs.auditing import predict
from jobs.auditing.suitability import warn
from jobs.commandline import exits, options
from originality.contract.config import SettingsError

_SAMPLE = 8
_RESAMPLES = 2000


@dataclass(frozen=True)
class Estimate:
    """For all inputs, with the range in which nine samples of ten would have put it."""

    inputs: int
    seconds: tuple[float, float, float]
    """Of one worker's time for one input: low, mean, high."""
    price: float
    """US dollars an hour of one worker."""

    @property
    def hours(self) -> tuple[float, float, float]:
        """Of workers, for all inputs."""
        low, mean, high = self.seconds
        return self.inputs * low / 3600, self.inputs * mean / 3600, self.inputs * high / 3600

    def lines(self, workers: int) -> list[str]:
        if not self.seconds[1]:
            return ["no image of the sample could be judged; look at them with audit --dry-run"]
        low, mean, high = self.hours
        told = [
            f"{3600 / self.seconds[1]:.3g} images/h a worker (from {3600 / self.seconds[2]:.3g}"
            + (f" to {3600 / self.seconds[0]:.3g})" if self.seconds[0] else " up)"),
            f"{mean:.3g} worker hours for {self.inputs} inputs ({low:.3g} to {high:.3g})",
            f"{duration(mean * 3600 / workers)} with {workers} workers, and the time in which machines and "
            "models start",
        ]
        if self.price:
            told.append(
                f"${mean * self.price:.2f} at ${self.price:g} an hour (${low * self.price:.2f} to "
                f"${high * self.price:.2f})"
            )
        else:
            told.append("no price is known for this worker: give --set cluster.prices='{L4: 0.8}', or CPU")
        return told


def spread(seconds: Sequence[float], seed: int = 0) -> tuple[float, float, float]:
    """Mean of a sample between the 5th and 95th percentile of its bootstrap means; of a single value, that
    value between a third and three times itself, as nothing is known of its neighbours."""
    values = np.asarray(seconds, float)
    if len(values) == 1:
        return values[0] / 3, values[0], values[0] * 3
    drawn = np.random.default_rng(seed).choice(values, (_RESAMPLES, len(values))).mean(1)
    low, high = np.percentile(drawn, (5, 95))
    return float(low), float(values.mean()), float(high)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("input", nargs="?", help="what the audit would be of; --predict needs none")
    parser.add_argument("--sample", type=int, metavar="N", help=f"inputs that are timed (default {_SAMPLE})")
    parser.add_argument("--out", help="keep the sample's verdicts as the beginning of this run")
    predict.add_arguments(parser)
    options.add_settings_arguments(parser)
    options.add_cluster_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    if arguments.predict:
        return predict.run(arguments)
    predict.refuse_alone(arguments)
    if arguments.input is None:
        raise SettingsError("name the images: a folder, prefix, glob, list or file (--predict needs none)")
    settings = options.settings_of(arguments, run=arguments.out)
    how = options.cluster_settings_of(arguments)
    sample = _SAMPLE if arguments.sample is None else arguments.sample
    if sample < 1:
        raise SettingsError(f"--sample {sample}: give 1 or more")
    if not arguments.out and on_cluster():
        raise SettingsError(
            "--out is missing: on a cluster the sample's verdicts need a place that all reach"
        )
    selection = Selection(sample=sample, seed=settings.seed)
    check_first(settings, how, arguments.out)
    with tempfile.TemporaryDirectory() as scratch, unmade(arguments.out or scratch):
        science = prepared(settings)
        folder = planned(science, arguments.input, arguments.out or scratch)
        warn(settings, folder.manifest, selection.numbers(folder.manifest))
        with audit_session(folder, selection, how.deadline) as session:
            outcome = judge(science, session, how)
        numbers = [int(number) for number in selection.numbers(folder.manifest)]
        seconds = [seconds_from_environment(folder, number) for number in numbers]
    price = outcome.cost / outcome.worker_hours if outcome and outcome.worker_hours else 0.0
    if outcome is None:
        print(
            "the whole sample had been judged before; its times are told, the price of a worker is not known"
        )
    estimate = Estimate(len(folder.manifest), spread(seconds), price)
    print(f"from {len(seconds)} of {len(folder.manifest)} inputs, drawn at random:")
    for line in estimate.lines(how.max_workers or (outcome.workers if outcome else 1)):
        print(line)
    return exits.ALL_JUDGED


def seconds_from_environment(run: RunFolder, number: int) -> float:
    """Worker time of one input: that of its image, and nothing where it was rejected."""
    image_id = run.identities[number]
    if image_id is None:
        return 0.0
    return sum(attempt["seconds"] for attempt in run.ledger.record(image_id).get("sweep") or ())


def main(argv: Sequence[str] | None = None) -> int:
    return exits.main("originality estimate", __doc__, add_arguments, run, argv)


if __name__ == "__main__":
    sys.exit(main())
