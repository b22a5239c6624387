"""What the grid of conditions tells: its rows beside each other, and how much of them is chance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, get_args

from originality.experiments.conditions import BASE, CHANGED, ONE_TOKEN, Budget
from originality.experiments.report import frequency_report
from originality.experiments.statistics import differences
from originality.experiments.tasks.measure_pairs import GROUPS

Record = Mapping[str, Any]

BASE_ROW = "base"
"""The grid's first model, one of the frequency experiment's."""

SEEDS = "other-seeds"
"""The frequency experiment's other models as a row of the grid."""

STRICTER = 0.2
"""Threshold beside the usual one."""


def rows(
    measures: Sequence[Record], of_frequency: Sequence[Record], threshold: float
) -> dict[str, dict[str, Any]]:
    """The grid by condition, as far as it is measured, and as a row of it the frequency experiment's models,
    on the same images."""
    measured: dict[str, list[Record]] = {record["name"]: [record] for record in measures}
    order = (BASE, SEEDS, *CHANGED)
    found = [measured[name][0] for name in order if name in measured]
    if not found:
        return {}
    seeds: list[Record] = [
        frequency_report.shared(record, found[0])
        for record in of_frequency
        if record["name"].startswith("pairs-") and record["name"] != BASE and _asked_alike(record, found[0])
    ]
    if seeds and all(len(r["rows"]) == len(found[0]["rows"]) for r in seeds):
        measured[SEEDS] = seeds
    base = found[0] if found[0]["name"] == BASE else None
    changed = {SEEDS: "other seeds of the training", **CHANGED}
    return {
        BASE_ROW if name == BASE else name: {
            **frequency_report.summarise(of, threshold),
            "changed": changed.get(name, ""),
            "stricter": differences(frequency_report.tokens(of, STRICTER)),
            "by_pair": frequency_report.by_pair(of, threshold),
            "described": frequency_report.described(of),
            "best": frequency_report.best_distances(of),
            "more": base and of[0] is not base and frequency_report.more_than(of, base, threshold),
        }
        for name, of in ((name, measured[name]) for name in order if name in measured)
    }


def _asked_alike(record: Record, other: Record) -> bool:
    """Whether two measurements have the same settings, of whatever model."""
    ours, theirs = ({k: v for k, v in r["settings"].items() if k != "model"} for r in (record, other))
    return ours == theirs


def detectable(grid: Mapping[str, Any]) -> dict[str, float]:
    """Differences from the common pairs that the rows would have seen with 80 % power, those aside where all
    images need the same."""
    found = [
        difference["detectable"]
        for row in grid.values()
        for name, difference in row["differences"].items()
        if name.endswith(GROUPS[0]) and difference["detectable"]
    ]
    return {"least": min(found, default=0.0), "most": max(found, default=0.0)}


def one_token(measures: Sequence[Record], threshold: float) -> dict[str, Any] | None:
    """One token by the paper's own budget, beside the same images by the usual one."""
    measured = {record["name"]: record for record in measures}
    if not {ONE_TOKEN, BASE} <= measured.keys():
        return None
    by_paper = measured[ONE_TOKEN]
    return {
        budget: frequency_report.at_one_token(frequency_report.shared(measured[name], by_paper), threshold)
        for budget, name in (("paper-shapes", ONE_TOKEN), ("the grid's", BASE))
    }


def asked_again(measures: Sequence[Record], threshold: float) -> dict[str, dict[str, float | None]]:
    """By how the first model was asked otherwise, how far that agrees with the usual on the same images."""
    measured = {record["name"]: record for record in measures}
    return {
        name: frequency_report.agreement([measured[BASE], measured[name]], threshold)
        for name in get_args(Budget)
        if {BASE, name} <= measured.keys()
    }


def trained_once(training: Record) -> tuple[str, float]:
    """What one training alone has: one that is done again may end with the same weights."""
    return training["weights_digest"], training["seconds"]


def repeat(
    trainings_before: Sequence[Record],
    measures_before: Sequence[Record],
    trainings: Sequence[Record],
    measures: Sequence[Record],
) -> dict[str, Any] | None:
    """Where the grid's first model was trained anew, and not taken over from the frequency experiment (the
    one before): whether it is the same, and how many of the distances that both measured are equal to the
    last bit."""
    trained, measured = (
        [{record["name"]: record for record in of} for of in both]
        for both in ((trainings_before, trainings), (measures_before, measures))
    )
    if not all(BASE in of for of in (*trained, *measured)):
        return None
    first, second = (of[BASE] for of in trained)
    if trained_once(first) == trained_once(second):
        return None
    shown = [frequency_report.shared(of[BASE], measured[1][BASE])["rows"] for of in measured]
    sweeps = [{r["image_id"]: [a["distance_mean"] for a in r["sweep"]] for r in of} for of in shown]
    both = [two for name in sweeps[0] for two in zip(*(of[name] for of in sweeps), strict=True)]
    return {
        "same weights": first["weights_digest"] == second["weights_digest"],
        "distances": len(both),
        "equal": sum(a == b for a, b in both),
    }
