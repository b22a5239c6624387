"""The random samples that a run was asked for, frozen: ``samples/000001.json`` and so on.

Each is one object that is created if it is absent, before its first input is judged. It says which inputs of
the collection are judged, so what is known of them speaks for all of them. A later one may be larger, or
divided differently; inputs that both have are judged once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from typing import Any

from cluster.inputs.manifest import ALLOCATIONS, Selection
from cluster.run.folder import RunFolder
from cluster.run.layout import SAMPLES, sample_number, sample_path
from cluster.storage.checksums import json_bytes, read_json
from cluster.storage.damage import damage_errors
from cluster.storage.store import Damaged, NotFound


@dataclass(frozen=True)
class SamplePlan:
    """A random sample of a run's inputs, as it was frozen."""

    size: int
    """Inputs of the sample; all, if the collection has fewer."""
    inputs: int
    """Inputs of the collection."""
    seed: int
    by: str | None = None
    """The column whose values are its strata; None: a simple sample."""
    allocation: str = "proportional"
    """How it is divided among the strata."""
    weights: tuple[tuple[str, float], ...] = ()
    """Stratum and relative number of inputs, for the allocation "neyman"."""

    @classmethod
    def of(cls, selection: Selection, inputs: int) -> SamplePlan:
        """The plan of a selection that has a sample, of a collection with so many inputs."""
        assert selection.sample is not None
        weights = tuple((str(name), float(weight)) for name, weight in selection.weights)
        allocation = selection.allocation if selection.by is not None else "proportional"
        size = min(selection.sample, inputs)
        return cls(size, inputs, selection.seed, selection.by, allocation, weights)

    @property
    def selection(self) -> Selection:
        """All its inputs."""
        return Selection(
            sample=self.size, seed=self.seed, by=self.by, allocation=self.allocation, weights=self.weights
        )

    @property
    def values(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {
            "size": self.size,
            "inputs": self.inputs,
            "seed": self.seed,
            "by": self.by,
            "allocation": self.allocation,
            "weights": dict(self.weights) or None,
        }

    @property
    def text(self) -> str:
        """For people: "a random sample of 100 of 5000 inputs, by artist (proportional), seed 0"."""
        how = "" if self.by is None else f", by {self.by} ({self.allocation})"
        return f"a random sample of {self.size} of {self.inputs} inputs{how}, seed {self.seed}"


def sample_plans(run: RunFolder) -> list[SamplePlan]:
    """The frozen samples of a run, the oldest first. Damaged ones are noted and left out."""
    numbers = sorted(filter(None, (sample_number(found.path) for found in run.store.list(SAMPLES))))
    plans = []
    for number in numbers:
        try:
            plans.append(_read(run, number))
        except NotFound:
            continue  # withdrawn since it was listed
        except Damaged as damaged:
            run.damage.note(damaged, "run the audit with the same --sample again")
    return plans


def freeze(run: RunFolder, wanted: SamplePlan) -> SamplePlan:
    """Keep a sample in its run, unless the newest one is the same.

    Returns:
        The sample to work on. For the allocation "neyman" it has the weights of the newest plan, if that was
        for the same request: weights follow from what is judged, which a resume must not change.
    """
    for number in count(1 + max((sample_number(f.path) or 0 for f in run.store.list(SAMPLES)), default=0)):
        plans = sample_plans(run)
        if plans and _request(plans[-1]) == _request(wanted):
            return plans[-1]
        values = {**wanted.values, "created_at": datetime.now(UTC).isoformat()}
        if run.store.create(sample_path(number), json_bytes(values, indent=2)):
            return wanted
    raise AssertionError("count() never ends")


def _request(plan: SamplePlan) -> tuple[Any, ...]:
    return plan.size, plan.inputs, plan.seed, plan.by, plan.allocation


def _read(run: RunFolder, number: int) -> SamplePlan:
    path = sample_path(number)
    values = read_json(run.store, path)
    with damage_errors(run.store, path):
        return _parsed(values)


def _parsed(values: Mapping[str, Any]) -> SamplePlan:
    allocation, by = values["allocation"], values["by"]
    if allocation not in ALLOCATIONS:
        raise ValueError(f"unknown allocation {allocation!r}")
    weights = tuple((str(name), float(weight)) for name, weight in (values["weights"] or {}).items())
    return SamplePlan(
        int(values["size"]),
        int(values["inputs"]),
        int(values["seed"]),
        None if by is None else str(by),
        allocation,
        weights,
    )
