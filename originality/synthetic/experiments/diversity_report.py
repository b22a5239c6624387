"""What is to be said of generalisation against diversity: Figure 3 with the numbers behind it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

DRAWS = 4000
"""Bootstrap resamples."""


def elements_of(record: Mapping[str, Any]) -> int:
    """The diversity of a model's set, by the measurement's name: "elements-60-1"."""
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
    """Means by diversity with 95 % intervals over models (each with both of its missing elements), and what
    else of the quality the detector tells."""
    by_diversity: dict[int, list[Mapping[str, Any]]] = {}
    for record in records:
        by_diversity.setdefault(elements_of(record), []).append(record)
    return {str(n): _of_one(by_diversity[n]) for n in sorted(by_diversity)}


def _of_one(records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    each = [frequencies(record) for record in records]
    told: dict[str, Any] = {"models": len(records)}
    for measure in ("images", "elements"):
        for kind in ("empty", "prompted"):
            values = np.array([one[measure][kind] for one in each])
            told[f"{measure} {kind}"] = {"mean": _rounded(values.mean()), "interval": interval(values)}
        gain = np.array([np.subtract(one[measure]["prompted"], one[measure]["empty"]) for one in each])
        told[f"{measure} gain"] = {"mean": _rounded(gain.mean()), "interval": interval(gain)}
    prompts = [told for record in records for told in record["prompts"]]
    for kind, chosen in (
        ("empty", [p for p in prompts if not p["prompt"]]),
        ("prompted", [p for p in prompts if p["prompt"]]),
    ):
        sure = sum(sum(p["elements"].values()) for p in chosen)
        unsure = sum(p["unsure"] for p in chosen)
        told[f"well formed {kind}"] = _rounded(sure / max(1, sure + unsure))
        told[f"elements an image {kind}"] = _rounded(sure / max(1, sum(p["images"] for p in chosen)))
    return told


def interval(values: np.ndarray) -> tuple[float, float]:
    """95 % percentile interval of the mean of (models, missing elements): models are resampled, and within
    each its missing elements."""
    rng = np.random.Generator(np.random.PCG64(0))
    models, missing = values.shape
    of = rng.integers(models, size=(DRAWS, models))
    which = rng.integers(missing, size=(DRAWS, models, missing))
    means = values[of[..., None], which].mean((1, 2))
    low, high = np.percentile(means, [2.5, 97.5])
    return _rounded(low), _rounded(high)


def _rounded(value: float) -> float:
    return round(float(value), 3)
