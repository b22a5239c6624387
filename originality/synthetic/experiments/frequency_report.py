"""What is to be said of originality against frequency: Figures 5 and 6 with the numbers behind them."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy import stats

from originality.synthetic.experiments.pairs import GROUPS
from originality.synthetic.world import elements_of
from originality.verdict import passes

DRAWS = 4000
"""Bootstrap resamples."""

Tokens = Mapping[str, np.ndarray]
"""Min tokens of the images of each group, int64 (models, images)."""


def first_near(sweep: Sequence[Mapping[str, Any]], threshold: float) -> int | None:
    """The first number of tokens whose redraws are under a threshold, whatever the check says."""
    near = (int(a["tokens"]) for a in sweep if passes(a["distance_mean"], threshold, None))
    return next(near, None)


def min_tokens(sweep: Sequence[Mapping[str, Any]], threshold: float) -> int:
    """The first number of tokens that passed at a threshold; one more than the most that was tried where none
    did."""
    for attempt in sweep:
        if passes(attempt["distance_mean"], threshold, attempt["editable"]):
            return int(attempt["tokens"])
    return len(sweep) + 1


def groups_of(record: Mapping[str, Any]) -> tuple[str, ...]:
    """Groups of images that were measured, in the order in which they should need more tokens."""
    return tuple(dict.fromkeys(row["group"] for row in record["rows"]))


def tokens(records: Sequence[Mapping[str, Any]], threshold: float) -> dict[str, np.ndarray]:
    """Min tokens by group of several models that measured the same images."""
    return {
        group: np.array(
            [
                [min_tokens(row["sweep"], threshold) for row in record["rows"] if row["group"] == group]
                for record in records
            ]
        )
        for group in groups_of(records[0])
    }


def resampled(found: Tokens, draws: int = DRAWS) -> dict[str, np.ndarray]:
    """Bootstrap resamples of the images of each group, the same for all models: (draws, models, images). The
    models are those that there are: how much they differ is told by each alone."""
    rng = np.random.Generator(np.random.PCG64(0))
    return {
        group: values[:, rng.integers(values.shape[1], size=(draws, values.shape[1]))].swapaxes(0, 1)
        for group, values in found.items()
    }


def bounds(values: np.ndarray) -> tuple[float, float]:
    """In which 95 % of resamples lie."""
    low, high = np.percentile(values, [2.5, 97.5])
    return round(float(low), 3), round(float(high), 3)


def mean_interval(values: np.ndarray) -> tuple[float, float]:
    """95 % interval of the mean of one group."""
    return bounds(resampled({"": values})[""].mean((1, 2)))


def rho_interval(found: Tokens) -> tuple[float, float]:
    """95 % interval of :func:`rho`."""
    return bounds(_rho({group: of.reshape(DRAWS, -1) for group, of in resampled(found).items()}))


def rho(found: Tokens) -> float:
    """Spearman's rank correlation of the groups' order with min tokens."""
    return float(_rho({group: of.reshape(1, -1) for group, of in found.items()})[0])


def _rho(found: Tokens) -> np.ndarray:
    """One for each row of the groups' (rows, images); 0 where a row's values are all the same."""
    order = np.concatenate([np.full(of.shape[1], k) for k, of in enumerate(found.values())])
    groups, values = stats.rankdata(order), stats.rankdata(np.hstack(list(found.values())), axis=1)
    groups, values = groups - groups.mean(), values - values.mean(1, keepdims=True)
    size = np.sqrt((groups**2).sum() * (values**2).sum(1))
    return np.divide(values @ groups, size, out=np.zeros(len(values)), where=size > 0)


def summarise(records: Sequence[Mapping[str, Any]], threshold: float) -> dict[str, Any]:
    """Of several models of one set: means, shares, differences and rho, with 95 % intervals."""
    found = tokens(records, threshold)
    most = len(records[0]["rows"][0]["sweep"])
    groups = {}
    for group, values in found.items():
        first = [_distance_at_one_token(r) for m in records for r in m["rows"] if r["group"] == group]
        groups[group] = {
            "images": int(values.size),
            "mean": round(float(values.mean()), 3),
            "interval": mean_interval(values),
            "one_token": round(float((values == 1).mean()), 3),
            "never": round(float((values > most).mean()), 3),
            "distance_at_one_token": round(float(np.mean(first)), 3),
            "counts": {str(k): int((values == k).sum()) for k in range(1, most + 2)},
        }
    differences = {
        f"{b} - {a}": _difference(found[a], found[b])
        for a, b in (*itertools.pairwise(found), (next(iter(found)), next(reversed(found))))
    }
    return {
        "threshold": threshold,
        "models": [record["name"] for record in records],
        "max_tokens": most,
        "failed": sum(row["status"] != "judged" for record in records for row in record["rows"]),
        "groups": groups,
        "differences": differences,
        "rho": {"all": round(rho(found), 3), "interval": rho_interval(found)},
        "each": {
            record["name"]: {
                "rho": round(rho({g: v[k : k + 1] for g, v in found.items()}), 3),
                "means": {g: round(float(v[k].mean()), 2) for g, v in found.items()},
            }
            for k, record in enumerate(records)
        },
    }


def _difference(first: np.ndarray, second: np.ndarray) -> dict[str, Any]:
    """How many more tokens one group needs than another.

    Returns:
        "mean"; its "interval"; "p" of a one-sided Mann-Whitney test that it is none, of means over models by
        image, as several models' numbers of one image are no independent draws; and "detectable": the
        difference that four of five such samples would tell from none.
    """
    drawn = resampled({"first": first, "second": second})
    low, high = bounds(drawn["second"].mean((1, 2)) - drawn["first"].mean((1, 2)))
    test = stats.mannwhitneyu(first.mean(0), second.mean(0), alternative="less")
    return {
        "mean": round(float(second.mean() - first.mean()), 3),
        "interval": (low, high),
        "p": round(float(test.pvalue), 4),
        "detectable": round((high - low) / (2 * 1.96) * (1.96 + 0.84), 2),
    }


def described(records: Sequence[Mapping[str, Any]], group: str) -> float:
    """Mean distance of redraws of the images' own captions, of a group."""
    found = [row["described"] for record in records for row in record["rows"] if row["group"] == group]
    return round(float(np.mean(found)), 3)


def places(record: Mapping[str, Any], threshold: float) -> dict[str, dict[str, Any]]:
    """What the check of places says of the words, of whatever number of tokens, that redraw their image.

    Returns:
        By group "words": how many there are; "score": their mean, 1 where elements are placed anew in every
        redraw and 0 where they always stand at the same places (None: there is no such word); "refused": the
        share of them that the check refuses.
    """
    told = {}
    for group in groups_of(record):
        words = [
            attempt
            for row in record["rows"]
            if row["group"] == group
            for attempt in row["sweep"]
            if passes(attempt["distance_mean"], threshold, None) and attempt["editability"] is not None
        ]
        told[group] = {
            "words": len(words),
            "score": round(float(np.mean([word["editability"] for word in words])), 3) if words else None,
            "refused": round(float(np.mean([not word["editable"] for word in words])), 3) if words else None,
        }
    return told


def at_one_token(record: Mapping[str, Any], threshold: float) -> dict[str, dict[str, Any]]:
    """By group: "images"; "one_token", the share that one token redraws; "distance", its mean."""
    told = {}
    for group in groups_of(record):
        rows = [row for row in record["rows"] if row["group"] == group]
        told[group] = {
            "images": len(rows),
            "one_token": round(float(np.mean([min_tokens(r["sweep"][:1], threshold) == 1 for r in rows])), 3),
            "distance": round(float(np.mean([_distance_at_one_token(r) for r in rows])), 3),
        }
    return told


def shared(record: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """A measurement of those images alone that another has too."""
    theirs = {(row["image_id"], row["caption"]) for row in other["rows"]}
    rows = [row for row in record["rows"] if (row["image_id"], row["caption"]) in theirs]
    return {**record, "rows": rows}


def more_than(
    records: Sequence[Mapping[str, Any]], base: Mapping[str, Any], threshold: float
) -> dict[str, Any]:
    """How many more tokens each group needs of some models than by one measurement of the same images, by
    image: means with 95 % intervals over images."""
    ours, theirs = tokens(records, threshold), tokens([base], threshold)
    found = {group: ours[group] - theirs[group] for group in GROUPS}
    return {
        group: {
            "mean": round(float(values.mean()), 2),
            "interval": mean_interval(values),
        }
        for group, values in found.items()
    }


def drivers(records: Sequence[Mapping[str, Any]], threshold: float) -> dict[str, Any]:
    """What the number of tokens goes with, over all images of all models: Spearman's rank correlations.

    Returns:
        "group": with the groups' order; "described": with the distance of redraws of the image's own caption,
        that is with how badly the model draws such an image even when it is told all; "group, described
        alike": the partial correlation of the first, the second held fixed, and the other way about;
        "within": of each group with "described"; "between models": of two models over the same images (mean
        of all twos), of tokens and of one token's distance.
    """
    rows = [
        (
            GROUPS.index(row["group"]),
            row["described"],
            min_tokens(row["sweep"], threshold),
            _distance_at_one_token(row),
        )
        for record in records
        for row in record["rows"]
    ]
    group, described_, needed, first = map(np.array, zip(*rows, strict=True))
    to_group, to_described = _correlation(group, needed), _correlation(described_, needed)
    between = _correlation(group, described_)
    alike = {
        "group, described alike": _partial(to_group, between, to_described),
        "described, group alike": _partial(to_described, between, to_group),
    }
    return {
        "group": to_group,
        "described": to_described,
        **alike,
        "within": {
            name: _correlation(described_[group == k], needed[group == k]) for k, name in enumerate(GROUPS)
        },
        "between models": {
            what: _between(of.reshape(len(records), -1))
            for what, of in (("tokens", needed), ("distance at one token", first))
        },
    }


def of_one_colour(records: Sequence[Mapping[str, Any]], threshold: float) -> dict[str, Any]:
    """How pairs of one colour differ from those of two, by group.

    Returns:
        "images": of one colour, and of two; "tokens", how many more those of one colour need, and "distance",
        how much farther one token's redraws are: means with 95 % intervals over images, models as they are.
    """
    told: dict[str, Any] = {}
    for group in GROUPS:
        rows = [[row for row in record["rows"] if row["group"] == group] for record in records]
        colours = [len({e.colour for e in elements_of(row["caption"])}) for row in rows[0]]
        one = np.array(colours) == 1
        if not 0 < one.sum() < len(one):
            continue
        told[group] = {"images": (int(one.sum()), int((~one).sum()))}
        for name, measure in (
            ("tokens", lambda row: min_tokens(row["sweep"], threshold)),
            ("distance", _distance_at_one_token),
        ):
            values = np.array([[measure(row) for row in of] for of in rows])
            drawn = resampled({"one": values[:, one], "two": values[:, ~one]})
            told[group][name] = {
                "mean": round(float(values[:, one].mean() - values[:, ~one].mean()), 2),
                "interval": bounds(drawn["one"].mean((1, 2)) - drawn["two"].mean((1, 2))),
            }
    return told


def distinct(record: Mapping[str, Any]) -> dict[str, Any]:
    """The same measurement of each picture once, where common pairs always stand at the same places and so
    are told apart by their captions alone."""
    kept, seen = [], set()
    for row in record["rows"]:
        if row["group"] != GROUPS[0] or row["caption"] not in seen:
            kept.append(row)
        seen.add(row["caption"])
    return {**record, "rows": kept}


def by_distance_alone(record: Mapping[str, Any]) -> dict[str, Any]:
    """The same measurement, as if no redraw had been checked."""
    rows = [
        {**row, "sweep": [{**attempt, "editable": None} for attempt in row["sweep"]]}
        for row in record["rows"]
    ]
    return {**record, "rows": rows}


def _distance_at_one_token(row: Mapping[str, Any]) -> float:
    """1, as of images that share nothing, where there is none."""
    distance = row["sweep"][0]["distance_mean"] if row["sweep"] else None
    return 1.0 if distance is None or np.isnan(distance) else float(distance)


def _between(values: np.ndarray) -> float | None:
    """Mean rank correlation of every two rows."""
    found = [_correlation(a, b) for a, b in itertools.combinations(values, 2)]
    return round(float(np.mean(found)), 3) if found else None


def _correlation(first: np.ndarray, second: np.ndarray) -> float:
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        return 0.0
    return round(float(stats.spearmanr(first, second).statistic), 3)


def _partial(of: float, other: float, others_own: float) -> float:
    """A partial correlation from the three plain ones."""
    room = (1 - other**2) * (1 - others_own**2)
    return round((of - other * others_own) / room**0.5, 3) if room > 0 else 0.0
