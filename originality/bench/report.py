"""What the runs say, as JSON, a table and a picture."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

from originality import measured
from originality.architecture import architecture_of
from originality.bench.agreement import (
    Verdicts,
    among,
    apart,
    between,
    distances,
    drawn_again,
    interval,
    rho,
    shared,
    shift,
    verdicts,
)
from originality.bench.runs import FAST, GROUPS, PAPER, REDUCED, VARIANTS, Variant, results_of
from originality.bench.spent import counts, places
from originality.costs import Counts, Places, cost
from originality.flops import Flops, flops
from originality.presets import load_settings
from originality.synthetic.effect_report import SHARE

matplotlib.use("Agg")

Row = dict[str, Any]


def rows_of(folder: Path, variant: Variant) -> list[list[Row]]:
    """Of each seed that was run, those of the variant's present settings."""
    found = []
    for seed in variant.seeds:
        file, digest = results_of(folder, variant, seed), variant.settings(seed).digest()
        lines = file.read_text().splitlines() if file.exists() else []
        found.append([row for row in map(json.loads, lines) if row["settings_digest"] == digest])
    return [rows for rows in found if rows]


def summarise(folder: Path) -> dict[str, Any]:
    """All variants that were run, beside ``paper`` on the images that it judged: each on the same ones."""
    model = flops(architecture_of(PAPER.settings(0).model)[0])
    runs = {name: rows for name, variant in VARIANTS.items() if (rows := rows_of(folder, variant))}
    said = {name: [verdicts(rows) for rows in of] for name, of in runs.items()}
    common = shared(said.get(PAPER.name, ()))
    summary: dict[str, Any] = {
        "variants": {
            name: {
                "says": VARIANTS[name].says,
                **_spent(VARIANTS[name], runs[name], common, model),
                **_agreement(name, said),
            }
            for name in runs
        }
    }
    for reference in (PAPER, REDUCED):
        if FAST.name in said and reference.name in said:
            summary[f"fast against {reference.name}"] = _against(runs, said, reference, model)
    summary["times"] = _times(folder, summary)
    summary["Stable Diffusion v1-4"] = _carried(summary["variants"])
    return summary


def _spent(
    variant: Variant, runs: Sequence[Sequence[Row]], common: Sequence[str], model: Flops
) -> dict[str, Any]:
    """Counts of all images, and of those that ``paper`` judged, by which variants are compared."""
    settings, rows = variant.settings(variant.seeds[0]), [row for of_seed in runs for row in of_seed]
    filled = places(rows, settings)
    found: dict[str, Any] = {
        "images": [len(of_seed) for of_seed in runs],
        "counts": counts(rows, settings).model_dump(),
        "places for one needed": filled.model_dump(),
        "lanes busy": 1 / filled.training,
    }
    if same := [row for row in rows if row["image_id"] in common]:
        counted, attempts = counts(same, settings), [a for row in same for a in row["sweep"]]
        found["on the images of paper"] = {
            "images": len({row["image_id"] for row in same}),
            "numbers of tokens": counted.tokens_tried,
            "steps a number of tokens": float(np.mean([a["inversion_steps"] for a in attempts])),
            "redraws a number of tokens": float(np.mean([a["redraws"] for a in attempts])),
            "UNet samples forward and back": counted.step_samples,
            "UNet samples forward": counted.drawing_samples,
            "UNet TFLOP": cost(counted, model).unet / 1e12,
        }
    return found


def _agreement(name: str, said: Mapping[str, Sequence[Verdicts]]) -> dict[str, Any]:
    own = said[name]
    found: dict[str, Any] = {"mean min tokens": _by_group(own)}
    if len(own) > 1 and (images := shared(own)):
        found["agrees with itself"] = interval(among(own, images))
    for other in (PAPER.name, REDUCED.name, FAST.name):
        theirs = said.get(other, ())
        if theirs and name != other and (images := shared([*own, *theirs])):
            found[f"agrees with {other}"] = interval(between(own, theirs, images))
            found[f"more tokens than {other}"] = interval(shift(own, theirs, images))
            found[f"images with {other}"] = len(images)
    found["rho with rarity"] = float(np.mean([rho(run, sorted(run), _rarity(run)) for run in own]))
    return found


def _against(
    runs: Mapping[str, list[list[Row]]],
    said: Mapping[str, Sequence[Verdicts]],
    reference: Variant,
    model: Flops,
) -> dict[str, Any]:
    """The preset's promise, on the images that all runs of both judged."""
    theirs, fast = said[reference.name], said[FAST.name]
    images = shared([*theirs, *fast])
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
        "agreement": interval(between(fast, theirs, images)),
        "rho": {
            name: float(np.mean([rho(run, images, _rarity(images)) for run in of]))
            for name, of in ((FAST.name, fast), (reference.name, theirs))
        },
        "more tokens by group": {
            group: interval(shift(fast, theirs, of_group))
            for group in GROUPS
            if (of_group := [i for i in images if _group(i) == group])
        },
    }
    threshold = reference.settings(0).distance.threshold
    again = [drawn_again(rows, threshold) for rows in runs[reference.name]]
    found[f"{reference.name}'s words drawn again"] = interval(
        np.array([np.mean([of[i] for of in again]) for i in images])
    )
    far, fars = ([distances(rows) for rows in runs[v.name]] for v in (FAST, reference))
    drawn = shared([*far, *fars])
    found["distance at one token"] = {
        "more": interval(shift(far, fars, drawn)),
        "apart": interval(apart(list(itertools.product(far, fars)), drawn)),
    }
    if len(theirs) > 1:
        between_its_own = apart(list(itertools.combinations(fars, 2)), drawn)
        found["distance at one token"][f"{reference.name} apart from itself"] = interval(between_its_own)
        itself = among(theirs, images)
        found[f"{reference.name} with itself"] = interval(itself)
        found[f"agreement less {reference.name}'s own"] = interval(between(fast, theirs, images) - itself)
    return found


def _times(folder: Path, summary: Mapping[str, Any]) -> dict[str, Any]:
    """Ratios of times that the other parts of the benchmark took, where they were."""
    found: dict[str, Any] = {}
    taken = {
        name: json.loads(file.read_text())
        for name in ("steps", "paired", "profile")
        if (file := folder / f"{name}.json").exists()
    }
    if "steps" in taken:
        found["steps"] = [
            {"samples": of["samples"], **{k: v for k, v in of["cpu"].items() if k != "ms_a_sample"}}
            for of in taken["steps"]
        ]
    if "paired" in taken:
        each = taken["paired"]["cpu"]["paper_over_fast"]
        found["paper over fast, a number of tokens"] = each
        if against := summary.get("fast against paper"):
            found["paper over fast, an image"] = each * against["paper tries more numbers of tokens"]
    if "profile" in taken:
        found["share of an audit in UNet, VAE and metric"] = taken["profile"]["unet_vae_metric"]
    return found


def _carried(variants: Mapping[str, Any]) -> dict[str, Any]:
    """Operations an image of Stable Diffusion v1-4, where each preset spends its share of its budget here."""
    found: dict[str, Any] = {}
    for variant in (PAPER, FAST):
        if variant.name in variants:
            settings, own = load_settings(variant.name), _measured(variant, variants[variant.name])
            model = flops(architecture_of(settings.model)[0])
            found[variant.name] = str(cost(measured.carried(own, settings), model, places=own.places))
    return found


def _measured(variant: Variant, of: Mapping[str, Any]) -> measured.Measured:
    return measured.Measured(
        counts=Counts.model_validate(of["counts"]),
        images=sum(of["images"]),
        settings=variant.settings(variant.seeds[0]),
        places=Places.model_validate(of["places for one needed"]),
    )


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


def table(summary: dict[str, Any]) -> str:
    """The variants on the images that ``paper`` judged, in Markdown."""
    lines = [
        "| variant | runs x images | numbers of tokens tried | steps each | redraws each "
        "| UNet samples forward and back | forward alone | UNet TFLOP "
        "| same min tokens as paper | as reduced | as fast |",
        "|---" * 11 + "|",
    ]
    for name, of in summary["variants"].items():
        if (own := of.get("on the images of paper")) is None:
            continue
        cells = [
            f"{name}: {of['says']}",
            f"{len(of['images'])} x {own['images']}",
            f"{own['numbers of tokens']:.2f}",
            f"{own['steps a number of tokens']:.0f}",
            f"{own['redraws a number of tokens']:.1f}",
            f"{own['UNet samples forward and back']:,.0f}",
            f"{own['UNet samples forward']:,.0f}",
            f"{own['UNet TFLOP']:.3g}",
            *(_share(of.get("agrees with " + ("itself" if name == o else o))) for o in _REFERENCES),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


_REFERENCES = (PAPER.name, REDUCED.name, FAST.name)


def _share(found: Sequence[float] | None) -> str:
    return "" if found is None else f"{found[1]:.0%} [{found[0]:.0%}, {found[2]:.0%}]"


def plot(summary: dict[str, Any], file: Path) -> None:
    """What each variant spends on an image, and how often it says what ``paper`` says."""
    import matplotlib.pyplot as plt

    compared = {name: "agrees with itself" if name == "paper" else "agrees with paper" for name in VARIANTS}
    shown = {name: of for name, of in summary["variants"].items() if compared[name] in of}
    names = list(shown)
    figure, (left, right) = plt.subplots(
        1, 2, figsize=(9, 0.5 * len(names) + 1.5), sharey=True, layout="constrained"
    )
    spent = [of["on the images of paper"]["UNet TFLOP"] for of in shown.values()]
    bars = left.barh(names, spent, color="#0072b2")
    left.bar_label(bars, [f" {value:.3g}" for value in spent])
    left.set_xscale("log")
    left.set_xlim(min(spent) / 2, max(spent) * 3)
    left.set_xlabel("UNet TFLOP an image (log)")
    for name, of in shown.items():
        low, here, high = of[compared[name]]
        right.errorbar(here, name, xerr=[[here - low], [high - here]], fmt="o", color="#d55e00", capsize=3)
    right.set_xlim(0, 1)
    right.set_xlabel("images with the same min tokens as paper\n(paper: with its other seed)")
    left.invert_yaxis()
    for axis in (left, right):
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(file, dpi=130)
    plt.close(figure)


def write(folder: Path, shipped: Path = measured.SHIPPED) -> str:
    """summary.json and cost.png of the runs in a folder, counts.json of the package; the table."""
    summary = summarise(folder)
    (folder / "summary.json").write_text(json.dumps(summary, indent=1) + "\n")
    plot(summary, folder / "cost.png")
    found = {
        preset: _measured(variant, summary["variants"][variant.name])
        for preset, variant in (("paper-shapes", PAPER), ("fast-shapes", FAST))
        if variant.name in summary["variants"]
    }
    measured.write(found, shipped)
    return table(summary)
