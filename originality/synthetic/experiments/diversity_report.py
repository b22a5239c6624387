"""What is to be said of generalisation against diversity: Figure 3 with the numbers behind it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy import stats

from originality.synthetic.experiments.diversity import CONTROL


def is_control(record: Mapping[str, Any]) -> bool:
    """Whether it is of a model that was trained once more, with an autoencoder of its own."""
    return str(record["name"]).startswith(f"{CONTROL}-")


def elements_of(record: Mapping[str, Any]) -> int:
    """The diversity of a model's set, by the measurement's name: "elements-60-1", "own-60-0"."""
    return int(record["name"].split("-")[1])


def frequencies(record: Mapping[str, Any]) -> dict[str, dict[str, list[float]]]:
    """How often each missing element of a model comes, unprompted and by its own prompt.

    Returns:
        "images": share of the images that show it; "elements": its share of all detected elements (the
        paper's measure, Appendix B.2); each with "empty" and "prompted", a number for each missing element.
    """
    by_prompt = {told["prompt"]: told for told in record["prompts"]}
    wanted = [prompt for prompt in by_prompt if prompt]
    found: dict[str, dict[str, list[float]]] = {"images": {}, "elements": {}}
    for kind in ("empty", "prompted"):
        told = [(name, by_prompt["" if kind == "empty" else name]) for name in wanted]
        found["images"][kind] = [t["shown"][name] / t["images"] for name, t in told]
        found["elements"][kind] = [
            t["elements"].get(name, 0) / max(1, sum(t["elements"].values())) for name, t in told
        ]
    return found


def summarise(records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Means by diversity with 95 % intervals over models, and what else of the quality the detector tells;
    without controls."""
    by_diversity: dict[int, list[Mapping[str, Any]]] = {}
    for record in records:
        if is_control(record):
            continue
        by_diversity.setdefault(elements_of(record), []).append(record)
    return {str(n): _of_one(by_diversity[n]) for n in sorted(by_diversity)}


def _of_one(records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    each = [frequencies(record) for record in records]
    prompts = {
        "empty": [p for record in records for p in record["prompts"] if not p["prompt"]],
        "prompted": [p for record in records for p in record["prompts"] if p["prompt"]],
    }
    told: dict[str, Any] = {
        "models": len(records),
        "images": {kind: sum(p["images"] for p in chosen) for kind, chosen in prompts.items()},
    }
    for measure in ("images", "elements"):
        means = {kind: [float(np.mean(one[measure][kind])) for one in each] for kind in prompts}
        for kind, values in means.items():
            drawn = told["images"][kind]
            told[f"{measure} {kind}"] = {"mean": _rounded(np.mean(values)), "interval": share(values, drawn)}
        gain = np.subtract(means["prompted"], means["empty"]).tolist()
        told[f"{measure} gain"] = {"mean": _rounded(np.mean(gain)), "interval": _rounded_both(mean_of(gain))}
    seen = [relative(record) for record in records]
    told["relative empty"] = {"mean": _rounded(np.mean(seen)), "interval": _rounded_both(mean_of(seen))}
    for kind, chosen in prompts.items():
        sure = sum(sum(p["elements"].values()) for p in chosen)
        unsure = sum(p["unsure"] for p in chosen)
        told[f"well formed {kind}"] = _rounded(sure / max(1, sure + unsure))
        told[f"elements an image {kind}"] = _rounded(sure / max(1, told["images"][kind]))
        told[f"blank {kind}"] = _rounded(sum(p["counts"].get("0", 0) for p in chosen) / told["images"][kind])
    return told


def controls(records: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Each control and the model of the shared autoencoder that it repeats: shares of images that show the
    missing elements, with 95 % intervals over images (Wilson's)."""
    named = {record["name"]: record for record in records}
    told = []
    for record in filter(is_control, records):
        shared = named.get(record["name"].replace(CONTROL, "elements", 1))
        for autoencoder, one in (("shared", shared), ("own", record)):
            if one is None:
                continue
            row: dict[str, Any] = {"elements": elements_of(one), "autoencoder": autoencoder}
            for kind, shares in frequencies(one)["images"].items():
                chosen = [p["images"] for p in one["prompts"] if bool(p["prompt"]) == (kind == "prompted")]
                drawn = sum(chosen) if kind == "prompted" else chosen[0]
                row[kind] = {
                    "mean": _rounded(np.mean(shares)),
                    "interval": wilson(float(np.mean(shares)), drawn),
                }
            told.append(row)
    return told


def relative(record: Mapping[str, Any]) -> float:
    """How often the empty prompt gives a missing element, for each time that it gives one that was shown."""
    told = next(told for told in record["prompts"] if not told["prompt"])
    missing = told["shown"].keys()
    others = sum(count for name, count in told["elements"].items() if name not in missing)
    each = others / (elements_of(record) - len(missing))
    own = sum(told["elements"].get(name, 0) for name in missing) / len(missing)
    return own / each if each else 0.0


def mean_of(values: Sequence[float]) -> tuple[float, float]:
    """95 % interval of a mean over models, by Student's t: with few models it is wide. (nan, nan) of one."""
    n = len(values)
    if n < 2:
        return math.nan, math.nan
    half = float(stats.t.ppf(0.975, n - 1) * np.std(values, ddof=1) / math.sqrt(n))
    return float(np.mean(values)) - half, float(np.mean(values)) + half


def share(values: Sequence[float], drawn: int) -> tuple[float, float]:
    """95 % interval of a mean share over models: Student's, within 0..1, and never narrower than that of so
    many images drawn (Wilson's), as models that all show nothing have still been seen little of."""
    low, high = mean_of(values)
    mean = float(np.mean(values))
    least, most = wilson(mean, drawn)
    bounds = min(least, low if low == low else 0.0), max(most, high if high == high else 1.0)
    return _rounded(max(0.0, bounds[0])), _rounded(min(1.0, bounds[1]))


def wilson(mean: float, drawn: int) -> tuple[float, float]:
    """95 % interval of a share of so many images."""
    found = stats.binomtest(round(mean * drawn), drawn).proportion_ci(method="wilson")
    return _rounded(found.low), _rounded(found.high)


def _rounded(value: Any) -> float:
    return round(float(value), 3)


def _rounded_both(bounds: tuple[float, float]) -> tuple[float, float]:
    return _rounded(bounds[0]), _rounded(bounds[1])
