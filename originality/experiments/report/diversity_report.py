"""What is to be said of generalisation against diversity: Figure 3 with the numbers behind it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy import stats

from originality.experiments.diversity import CONTROL, SHOWN
from originality.experiments.tasks.plans import ElementsPlan, ModelPlan


def is_control(record: Mapping[str, Any]) -> bool:
    """Whether it is of a model that was trained once more, with an autoencoder of its own."""
    return str(record["name"]).startswith(f"{CONTROL}-")


def asks_for_shown(record: Mapping[str, Any]) -> bool:
    """Whether it is of elements that training shows, and not of missing ones."""
    return str(record["name"]).endswith(f"-{SHOWN}")


def diversity_of(record: Mapping[str, Any]) -> int:
    """The number of elements of a model's set, by the measurement's name: "elements-60-1", "own-60-0"."""
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


def shares_by_element(record: Mapping[str, Any], plan: ModelPlan) -> dict[str, Any]:
    """How often a model draws each element of its set (Figure 3, sides).

    Returns:
        "missing": their names; "empty" and "prompted", each with "shown", shares of all detected elements of
        those that training shows, "missing", of the missing ones, where prompted each by its own prompt (and
        "shown" a mean over these prompts), and "detected", how many elements there are.
    """
    assert isinstance(plan.images, ElementsPlan)
    missing = list(record["measure"]["wanted"])
    shown = [str(e) for e in plan.images.shown]

    def shares(told: Mapping[str, Any], names: Sequence[str]) -> np.ndarray:
        drawn = max(1, sum(told["elements"].values()))
        return np.array([told["elements"].get(name, 0) / drawn for name in names])

    def detected(of: Sequence[Mapping[str, Any]]) -> int:
        return sum(sum(told["elements"].values()) for told in of)

    by_prompt = {told["prompt"]: told for told in record["prompts"]}
    asked = [by_prompt[name] for name in missing]
    return {
        "missing": missing,
        "empty": {
            "shown": shares(by_prompt[""], shown).tolist(),
            "missing": shares(by_prompt[""], missing).tolist(),
            "detected": detected([by_prompt[""]]),
        },
        "prompted": {
            "shown": np.mean([shares(told, shown) for told in asked], axis=0).tolist(),
            "missing": [float(shares(told, [name])[0]) for told, name in zip(asked, missing, strict=True)],
            "detected": detected(asked),
        },
    }


def summarise(records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Means by diversity with 95 % intervals over models, and what else of the quality the detector tells;
    "shown prompted" is of elements that training shows, all else of missing ones. Without controls."""
    missing: dict[int, list[Mapping[str, Any]]] = {}
    shown: dict[int, list[Mapping[str, Any]]] = {}
    for record in records:
        if not is_control(record):
            of = shown if asks_for_shown(record) else missing
            of.setdefault(diversity_of(record), []).append(record)
    told = {str(n): _of_one(missing[n]) for n in sorted(missing)}
    for n, of_shown in shown.items():
        if n not in missing:  # of a run that was stopped
            continue
        means = [float(np.mean(frequencies(record)["images"]["prompted"])) for record in of_shown]
        drawn = sum(p["images"] for record in of_shown for p in record["prompts"] if p["prompt"])
        told[str(n)]["shown prompted"] = {"mean": _rounded(np.mean(means)), "interval": share(means, drawn)}
    return told


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
    sure = {kind: sum(sum(p["elements"].values()) for p in chosen) for kind, chosen in prompts.items()}
    for measure, seen_of in (("images", told["images"]), ("elements", sure)):
        means = {kind: [float(np.mean(one[measure][kind])) for one in each] for kind in prompts}
        for kind, values in means.items():
            of = {"mean": _rounded(np.mean(values)), "interval": share(values, seen_of[kind])}
            told[f"{measure} {kind}"] = of
        gain = np.subtract(means["prompted"], means["empty"]).tolist()
        told[f"{measure} gain"] = {"mean": _rounded(np.mean(gain)), "interval": _within(mean_of(gain), -1.0)}
    seen = [relative(record) for record in records]
    told["relative empty"] = {
        "mean": _rounded(np.mean(seen)),
        "interval": _within(mean_of(seen), 0.0, math.inf),
    }
    for kind, chosen in prompts.items():
        unsure = sum(p["unsure"] for p in chosen)
        told[f"well formed {kind}"] = _rounded(sure[kind] / max(1, sure[kind] + unsure))
        told[f"elements an image {kind}"] = _rounded(sure[kind] / max(1, told["images"][kind]))
        scores = [
            (p["confidence"][name], made_out)
            for p in chosen
            for name, made_out in p["made out"].items()
            if made_out and p["prompt"] in ("", name)
        ]
        weights = sum(made_out for _, made_out in scores)
        told[f"score of missing {kind}"] = (
            _rounded(sum(score * made_out for score, made_out in scores) / weights) if weights else None
        )
        without = sum(p["counts"].get("0", 0) for p in chosen)
        told[f"none sure {kind}"] = _rounded(without / told["images"][kind])
    return told


def controls(records: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Each control and the model of the shared autoencoder that it repeats: shares of images that show the
    missing elements, with 95 % intervals over images (Wilson's)."""
    named = {record["name"]: record for record in records}
    told = []
    for record in records:
        if not is_control(record) or asks_for_shown(record):
            continue
        shared = named.get(record["name"].replace(CONTROL, "elements", 1))
        for autoencoder, one in (("shared", shared), ("own", record)):
            if one is None:
                continue
            row: dict[str, Any] = {"elements": diversity_of(one), "autoencoder": autoencoder}
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
    each = others / (diversity_of(record) - len(missing))
    own = sum(told["elements"].get(name, 0) for name in missing) / len(missing)
    return own / each if each else 0.0


def mean_of(values: Sequence[float]) -> tuple[float, float] | None:
    """95 % interval of a mean over models, by Student's t: with few models it is wide. None of one."""
    n = len(values)
    if n < 2:
        return None
    half = float(stats.t.ppf(0.975, n - 1) * np.std(values, ddof=1) / math.sqrt(n))
    return float(np.mean(values)) - half, float(np.mean(values)) + half


def share(values: Sequence[float], seen: int) -> tuple[float, float]:
    """95 % interval of a mean share over models: Student's, within 0..1 (all of it of one model), and never
    narrower than that of so many images or elements (Wilson's), as models that all show nothing have still
    been seen little of."""
    low, high = mean_of(values) or (0.0, 1.0)
    least, most = wilson(float(np.mean(values)), seen)
    return _rounded(max(0.0, min(least, low))), _rounded(min(1.0, max(most, high)))


def wilson(mean: float, seen: int) -> tuple[float, float]:
    """95 % interval of a share of so many; 0..1 of none."""
    if not seen:
        return 0.0, 1.0
    found = stats.binomtest(round(mean * seen), seen).proportion_ci(method="wilson")
    return _rounded(found.low), _rounded(found.high)


def _rounded(value: Any) -> float:
    return round(float(value), 3)


def _within(bounds: tuple[float, float] | None, low: float, high: float = 1.0) -> tuple[float, float] | None:
    """An interval as far as it is possible."""
    return bounds and (_rounded(max(low, bounds[0])), _rounded(min(high, bounds[1])))
