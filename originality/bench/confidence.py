"""How often verdicts of different seeds agree, and whether their confidence foresees it (docs/confidence.md).

Reads the benchmark's verdicts of the preset ``fast``: the same images under three seeds, which differ in the
learned words and in the redraws. Their rows hold means and standard errors of distances only, so that a pass
probability is Student's t.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from originality.bench.agreement import RESAMPLES, Verdicts, bootstrap_interval, shared_images, verdicts
from originality.bench.summary import Row, rows_of
from originality.bench.variants import CONFIRMED, FAST, Variant
from originality.evaluation.confidence import PassRule, Sureness, chances, sureness
from originality.evaluation.confidence import scores as scores_of
from originality.evaluation.verdict import Attempt

BINS = (0.0, 0.5, 0.7, 0.9, 1.0)
"""Bounds of the confidence bins. The last bin is the one that a target was set for."""
RULES = {"as the last": None, "never": 0.0, "the next one": 1.0, "one half": 0.5}
"""Rules for the score by which numbers of tokens beyond the first pass pass. The first is in use."""
RESULTS = "confidence.json"
FIGURE = "confidence.png"
TARGETS = {"repeats over 0.9": 0.85, "rank correlation": 0.85, "mean absolute difference": 0.35}


def summarise(folder: Path, variant: Variant = FAST) -> dict[str, Any]:
    """Agreement between the seeds of a variant, with 95 % intervals over images; empty with fewer than two
    seeds that judged the same images."""
    runs = rows_of(folder, variant)
    if len(runs) < 2 or not (images := shared_images(judged := [verdicts(rows) for rows in runs])):
        return {}
    rule = PassRule.of(variant.settings(variant.seeds[0]))
    found = [{row["image_id"]: sureness_of(row, rule) for row in rows} for rows in runs]
    scores = [{image: of[image].score for image in images} for of in found]
    sure = [{image: of[image].confidence for image in images} for of in found]
    return {
        "images": len(images),
        "seeds": len(runs),
        "targets": TARGETS,
        "min tokens": _between(judged, images),
        "score": _between(scores, images),
        "score by the rule for numbers of tokens that were not tried": {
            name: _between([_scored(of, beyond) for of in found], images) for name, beyond in RULES.items()
        },
        "score within the other's interval": _mean_over_pairs(
            lambda one, other, i: found[one][i].low <= scores[other][i] <= found[one][i].high,
            len(runs),
            images,
        ),
        "same min tokens": _mean_over_pairs(
            lambda one, other, i: judged[one][i] == judged[other][i], len(runs), images
        ),
        "by confidence": [
            _bin(judged, sure, images, low, high) for low, high in itertools.pairwise(BINS)
        ],
    }  # fmt: skip


def confirmed(folder: Path) -> dict[str, Any]:
    """The same of verdicts that were confirmed, and what that cost; empty without such runs.

    The cost is a ratio over the images and seeds that were judged with and without.
    """
    found = summarise(folder, CONFIRMED)
    if not found:
        return {}
    spent: dict[str, dict[tuple[int, str], tuple[int, int]]] = {}
    for variant in (FAST, CONFIRMED):
        spent[variant.name] = {
            (place, row["image_id"]): (
                sum(a["redraws"] for a in row["sweep"]),
                sum(a["unet_samples"] for a in row["sweep"]),
            )
            for place, rows in enumerate(rows_of(folder, variant))
            for row in rows
        }
    both = sorted(spent[FAST.name].keys() & spent[CONFIRMED.name].keys())
    without, with_ = (np.array([spent[v.name][key] for key in both]).sum(axis=0) for v in (FAST, CONFIRMED))
    ratios = dict(zip(("redraws", "UNet samples"), (with_ / without).tolist(), strict=True))
    return {**found, "cost, as a multiple": {"verdicts": len(both), **ratios}}


def _scored(found: Mapping[str, Sureness], beyond: float | None) -> dict[str, float]:
    """Scores by image if each number of tokens that was not tried passes with the probability ``beyond``;
    None: with that of the last that was tried."""
    most = FAST.settings(FAST.seeds[0]).max_tokens
    scored = {}
    for image, of in found.items():
        tried = np.array(of.pass_probabilities)
        rest = np.full(most - len(tried), tried[-1] if beyond is None else beyond)
        scored[image] = float(scores_of(chances(np.concatenate([tried, rest]), most)))
    return scored


def sureness_of(row: Row, rule: PassRule) -> Sureness:
    """How sure the verdict of one of the benchmark's rows is."""
    sweep = [Attempt.model_validate(attempt) for attempt in row["sweep"]]
    return sureness(row["image_id"], sweep, rule, row["max_tokens"])


def _between(runs: Sequence[Mapping[str, float]], images: Sequence[str]) -> dict[str, Any]:
    """Rank correlation and mean absolute difference of each pair of seeds, and their means."""
    values = [np.array([run[i] for i in images], float) for run in runs]
    pairs = list(itertools.combinations(values, 2))
    rho = [float(stats.spearmanr(one, other).statistic) for one, other in pairs]
    apart = [np.abs(one - other) for one, other in pairs]
    return {
        "rank correlation": float(np.mean(rho)),
        "rank correlation by pair": rho,
        "mean absolute difference": bootstrap_interval(np.mean(apart, axis=0)),
        "mean absolute difference by pair": [float(of.mean()) for of in apart],
    }


def _mean_over_pairs(
    holds: Callable[[int, int, str], bool], runs: int, images: Sequence[str]
) -> tuple[float, float, float]:
    """Share of ordered pairs of seeds for which something holds, and its interval over images."""
    pairs = list(itertools.permutations(range(runs), 2))
    return bootstrap_interval(np.array([np.mean([holds(a, b, i) for a, b in pairs]) for i in images]))


def _bin(
    judged: Sequence[Verdicts],
    sure: Sequence[Mapping[str, float]],
    images: Sequence[str],
    low: float,
    high: float,
) -> dict[str, Any]:
    """Verdicts of one bin of confidence: how many, how sure in the mean, and how often another seed gives the
    same."""
    confident: list[float] = []
    repeats, counted = np.zeros(len(images)), np.zeros(len(images))
    for run, (place, image) in itertools.product(range(len(judged)), enumerate(images)):
        if low <= sure[run][image] < high or sure[run][image] == high == BINS[-1]:
            others = [other for k, other in enumerate(judged) if k != run]
            confident.append(sure[run][image])
            repeats[place] += np.mean([other[image] == judged[run][image] for other in others])
            counted[place] += 1
    found: dict[str, Any] = {"from": low, "to": high, "verdicts": len(confident)}
    if confident:
        found |= {"mean confidence": float(np.mean(confident)), "repeats": _share(repeats, counted)}
    return found


def _share(repeats: np.ndarray, counted: np.ndarray) -> tuple[float, float, float]:
    """Share of verdicts that repeat and its 95 % bootstrap interval over images, as verdicts on one image
    depend on each other. Arguments: sum and number of each image's verdicts, float64 (n,)."""
    some = counted > 0
    repeats, counted = repeats[some], counted[some]
    chosen = np.random.default_rng(0).integers(len(counted), size=(RESAMPLES, len(counted)))
    low, high = np.percentile(repeats[chosen].sum(1) / counted[chosen].sum(1), (2.5, 97.5))
    return float(low), float(repeats.sum() / counted.sum()), float(high)


def write(folder: Path) -> dict[str, Any]:
    """Write confidence.json and its figure in the benchmark's folder, if there are two seeds to compare."""
    if found := summarise(folder):
        if sure := confirmed(folder):
            found["confirmed"] = sure
        (folder / RESULTS).write_text(json.dumps(found, indent=1) + "\n")
        plot(found, folder / FIGURE)
    return found


def plot(found: Mapping[str, Any], file: Path) -> None:
    """Plot how often verdicts repeat under another seed, by their confidence."""
    import matplotlib.pyplot as plt

    figure, axis = plt.subplots(figsize=(5, 4), layout="constrained")
    axis.plot([0, 1], [0, 1], color="#bbbbbb", linewidth=1)
    for of in found["by confidence"]:
        if of["verdicts"]:
            low, here, high = of["repeats"]
            at = of["mean confidence"]
            axis.errorbar(at, here, yerr=[[here - low], [high - here]], fmt="o", color="#0072b2", capsize=3)
            axis.annotate(
                f"{of['verdicts']} verdicts", (at, low), (0, -12), textcoords="offset points", ha="center"
            )
    axis.set(xlim=(0, 1.1), ylim=(0, 1.02), xlabel="mean confidence of the verdicts in a bin")
    axis.set_ylabel("share that repeats under another seed")
    axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(file, dpi=130)
    plt.close(figure)
