"""Summary of the benchmark: cost and agreement of all variants, compared on the same images."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from originality.bench.agreement import (
    Verdicts,
    between_group_agreement,
    bootstrap_interval,
    distances,
    mean_absolute_difference,
    mean_difference,
    reevaluation_agreement,
    rho,
    shared_images,
    verdicts,
    within_group_agreement,
)
from originality.bench.variants import (
    FAST,
    GROUPS,
    PAPER,
    REDUCED,
    VARIANTS,
    WITHOUT,
    Variant,
    results_of,
    untouched,
)
from originality.bench.work_done import counts, places
from originality.cost import measured_counts
from originality.cost.flops import Flops, flops
from originality.cost.operations import cost
from originality.experiments.familiarity.report import SHARE
from originality.model.meta_model import architecture_of
from originality.settings.presets import load_settings

Row = dict[str, Any]


def rows_of(folder: Path, variant: Variant) -> list[list[Row]]:
    """Rows of a variant's runs, a list for each seed; only those of the variant's present settings."""
    found = []
    for seed in variant.seeds:
        file, digest = results_of(folder, variant, seed), variant.settings(seed).digest()
        lines = file.read_text().splitlines() if file.exists() else []
        found.append([row for row in map(json.loads, lines) if row["settings_digest"] == digest])
    return [rows for rows in found if rows]


def summarise(folder: Path) -> dict[str, Any]:
    """Summary of all variants that were run, compared on the images that ``paper`` judged.

    What is under "derived" is computed from measurements, and was not itself measured.

    Raises:
        ValueError: the verdicts are of several models.
    """
    model = flops(architecture_of(PAPER.settings(0).model)[0])
    runs = _runs(folder)
    if len({row["model_digest"] for of in runs.values() for own in of for row in own}) > 1:
        raise ValueError(f"{folder} holds verdicts of several models; delete the lines of all but one")
    same = _on_the_images_of_paper(runs)
    judged = {name: [verdicts(rows) for rows in of] for name, of in same.items()}
    summary: dict[str, Any] = {"variants": {}}
    for name, rows in runs.items():
        found = {"says": VARIANTS[name].says, "all images": _over_all_images(VARIANTS[name], rows)}
        if name in same:
            spent = _work_done(VARIANTS[name], same[name], model)
            found["on the images of paper"] = {**spent, **_agreement(name, judged)}
        summary["variants"][name] = found
    for reference in (PAPER, REDUCED):
        if FAST.name in runs and reference.name in runs:
            summary[f"fast against {reference.name}"] = _against_reference(runs, reference, model)
    summary["times"] = _times(folder)
    summary["derived"] = {
        **_image_times(summary),
        **{
            f"{v.name}'s words drawn again": _reevaluation_agreement(runs.get(v.name, ()), v)
            for v in (PAPER, REDUCED)
        },
        "Stable Diffusion v1-4": _sd1_operations(measured_in(folder)),
    }
    return summary


def _runs(folder: Path) -> dict[str, list[list[Row]]]:
    """Rows by variant, for the variants that were run."""
    return {name: rows for name, variant in VARIANTS.items() if (rows := rows_of(folder, variant))}


def _on_the_images_of_paper(runs: Mapping[str, list[list[Row]]]) -> dict[str, list[list[Row]]]:
    """Rows of the images that all runs of ``paper`` judged, by variant; variants without any are left out."""
    images = shared_images([verdicts(rows) for rows in runs.get(PAPER.name, ())])
    found = {}
    for name, of in runs.items():
        own = [[row for row in rows if row["image_id"] in images] for rows in of]
        if any(own):
            found[name] = [rows for rows in own if rows]
    return found


def _over_all_images(variant: Variant, runs: Sequence[Sequence[Row]]) -> dict[str, Any]:
    """Measures of a variant's runs over all images that they judged."""
    settings, rows = variant.settings(variant.seeds[0]), [row for of_seed in runs for row in of_seed]
    filled, judged = places(rows, settings), [verdicts(of_seed) for of_seed in runs]
    found: dict[str, Any] = {
        "images": [len(of_seed) for of_seed in runs],
        "places for one needed": filled.model_dump(),
        "lanes busy": 1 / filled.training,
    }
    if len(judged) > 1 and (images := shared_images(judged)):
        found["agrees with itself"] = bootstrap_interval(within_group_agreement(judged, images))
    return found


def _work_done(variant: Variant, runs: Sequence[Sequence[Row]], model: Flops) -> dict[str, Any]:
    """Mean work that a variant's verdicts needed; padding and speculative work in passes are not counted."""
    settings, rows = variant.settings(variant.seeds[0]), [row for of_seed in runs for row in of_seed]
    counted, attempts = counts(rows, settings), [a for row in rows for a in row["sweep"]]
    return {
        "images": len({row["image_id"] for row in rows}),
        "numbers of tokens": counted.tokens_tried,
        "steps a number of tokens": float(np.mean([a["inversion_steps"] for a in attempts])),
        "standard error of a word's distance": float(
            np.mean([a["distance_sem"] for a in attempts if a["distance_sem"] is not None])
        ),
        "redraws a number of tokens": float(np.mean([a["redraws"] for a in attempts])),
        "UNet samples forward and back": counted.step_samples,
        "UNet samples forward": counted.drawing_samples,
        "UNet TFLOP": cost(counted, model).unet / 1e12,
    }


def _agreement(name: str, judged: Mapping[str, Sequence[Verdicts]]) -> dict[str, Any]:
    """Agreement of a variant's verdicts with those of ``paper``, ``reduced`` and ``fast``."""
    own = judged[name]
    found: dict[str, Any] = {"mean min tokens": _by_group(own)}
    for other in (PAPER.name, REDUCED.name, FAST.name):
        theirs = judged.get(other, ())
        if other == name and len(own) > 1 and (images := shared_images(own)):
            found["agrees with itself"] = bootstrap_interval(within_group_agreement(own, images))
        elif other != name and theirs and (images := shared_images([*own, *theirs])):
            found[f"agrees with {other}"] = bootstrap_interval(between_group_agreement(own, theirs, images))
            found[f"more tokens than {other}"] = bootstrap_interval(mean_difference(own, theirs, images))
    if VARIANTS[name] in WITHOUT and (fast := judged.get(FAST.name)):
        # Both runs have the same noise and, where the part does not affect training, the same words.
        images = shared_images([*own, fast[0]])
        found[UNDER_ITS_SEED] = float(between_group_agreement(own, fast[:1], images).mean())
    found["rho with rarity"] = float(np.mean([rho(run, sorted(run), _rarity(run)) for run in own]))
    return found


UNDER_ITS_SEED = "agrees with fast under the same seed"


def _against_reference(
    runs: Mapping[str, list[list[Row]]], reference: Variant, model: Flops
) -> dict[str, Any]:
    """``fast`` against a reference, on images that all runs of both judged and no setting was chosen on."""
    judged = {v.name: [verdicts(rows) for rows in runs[v.name]] for v in (FAST, reference)}
    theirs, fast = judged[reference.name], judged[FAST.name]
    images = [image for image in shared_images([*theirs, *fast]) if untouched(image)]
    if not images:
        return {}
    spent, tried = {}, {}
    for variant in (reference, FAST):
        settings, own = variant.settings(variant.seeds[0]), [r for rows in runs[variant.name] for r in rows]
        counted = counts([row for row in own if row["image_id"] in images], settings)
        spent[variant.name] = cost(counted, model, places=places(own, settings)).unet
        tried[variant.name] = counted.tokens_tried
    found: dict[str, Any] = {
        "images": len(images),
        f"{reference.name} spends more": spent[reference.name] / spent[FAST.name],
        f"{reference.name} tries more numbers of tokens": tried[reference.name] / tried[FAST.name],
        "agreement": bootstrap_interval(between_group_agreement(fast, theirs, images)),
        "agreement by run": [float(between_group_agreement([run], theirs, images).mean()) for run in fast],
        "rho": {
            name: float(np.mean([rho(run, images, _rarity(images)) for run in of]))
            for name, of in judged.items()
        },
        "more tokens": bootstrap_interval(mean_difference(fast, theirs, images)),
        "more tokens by group": {
            group: bootstrap_interval(mean_difference(fast, theirs, of_group))
            for group in GROUPS
            if (of_group := [i for i in images if _group(i) == group])
        },
    }
    far, fars = ([distances(rows) for rows in runs[v.name]] for v in (FAST, reference))
    drawn = [image for image in shared_images([*far, *fars]) if image in images]
    found["distance at one token"] = {
        "more": bootstrap_interval(mean_difference(far, fars, drawn)),
        "apart": bootstrap_interval(mean_absolute_difference(list(itertools.product(far, fars)), drawn)),
    }
    if len(theirs) > 1:
        reference_differences = mean_absolute_difference(list(itertools.combinations(fars, 2)), drawn)
        found["distance at one token"][f"{reference.name} apart from itself"] = bootstrap_interval(
            reference_differences
        )
        itself = within_group_agreement(theirs, images)
        found[f"{reference.name} with itself"] = bootstrap_interval(itself)
        found[f"agreement less {reference.name}'s own"] = bootstrap_interval(
            between_group_agreement(fast, theirs, images) - itself
        )
    return found


def _reevaluation_agreement(
    runs: Sequence[Sequence[Row]], variant: Variant
) -> tuple[float, float, float] | None:
    """Mean :func:`reevaluation_agreement` of a variant, on motifs that no setting was chosen on."""
    again = [reevaluation_agreement(rows, variant.settings(0).distance.threshold) for rows in runs]
    images = [image for image in shared_images(again) if untouched(image)]
    return (
        bootstrap_interval(np.array([np.mean([of[i] for of in again]) for i in images])) if images else None
    )


def _times(folder: Path) -> dict[str, Any]:
    """Ratios of the times that the timing benchmarks measured, of those that were run: by the clock ("wall")
    and by processor time ("cpu")."""
    found: dict[str, Any] = {}
    taken = {
        name: json.loads(file.read_text())
        for name in ("steps", "paired", "profile")
        if (file := folder / f"{name}.json").exists()
    }
    clocks = ("wall", "cpu")
    if "steps" in taken:
        found["steps"] = [
            {
                "samples": of["samples"],
                **{c: {k: v for k, v in of[c].items() if k != "ms_a_sample"} for c in clocks},
            }
            for of in taken["steps"]
        ]
    if "paired" in taken:
        found[_PAIRED] = {clock: taken["paired"][clock]["paper_over_fast"] for clock in clocks}
    if "profile" in taken:
        found["share of an audit in UNet, VAE and metric"] = taken["profile"]["unet_vae_metric"]
    return found


_PAIRED = "paper over fast, a number of tokens"


def _image_times(summary: Mapping[str, Any]) -> dict[str, Any]:
    """How many times as long ``paper`` takes for an image: the ratio of times for one number of tokens, times
    the ratio of the numbers of tokens that the two try."""
    each, against = summary["times"].get(_PAIRED), summary.get("fast against paper")
    if not each or not against:
        return {}
    more = against["paper tries more numbers of tokens"]
    return {"paper over fast, an image": {clock: ratio * more for clock, ratio in each.items()}}


def measured_in(folder: Path) -> dict[str, measured_counts.Measured]:
    """Measured work of both presets by name: of the verdicts on the images of ``paper``, and the batch slots
    of all passes."""
    runs, found = _runs(folder), {}
    same = _on_the_images_of_paper(runs)
    for variant in (PAPER, FAST):
        if variant.name in same:
            settings = variant.settings(variant.seeds[0])
            rows = [row for own in same[variant.name] for row in own]
            found[variant.name] = measured_counts.Measured(
                counts=counts(rows, settings),
                images=len({row["image_id"] for row in rows}),
                settings=settings,
                places=places([row for own in runs[variant.name] for row in own], settings),
            )
    return found


def _sd1_operations(own: Mapping[str, measured_counts.Measured]) -> dict[str, Any]:
    """Operations an image with Stable Diffusion v1-4, if each preset uses the share of its budget that it
    uses here."""
    found = {}
    for preset, of in own.items():
        settings = load_settings(
            preset, None, {"domain": "houses"}
        )  # no operation count depends on the domain
        model = flops(architecture_of(settings.model)[0])
        found[preset] = str(cost(measured_counts.carried_over(of, settings), model, places=of.places))
    return found


def _by_group(own: Sequence[Verdicts]) -> dict[str, float]:
    return {
        group: float(np.mean([m for run in own for i, m in run.items() if _group(i) == group]))
        for group in GROUPS
        if any(_group(i) == group for run in own for i in run)
    }


def _rarity(images: Sequence[str] | Verdicts) -> dict[str, float]:
    return {i: -SHARE[_group(i)] for i in images}


def _group(image_id: str) -> str:
    return image_id.rpartition(" ")[0]
