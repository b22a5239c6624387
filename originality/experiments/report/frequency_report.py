"""Statistics of originality against frequency: Figures 5 and 6, and the numbers behind them."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from originality.evaluation.verdict import passes
from originality.experiments.statistics import (
    adjacent_pairs,
    average_by_kind,
    contrast,
    correlations,
    differences,
    differences_from_first,
    mean_interval,
    rank_correlation,
    rho,
    rho_interval,
)
from originality.experiments.tasks.measure_pairs import GROUPS
from originality.shapes.elements import elements_of


def first_near(sweep: Sequence[Mapping[str, Any]], threshold: float) -> int | None:
    """The first number of tokens whose redraws are under a threshold, with or without a passed check."""
    near = (int(a["tokens"]) for a in sweep if passes(a["distance_mean"], threshold, None))
    return next(near, None)


def min_tokens(sweep: Sequence[Mapping[str, Any]], threshold: float) -> int:
    """The first number of tokens that passes at a threshold; one more than the largest tried if none does."""
    for attempt in sweep:
        if passes(attempt["distance_mean"], threshold, attempt["editable"]):
            return int(attempt["tokens"])
    return len(sweep) + 1


def groups_of(record: Mapping[str, Any]) -> tuple[str, ...]:
    """Groups of the measured images, in the order in which they are expected to need more tokens."""
    return tuple(dict.fromkeys(row["group"] for row in record["rows"]))


def tokens(records: Sequence[Mapping[str, Any]], threshold: float) -> dict[str, np.ndarray]:
    """Min tokens by group, of several models measured on the same images."""
    return by_group(records, lambda row: min_tokens(row["sweep"], threshold))


def _first_distances(records: Sequence[Mapping[str, Any]]) -> dict[str, np.ndarray]:
    return by_group(records, _distance_at_one_token)


def by_group(
    records: Sequence[Mapping[str, Any]], value: Callable[[Mapping[str, Any]], float]
) -> dict[str, np.ndarray]:
    """A value of each row, (models, images) for each group."""
    return {
        group: np.array(
            [[value(row) for row in record["rows"] if row["group"] == group] for record in records]
        )
        for group in groups_of(records[0])
    }


def summarise(records: Sequence[Mapping[str, Any]], threshold: float) -> dict[str, Any]:
    """Means, shares, differences and rho of several models of one image set, with 95 % intervals."""
    found = tokens(records, threshold)
    most = len(records[0]["rows"][0]["sweep"])
    first, groups = _first_distances(records), {}
    for group, values in found.items():
        low, high = mean_interval(values)
        groups[group] = {
            "images": int(values.size),
            "mean": round(float(values.mean()), 3),
            "interval": (max(1.0, low), min(most + 1.0, high)),
            "one_token": round(float((values == 1).mean()), 3),
            "never": round(float((values > most).mean()), 3),
            "distance_at_one_token": round(float(first[group].mean()), 3),
            "counts": {str(k): int((values == k).sum()) for k in range(1, most + 2)},
        }
    return {
        "threshold": threshold,
        "models": [record["name"] for record in records],
        "max_tokens": most,
        "failed": sum(row["status"] != "judged" for record in records for row in record["rows"]),
        "groups": groups,
        "differences": differences(found),
        "rho": {"all": round(rho(found), 3), "interval": rho_interval(found)},
        "each": {
            record["name"]: {
                "rho": round(rho({g: v[k : k + 1] for g, v in found.items()}), 3),
                "means": {g: round(float(v[k].mean()), 2) for g, v in found.items()},
            }
            for k, record in enumerate(records)
        },
    }


def described(records: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Mean distance of redraws of the images' own captions, by group."""
    found = by_group(records, lambda row: row["described"])
    return {group: round(float(values.mean()), 3) for group, values in found.items()}


def places(record: Mapping[str, Any], threshold: float) -> dict[str, dict[str, Any]]:
    """Results of the position check for pseudo-words, of any number of tokens, that redraw their image.

    Returns:
        By group: "words", their number; "score", their mean score, 1 where elements are placed anew in every
        redraw and 0 where they always stand at the same places (None if there is no such word); "refused",
        the share that the check refuses.
    """
    result = {}
    for group in groups_of(record):
        words = [
            attempt
            for row in record["rows"]
            if row["group"] == group
            for attempt in row["sweep"]
            if passes(attempt["distance_mean"], threshold, None) and attempt["editability"] is not None
        ]
        result[group] = {
            "words": len(words),
            "score": round(float(np.mean([word["editability"] for word in words])), 3) if words else None,
            "refused": round(float(np.mean([not word["editable"] for word in words])), 3) if words else None,
        }
    return result


def at_one_token(record: Mapping[str, Any], threshold: float) -> dict[str, dict[str, Any]]:
    """By group: "images", their number; "one_token", how many of them one token redraws; "distance", the
    mean distance at one token."""
    needed = by_group([record], lambda row: min_tokens(row["sweep"][:1], threshold))
    return {
        group: {
            "images": needed[group].size,
            "one_token": int((needed[group] == 1).sum()),
            "distance": round(float(first.mean()), 3),
        }
        for group, first in _first_distances([record]).items()
    }


def common_images(record: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """A measurement restricted to the images that another one has too."""
    theirs = {(row["image_id"], row["caption"]) for row in other["rows"]}
    rows = [row for row in record["rows"] if (row["image_id"], row["caption"]) in theirs]
    return {**record, "rows": rows}


def best_distances(records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The smallest distance over all numbers of tokens, which depends on no threshold.

    Returns:
        "means" by group, and "differences" from the first group, with 95 % intervals.
    """
    found = by_group(records, _best_distance)
    means = {group: round(float(values.mean()), 3) for group, values in found.items()}
    return {"means": means, "differences": differences_from_first(found)}


def more_than(
    records: Sequence[Mapping[str, Any]], base: Mapping[str, Any], threshold: float
) -> dict[str, Any]:
    """How many more tokens each image needs than in a base measurement of the same images.

    Returns:
        "groups", the mean increase of each group, and "differences" of these from the first group, which
        say whether a condition changes the effect; with 95 % intervals over images.
    """
    ours, theirs = tokens(records, threshold), tokens([base], threshold)
    found = {group: ours[group] - theirs[group] for group in GROUPS}
    return {
        "groups": {
            group: {"mean": round(float(values.mean()), 2), "interval": mean_interval(values)}
            for group, values in found.items()
        },
        "differences": differences_from_first(found),
    }


def drivers(records: Sequence[Mapping[str, Any]], threshold: float) -> dict[str, Any]:
    """What the number of tokens correlates with, over all images and models.

    Returns:
        Spearman's rank correlations with 95 % bootstrap intervals over images: "group", with the groups'
        order; "described", with the distance of redraws of the image's own caption, that is with how badly
        the model draws such an image from a full description; "group, described alike", the partial
        correlation of the first with the second held fixed, and "described, group alike" the reverse.
    """
    found = correlations(tokens(records, threshold), by_group(records, lambda row: row["described"]))
    return {name.replace("other", "described"): value for name, value in found.items()}


def agreement(records: Sequence[Mapping[str, Any]], threshold: float) -> dict[str, float | None]:
    """Rank correlation of "tokens" and of "distance at one token" between measurements of the same images.

    The mean over all pairs of measurements; None where there is only one.
    """
    measured = {"tokens": tokens(records, threshold), "distance at one token": _first_distances(records)}
    result: dict[str, float | None] = {}
    for name, found in measured.items():
        pairs = itertools.combinations(np.hstack(list(found.values())), 2)
        each = [float(rank_correlation(a[None], b[None])[0]) for a, b in pairs]
        result[name] = round(float(np.mean(each)), 3) if each else None
    return result


def by_colours(records: Sequence[Mapping[str, Any]], threshold: float) -> dict[str, dict[str, Any]]:
    """:func:`summarise` separately for pairs of "one colour" and of "two colours".

    Each only where every group has two such images or more; where both exist, also "two - one": how much
    larger the differences of groups are for two colours.
    """
    result: dict[str, dict[str, Any]] = {}
    found = {}
    for name, count in (("one colour", 1), ("two colours", 2)):
        chosen = of_colours(records, count)
        sizes = Counter(row["group"] for row in chosen[0]["rows"])
        if all(sizes[group] > 1 for group in groups_of(records[0])):
            result[name] = summarise(chosen, threshold)
            found[name] = tokens(chosen, threshold)
    if len(found) == 2:
        one, two = found.values()
        result["two - one"] = {
            f"{b} - {a}": contrast((two[a], -1), (two[b], 1), (one[a], 1), (one[b], -1))
            for a, b in adjacent_pairs(one)
        }
    return result


def of_colours(records: Sequence[Mapping[str, Any]], count: int) -> list[dict[str, Any]]:
    """The measurements restricted to pairs of this many different colours."""
    return [
        {**record, "rows": [row for row in record["rows"] if _colours(row) == count]} for record in records
    ]


def _colours(row: Mapping[str, Any]) -> int:
    return len({element.colour for element in elements_of(row["caption"])})


def by_pair(records: Sequence[Mapping[str, Any]], threshold: float) -> dict[str, Any]:
    """Differences of groups where each pair of colours counts once, with the mean of its images.

    Images of one pair are not independent: they differ in places alone, which the distance ignores.

    Returns:
        "pairs", their number by group, and "differences".
    """
    rows = records[0]["rows"]
    kinds = {g: [r["caption"] for r in rows if r["group"] == g] for g in groups_of(records[0])}
    return {
        "pairs": {group: len(set(of)) for group, of in kinds.items()},
        "differences": differences(average_by_kind(tokens(records, threshold), kinds)),
    }


def distinct(record: Mapping[str, Any]) -> dict[str, Any]:
    """The measurement with each picture once, for a set whose common pairs always stand at the same places.

    Two such images with the same caption are the same picture.
    """
    kept, seen = [], set()
    for row in record["rows"]:
        if row["group"] != GROUPS[0] or row["caption"] not in seen:
            kept.append(row)
        seen.add(row["caption"])
    return {**record, "rows": kept}


def by_distance_alone(record: Mapping[str, Any]) -> dict[str, Any]:
    """The measurement without the in-distribution check."""
    rows = [
        {**row, "sweep": [{**attempt, "editable": None} for attempt in row["sweep"]]}
        for row in record["rows"]
    ]
    return {**record, "rows": rows}


def _distance_at_one_token(row: Mapping[str, Any]) -> float:
    """The distance at one token; 1, as of images that share nothing, where it is missing."""
    distance = row["sweep"][0]["distance_mean"] if row["sweep"] else None
    return 1.0 if distance is None or np.isnan(distance) else float(distance)


def _best_distance(row: Mapping[str, Any]) -> float:
    """The smallest distance of the sweep; 1, as of images that share nothing, where there is none."""
    distances = [a["distance_mean"] for a in row["sweep"] if a["distance_mean"] is not None]
    return min((d for d in distances if not math.isnan(d)), default=1.0)
