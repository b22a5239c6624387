"""Statistics of generalisation against diversity: Figure 3, and the numbers behind it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy import stats

from originality.experiments.diversity import CONTROL, SHOWN
from originality.experiments.tasks.plans import ElementsPlan, ModelPlan


def is_control(record: Mapping[str, Any]) -> bool:
    """Whether the record is of a control: a model trained with a separate autoencoder."""
    return str(record["name"]).startswith(f"{CONTROL}-")


def asks_for_shown(record: Mapping[str, Any]) -> bool:
    """Whether the record is of prompts for elements that the training set shows, not for missing ones."""
    return str(record["name"]).endswith(f"-{SHOWN}")


def diversity_of(record: Mapping[str, Any]) -> int:
    """The number of elements in a model's set, from the measurement's name: "elements-60-1", "own-60-0"."""
    return int(record["name"].split("-")[1])


def frequencies(record: Mapping[str, Any]) -> dict[str, dict[str, list[float]]]:
    """How often a model draws each missing element, with the empty prompt and with the element's own.

    Returns:
        "images": share of the images that show it; "elements": its share of all detected elements (the
        paper's measure, Appendix B.2); each with "empty" and "prompted", a number for each missing element.
    """
    by_prompt = {prompt["prompt"]: prompt for prompt in record["prompts"]}
    wanted = [name for name in by_prompt if name]
    found: dict[str, dict[str, list[float]]] = {"images": {}, "elements": {}}
    for kind in ("empty", "prompted"):
        chosen = [(name, by_prompt["" if kind == "empty" else name]) for name in wanted]
        found["images"][kind] = [t["shown"][name] / t["images"] for name, t in chosen]
        found["elements"][kind] = [
            t["elements"].get(name, 0) / max(1, sum(t["elements"].values())) for name, t in chosen
        ]
    return found


def shares_by_element(record: Mapping[str, Any], plan: ModelPlan) -> dict[str, Any]:
    """How often a model draws each element of its set (the side panels of Figure 3).

    Returns:
        "missing", the names of the missing elements; "empty" and "prompted", each with shares of all detected
        elements: "shown", of the elements in the training set (prompted: the mean over the prompts) and
        "missing", of the missing ones (prompted: each by its own prompt); and "detected", how many elements
        were detected.
    """
    assert isinstance(plan.images, ElementsPlan)
    missing = list(record["measure"]["wanted"])
    shown = [str(e) for e in plan.images.shown]

    def shares(prompt: Mapping[str, Any], names: Sequence[str]) -> np.ndarray:
        drawn = max(1, sum(prompt["elements"].values()))
        return np.array([prompt["elements"].get(name, 0) / drawn for name in names])

    def detected(of: Sequence[Mapping[str, Any]]) -> int:
        return sum(sum(prompt["elements"].values()) for prompt in of)

    by_prompt = {prompt["prompt"]: prompt for prompt in record["prompts"]}
    chosen = [by_prompt[name] for name in missing]
    return {
        "missing": missing,
        "empty": {
            "shown": shares(by_prompt[""], shown).tolist(),
            "missing": shares(by_prompt[""], missing).tolist(),
            "detected": detected([by_prompt[""]]),
        },
        "prompted": {
            "shown": np.mean([shares(prompt, shown) for prompt in chosen], axis=0).tolist(),
            "missing": [
                float(shares(prompt, [name])[0]) for prompt, name in zip(chosen, missing, strict=True)
            ],
            "detected": detected(chosen),
        },
    }


def summarise(records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Means by number of elements with 95 % intervals over models, and the detector's measures of quality.

    "shown prompted" is about elements that the training set shows, everything else about missing ones.
    Controls are left out.
    """
    missing: dict[int, list[Mapping[str, Any]]] = {}
    shown: dict[int, list[Mapping[str, Any]]] = {}
    for record in records:
        if not is_control(record):
            of = shown if asks_for_shown(record) else missing
            of.setdefault(diversity_of(record), []).append(record)
    summary = {str(n): _of_one(missing[n]) for n in sorted(missing)}
    for n, of_shown in shown.items():
        if n not in missing:  # the run was stopped before these models were measured
            continue
        means = [float(np.mean(frequencies(record)["images"]["prompted"])) for record in of_shown]
        drawn = sum(p["images"] for record in of_shown for p in record["prompts"] if p["prompt"])
        summary[str(n)]["shown prompted"] = {
            "mean": _rounded(np.mean(means)),
            "interval": share(means, drawn),
        }
    return summary


def _of_one(records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    each = [frequencies(record) for record in records]
    prompts = {
        "empty": [p for record in records for p in record["prompts"] if not p["prompt"]],
        "prompted": [p for record in records for p in record["prompts"] if p["prompt"]],
    }
    summary: dict[str, Any] = {
        "models": len(records),
        "images": {kind: sum(p["images"] for p in chosen) for kind, chosen in prompts.items()},
    }
    sure = {kind: sum(sum(p["elements"].values()) for p in chosen) for kind, chosen in prompts.items()}
    for measure, seen_of in (("images", summary["images"]), ("elements", sure)):
        means = {kind: [float(np.mean(one[measure][kind])) for one in each] for kind in prompts}
        for kind, values in means.items():
            of = {"mean": _rounded(np.mean(values)), "interval": share(values, seen_of[kind])}
            summary[f"{measure} {kind}"] = of
        gain = np.subtract(means["prompted"], means["empty"]).tolist()
        summary[f"{measure} gain"] = {
            "mean": _rounded(np.mean(gain)),
            "interval": _within(mean_of(gain), -1.0),
        }
    seen = [relative(record) for record in records]
    summary["relative empty"] = {
        "mean": _rounded(np.mean(seen)),
        "interval": _within(mean_of(seen), 0.0, math.inf),
    }
    for kind, chosen in prompts.items():
        unsure = sum(p["unsure"] for p in chosen)
        summary[f"well formed {kind}"] = _rounded(sure[kind] / max(1, sure[kind] + unsure))
        summary[f"elements an image {kind}"] = _rounded(sure[kind] / max(1, summary["images"][kind]))
        scores = [
            (p["confidence"][name], made_out)
            for p in chosen
            for name, made_out in p["made out"].items()
            if made_out and p["prompt"] in ("", name)
        ]
        weights = sum(made_out for _, made_out in scores)
        summary[f"score of missing {kind}"] = (
            _rounded(sum(score * made_out for score, made_out in scores) / weights) if weights else None
        )
        without = sum(p["counts"].get("0", 0) for p in chosen)
        summary[f"none sure {kind}"] = _rounded(without / summary["images"][kind])
    return summary


def controls(records: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Each control beside the model with the shared autoencoder that it repeats.

    Shares of images that show the missing elements, with 95 % intervals over images (Wilson's).
    """
    named = {record["name"]: record for record in records}
    rows = []
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
            rows.append(row)
    return rows


def relative(record: Mapping[str, Any]) -> float:
    """How often the empty prompt draws a missing element, relative to an element that training shows."""
    empty = next(empty for empty in record["prompts"] if not empty["prompt"])
    missing = empty["shown"].keys()
    others = sum(count for name, count in empty["elements"].items() if name not in missing)
    each = others / (diversity_of(record) - len(missing))
    own = sum(empty["elements"].get(name, 0) for name in missing) / len(missing)
    return own / each if each else 0.0


def mean_of(values: Sequence[float]) -> tuple[float, float] | None:
    """95 % interval of a mean over models, by Student's t, which is wide for few models; None for one."""
    n = len(values)
    if n < 2:
        return None
    half = float(stats.t.ppf(0.975, n - 1) * np.std(values, ddof=1) / math.sqrt(n))
    return float(np.mean(values)) - half, float(np.mean(values)) + half


def share(values: Sequence[float], seen: int) -> tuple[float, float]:
    """95 % interval of a mean share over models.

    Args:
        seen: number of images or elements that the share is of, over all models.

    Returns:
        Student's interval, within 0..1 (all of 0..1 for one model), and never narrower than Wilson's for
        ``seen`` draws.
    """
    # Student's interval has no width where all models show nothing, however few images were drawn; Wilson's
    # keeps it as wide as the number of draws allows.
    low, high = mean_of(values) or (0.0, 1.0)
    least, most = wilson(float(np.mean(values)), seen)
    return _rounded(max(0.0, min(least, low))), _rounded(min(1.0, max(most, high)))


def wilson(mean: float, seen: int) -> tuple[float, float]:
    """95 % interval of a share of ``seen`` draws, by Wilson's method; 0..1 for no draws."""
    if not seen:
        return 0.0, 1.0
    found = stats.binomtest(round(mean * seen), seen).proportion_ci(method="wilson")
    return _rounded(found.low), _rounded(found.high)


def _rounded(value: Any) -> float:
    return round(float(value), 3)


def _within(bounds: tuple[float, float] | None, low: float, high: float = 1.0) -> tuple[float, float] | None:
    """An interval clipped to the possible values; None stays None."""
    return bounds and (_rounded(max(low, bounds[0])), _rounded(min(high, bounds[1])))
