"""Predict the cost of an audit from its settings alone: no image is judged, no weights are needed.

Operations per image come from counts measured with the same method or, if there are none, from the limits in
the settings. Time and money follow from the operations per second of a worker.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cluster.inputs.listing import scan
from cluster.settings import ClusterSettings
from jobs.auditing.suitability import warn
from jobs.commandline import exits, options
from originality.contract.config import SettingsError
from originality.model.families import FAMILIES
from originality.settings.audit import AuditSettings

if TYPE_CHECKING:
    from originality.cost.flops import Flops
    from originality.cost.operations import Cost

_INPUTS = 1000
"""Number of inputs if none are named."""

_PREDICT_FLAGS = ("counts", "tflops", "family")
"""Flags that apply to --predict only."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to a parser."""
    parser.add_argument(
        "--predict",
        action="store_true",
        help="judge nothing: compute operations per image from the settings, and with --tflops time and cost",
    )
    parser.add_argument(
        "--tflops",
        type=float,
        metavar="X",
        help="for --predict: TFLOP per second that a worker sustains",
    )
    parser.add_argument(
        "--counts",
        type=Path,
        metavar="FILE.json",
        help="for --predict: file of measured counts, as written by make bench (default: the one that ships)",
    )
    parser.add_argument(
        "--family",
        help=f"for --predict: the model's architecture, one of {', '.join(FAMILIES)} (default: from --model)",
    )


def refuse_alone(arguments: argparse.Namespace) -> None:
    """Check that no flag of a prediction is given without --predict.

    Raises:
        SettingsError: one is.
    """
    for name in _PREDICT_FLAGS:
        if getattr(arguments, name) is not None:
            raise SettingsError(f"--{name} applies to predictions only: add --predict")


def run(arguments: argparse.Namespace) -> int:
    """Run the command with parsed arguments; the exit code."""
    settings = options.settings_of(arguments, any_domain=True)
    how = options.cluster_settings_of(arguments)
    if arguments.tflops is not None and not 0 < arguments.tflops < 1e6:
        raise SettingsError(f"--tflops {arguments.tflops:g}: give a number above 0 and below a million")
    for name in ("out", "sample"):
        if getattr(arguments, name) is not None:
            raise SettingsError(f"--{name} does not apply to --predict, which judges nothing: leave one out")
    inputs = _INPUTS
    if arguments.input:
        manifest = scan(arguments.input, options.table_options_of(arguments))
        inputs = len(manifest)
        warn(settings, manifest, range(inputs))
    for line in predicted(settings, how, inputs, arguments.tflops, arguments.counts, arguments.family):
        print(line)
    return exits.ALL_JUDGED


def predicted(
    settings: AuditSettings,
    how: ClusterSettings,
    inputs: int,
    tflops: float | None = None,
    counts: Path | None = None,
    family: str | None = None,
) -> Iterator[str]:
    """The prediction as text, line by line.

    Args:
        inputs: number of inputs.
        tflops: TFLOP per second of one worker; None: predict no time and cost.
        counts: file of measured counts; None: the one that ships with the package.
        family: architecture of the model; None: as its folder or name says.

    Raises:
        SettingsError: the file of counts is invalid, or the model's architecture is unknown.
    """
    # Imported late: it takes seconds, and mistakes in flags should be reported before.
    from originality.cost import measured_counts
    from originality.cost.flops import flops, format_flops, judging
    from originality.cost.operations import BatchSlots, cost, protocol_counts
    from originality.model.meta_model import Architecture, architecture_of

    source = measured_counts.known(measured_counts.read(counts or measured_counts.SHIPPED), settings)
    if family:
        architecture, origin = Architecture.of_family(family), f"{family}, set by --family"
    else:
        architecture, origin = architecture_of(settings.model)
    of_model, of_metric = flops(architecture), judging(settings.distance)
    yield f"{settings.model.path} ({origin}): {of_model}"
    yield f"{settings.distance.metric}: {format_flops(of_metric)} per image"
    if source:
        cases = {
            measured_counts.origin_of_counts(source, settings, family): measured_counts.carried_over(
                source, settings
            )
        }
    else:
        ends = {1: "stops at 1 token", settings.max_tokens: f"needs {settings.max_tokens}"}
        cases = {
            f"if every image {what} and nothing stops early": protocol_counts(settings, m)
            for m, what in ends.items()
        }
    places = source.places if source else BatchSlots()
    costs = {case: cost(counted, of_model, of_metric, places) for case, counted in cases.items()}
    for case, spent in costs.items():
        yield f"{case}: {spent}"
    if tflops is None:
        yield _how_to_time(of_model)
    else:
        for case, spent in costs.items():
            yield f"{case}: {Pace(spent, tflops, inputs, price_of(settings, how))}"
    yield (
        "nothing was measured on this machine: originality doctor times the model here, originality estimate "
        "without --predict times a sample of your images"
    )
    yield f"assumptions:\n{measured_counts.Assumptions.of(settings, source)}"
    if tflops is not None:
        yield (
            f"- a worker sustains {tflops:g} TFLOP/s (--tflops) in all parts, and never waits for images or "
            "models"
        )


def _how_to_time(of_model: Flops) -> str:
    return (
        "for time and cost add --tflops: multiply the UNet samples/s, forward and backward, that originality "
        f"doctor measures by {of_model.step / 1e12:.3g}"
    )


@dataclass(frozen=True)
class Pace:
    """Predicted speed and cost of a worker."""

    cost: Cost
    tflops: float
    inputs: int
    price: float | None
    """US dollars per hour of one worker; None if unknown."""

    @property
    def hours(self) -> float:
        """Worker hours for all inputs."""
        return self.inputs * self.cost.total / (self.tflops * 1e12) / 3600

    def __str__(self) -> str:
        speed = (
            f"{_short(self.inputs / self.hours)} images/h per worker at {self.tflops:g} TFLOP/s, "
            f"{_short(self.hours)} worker hours for {self.inputs:,} inputs"
        )
        if self.price is None:
            return (
                f"{speed}; for the cost, set the worker's type and price: --accelerators L4 "
                "--set cluster.prices='{L4: 0.8}'"
            )
        return f"{speed}, ${_short(self.hours * self.price)} at ${self.price:g} per hour"


def _short(number: float) -> str:
    return f"{number:.3g}" if number < 1000 else f"{number:,.0f}"


def price_of(settings: AuditSettings, how: ClusterSettings) -> float | None:
    """US dollars per hour of one worker; None if several types are allowed, or the type has no price."""
    kinds = ("CPU",) if settings.model.device == "cpu" else how.accelerators or tuple(how.prices)
    return how.price(kinds[0], how.gpus_per_worker) if len(kinds) == 1 else None
