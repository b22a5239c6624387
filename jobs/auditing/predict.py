"""What an audit would take, from its settings alone: no image is judged, no weights are needed.

Operations an image from what was measured by the same method or, where nothing was, from what the settings
allow; time and money from the operations that a worker does in a second.
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
"""Where none are named."""

_ONLY_HERE = ("counts", "tflops", "family")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--predict",
        action="store_true",
        help="judge nothing: operations an image by the settings alone, and with --tflops time and money",
    )
    parser.add_argument(
        "--tflops", type=float, metavar="X", help="for --predict: TFLOP a second that a worker keeps up"
    )
    parser.add_argument(
        "--counts",
        type=Path,
        metavar="FILE.json",
        help="for --predict: measured counts, as make bench writes",
    )
    parser.add_argument(
        "--family", help=f"for --predict: the model is like one of {', '.join(FAMILIES)}, whatever its name"
    )


def refuse_alone(arguments: argparse.Namespace) -> None:
    """Raises:
    SettingsError: a flag of a prediction is given without --predict.
    """
    for name in _ONLY_HERE:
        if getattr(arguments, name) is not None:
            raise SettingsError(f"--{name} is for predictions: add --predict")


def run(arguments: argparse.Namespace) -> int:
    settings = options.settings_of(arguments, any_domain=True)
    how = options.cluster_settings_of(arguments)
    if arguments.tflops is not None and not 0 < arguments.tflops < 1e6:
        raise SettingsError(f"--tflops {arguments.tflops:g}: give more than 0 and less than a million")
    for name in ("out", "sample"):
        if getattr(arguments, name) is not None:
            raise SettingsError(
                f"--{name} is for judging a sample, and --predict judges nothing: leave out one"
            )
    inputs = _INPUTS
    if arguments.input is not None:
        manifest = scan(arguments.input)
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
    """Line by line.

    Args:
        inputs: how many there are.
        tflops: TFLOP a second of one worker; None: no time and money.
        counts: file of what was measured; None: the one that comes with the package.
        family: of the model; None: as its folder or name says.

    Raises:
        SettingsError: with the fix.
    """
    # The science is heavy to import, and a mistake in a flag is said before.
    from originality.cost import measured_counts
    from originality.cost.flops import flops, format_flops, judging
    from originality.cost.operations import BatchSlots, cost, protocol_counts
    from originality.model.meta_model import Architecture, architecture_of

    source = measured_counts.known(measured_counts.read(counts or measured_counts.SHIPPED), settings)
    if family:
        architecture, origin = Architecture.of_family(family), f"{family} as set"
    else:
        architecture, origin = architecture_of(settings.model)
    of_model, of_metric = flops(architecture), judging(settings.distance)
    yield f"{settings.model.path} ({origin}): {of_model}"
    yield f"{settings.distance.metric}: {format_flops(of_metric)} an image"
    if source:
        cases = {
            measured_counts.origin_of_counts(source, settings, family): measured_counts.carried_over(
                source, settings
            )
        }
    else:
        ends = {1: "stop at 1 token", settings.max_tokens: f"go to {settings.max_tokens}"}
        cases = {
            f"where all {what} and nothing ends early": protocol_counts(settings, m)
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
        "measured on this machine: nothing (originality doctor times the model here, originality estimate "
        "without --predict a sample of your images)"
    )
    yield f"assumed:\n{measured_counts.Assumptions.of(settings, source)}"
    if tflops is not None:
        yield (
            f"- a worker keeps up {tflops:g} TFLOP/s, as given, in all parts, and does not wait for images "
            "or models"
        )


def _how_to_time(of_model: Flops) -> str:
    return (
        "for time and money add --tflops: originality doctor tells UNet samples/s forward and back; times "
        f"{of_model.step / 1e12:.3g} they are TFLOP/s"
    )


@dataclass(frozen=True)
class Pace:
    """Of a worker."""

    cost: Cost
    tflops: float
    inputs: int
    price: float | None
    """US dollars an hour of one worker."""

    @property
    def hours(self) -> float:
        """Of workers, for all inputs."""
        return self.inputs * self.cost.total / (self.tflops * 1e12) / 3600

    def __str__(self) -> str:
        told = (
            f"{_short(self.inputs / self.hours)} images/h a worker at {self.tflops:g} TFLOP/s, "
            f"{_short(self.hours)} worker hours for {self.inputs:,} inputs"
        )
        if self.price is None:
            return f"{told}; for money name the worker: --accelerators L4, --set cluster.prices='{{L4: 0.8}}'"
        return f"{told}, ${_short(self.hours * self.price)} at ${self.price:g} an hour"


def _short(number: float) -> str:
    return f"{number:.3g}" if number < 1000 else f"{number:,.0f}"


def price_of(settings: AuditSettings, how: ClusterSettings) -> float | None:
    """US dollars an hour of one worker; None where several kinds are meant, or the one has no price."""
    kinds = ("CPU",) if settings.model.device == "cpu" else how.accelerators or tuple(how.prices)
    return how.price(kinds[0], how.gpus_per_worker) if len(kinds) == 1 else None
