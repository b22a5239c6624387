"""Statistics of the grid of conditions: its rows side by side, and how much of them is chance."""

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
"""A second, stricter threshold of the distance, reported beside the usual one."""


def rows(
    measures: Sequence[Record], of_frequency: Sequence[Record], threshold: float
) -> dict[str, dict[str, Any]]:
    """Rows of the grid that have been measured, by condition.

    One row, :data:`SEEDS`, is of the frequency experiment's other models, restricted to the grid's images.
    """
    measured: dict[str, list[Record]] = {record["name"]: [record] for record in measures}
    order = (BASE, SEEDS, *CHANGED)
    found = [measured[name][0] for name in order if name in measured]
    if not found:
        return {}
    seeds: list[Record] = [
        frequency_report.common_images(record, found[0])
        for record in of_frequency
        if record["name"].startswith("pairs-") and record["name"] != BASE and _same_settings(record, found[0])
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


def _same_settings(record: Record, other: Record) -> bool:
    """Whether two measurements have the same settings, apart from the model."""
    ours, theirs = ({k: v for k, v in r["settings"].items() if k != "model"} for r in (record, other))
    return ours == theirs


def detectable(grid: Mapping[str, Any]) -> dict[str, float]:
    """Smallest and largest difference from the common pairs that a row would detect with 80 % power.

    Rows where all images need the same number of tokens, and so have no variance, are left out.
    """
    found = [
        difference["detectable"]
        for row in grid.values()
        for name, difference in row["differences"].items()
        if name.endswith(GROUPS[0]) and difference["detectable"]
    ]
    return {"least": min(found, default=0.0), "most": max(found, default=0.0)}


def one_token(measures: Sequence[Record], threshold: float) -> dict[str, Any] | None:
    """Results of one token with the paper's own budget, and of the same images with the grid's budget."""
    measured = {record["name"]: record for record in measures}
    if not {ONE_TOKEN, BASE} <= measured.keys():
        return None
    by_paper = measured[ONE_TOKEN]
    return {
        budget: frequency_report.at_one_token(
            frequency_report.common_images(measured[name], by_paper), threshold
        )
        for budget, name in (("paper-shapes", ONE_TOKEN), ("the grid's", BASE))
    }


def repeat_agreement(measures: Sequence[Record], threshold: float) -> dict[str, dict[str, float | None]]:
    """Agreement of the first model's other measurements with its usual one, by what was changed."""
    measured = {record["name"]: record for record in measures}
    return {
        name: frequency_report.agreement([measured[BASE], measured[name]], threshold)
        for name in get_args(Budget)
        if {BASE, name} <= measured.keys()
    }


def training_key(training: Record) -> tuple[str, float]:
    """Identity of one training run: a repeated training may end with the same weights, but not in the same
    time."""
    return training["weights_digest"], training["seconds"]


def repeated_training(
    trainings_before: Sequence[Record],
    measures_before: Sequence[Record],
    trainings: Sequence[Record],
    measures: Sequence[Record],
) -> dict[str, Any] | None:
    """Comparison of the grid's first model with the frequency experiment's, where it was trained again.

    Returns:
        Whether it has the "same weights", and how many of the "distances" measured of both are "equal" to
        the last bit; None if the model was taken over rather than trained again.
    """
    trained, measured = (
        [{record["name"]: record for record in of} for of in both]
        for both in ((trainings_before, trainings), (measures_before, measures))
    )
    if not all(BASE in of for of in (*trained, *measured)):
        return None
    first, second = (of[BASE] for of in trained)
    if training_key(first) == training_key(second):
        return None
    shown = [frequency_report.common_images(of[BASE], measured[1][BASE])["rows"] for of in measured]
    sweeps = [{r["image_id"]: [a["distance_mean"] for a in r["sweep"]] for r in of} for of in shown]
    both = [two for name in sweeps[0] for two in zip(*(of[name] for of in sweeps), strict=True)]
    return {
        "same weights": first["weights_digest"] == second["weights_digest"],
        "distances": len(both),
        "equal": sum(a == b for a, b in both),
    }
