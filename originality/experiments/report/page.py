"""The page of the experiments (docs/paper.md) and its figures, from the records that were kept.

A folder of results has a folder for each experiment: ``trainings.jsonl``, ``measures.jsonl``, and the
pictures of each measurement under its name.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2

from originality.experiments.conditions import CONTENT
from originality.experiments.report import (
    conditions_report,
    diversity_report,
    figures,
    frequency_report,
    grids,
)
from originality.experiments.report.conditions_report import STRICTER, trained_once
from originality.experiments.scales import SCALES
from originality.experiments.tasks.measure_pairs import GROUPS
from originality.experiments.tasks.plans import ElementsPlan, ModelPlan
from originality.settings.parts import THRESHOLDS

EXPERIMENTS = tuple(SCALES["laptop"])

THRESHOLD = THRESHOLDS["elements"]
"""Of the distance."""

OTHER_THRESHOLDS = (0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.5)


def records(folder: Path, name: str) -> list[dict[str, Any]]:
    """Lines of a file of results, none where it is not there."""
    file = folder / f"{name}.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def write(results: Path, page: Path) -> str:
    """Writes the page, and beside it, in a folder of its name, the figures; what it says as text.

    Raises:
        FileNotFoundError: there are no results.
    """
    if not any(records(results / name, "measures") for name in EXPERIMENTS):
        raise FileNotFoundError(f"{results} holds no results of an experiment; give the folder of --keep")
    place = page.with_suffix("")
    place.mkdir(parents=True, exist_ok=True)
    told: dict[str, Any] = {"figures": place.name, "threshold": THRESHOLD}
    told["frequency"] = _frequency(results / "frequency", place)
    told["fixed"] = _fixed(results / "frequency", place)
    told.update(_conditions(results, place))
    told["content"] = _content(results / "conditions", place)
    told["diversity"] = _diversity(results / "diversity", place)
    told["stricter"] = STRICTER
    told["controls"] = diversity_report.controls(records(results / "diversity", "measures"))
    trainings = _first_of_each({name: records(results / name, "trainings") for name in EXPERIMENTS})
    told["trainings"] = {name: list(map(_training, of)) for name, of in trainings.items()}
    told["minutes"] = {
        name: _minutes_by_device(of, records(results / name, "measures")) for name, of in trainings.items()
    }
    told["missing"] = _missing(results)
    told["notes"] = {name: _notes(results / name) for name in EXPERIMENTS}
    (place / "summary.json").write_text(json.dumps(told, indent=1) + "\n")
    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    environment = jinja2.Environment(
        loader=loader, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True, autoescape=False
    )
    environment.filters["percent"] = lambda share: f"{100 * share:.0f} %"
    environment.filters["between"] = lambda bounds: (
        "(one model)" if bounds is None else f"[{bounds[0]:.2f}, {bounds[1]:.2f}]"
    )
    environment.filters["difference"] = _difference
    text = environment.get_template("page.md.j2").render(told)
    page.write_text(text)
    return text


def _difference(told: Mapping[str, Any]) -> str:
    """A difference with its interval, bold where it is above zero."""
    low, high = told["interval"]
    text = f"{told['mean']:+.2f} [{low:.2f}, {high:.2f}]"
    return f"**{text}**" if low > 0 else text


def _missing(results: Path) -> list[str]:
    """Of what no results are kept at laptop scale: experiments, and measurements of those not whole."""
    told = []
    for name, experiment in SCALES["laptop"].items():
        wanted = experiment.measures({plan.name: plan.name for plan in experiment.plans()})
        there = {record["name"] for record in records(results / name, "measures")}
        lacking = [measure.name for measure in wanted if measure.name not in there]
        if lacking:
            told.append(f"{name} ({', '.join(lacking)})" if there else name)
    return told


def _notes(folder: Path) -> str:
    """What a person says of an experiment's results: its notes.md, which is kept with them."""
    file = folder / "notes.md"
    return file.read_text().strip() if file.exists() else ""


def _minutes(of: Sequence[Mapping[str, Any]]) -> int:
    """That all of them took."""
    return round(sum(record["seconds"] for record in of) / 60)


def _device(record: Mapping[str, Any]) -> str:
    """Those records that do not name it are of a CPU."""
    return str(record.get("device", "CPU"))


def _minutes_by_device(
    trainings: Sequence[Mapping[str, Any]], measures: Sequence[Mapping[str, Any]]
) -> dict[str, dict[str, int]]:
    """Those of trainings and of measurements, of whoever finished them."""
    return {
        device: {
            "trainings": _minutes([record for record in trainings if _device(record) == device]),
            "measures": _minutes([record for record in measures if _device(record) == device]),
        }
        for device in sorted({_device(record) for record in (*trainings, *measures)})
    }


def _first_of_each(
    trainings: Mapping[str, Sequence[Mapping[str, Any]]],
) -> dict[str, list[Mapping[str, Any]]]:
    """By experiment, the models that it trained: without those that it took over from one before."""
    seen: set[tuple[str, float]] = set()
    told = {}
    for name, of in trainings.items():
        told[name] = [record for record in of if trained_once(record) not in seen]
        seen |= set(map(trained_once, of))
    return told


def _training(record: Mapping[str, Any]) -> dict[str, Any]:
    plan = ModelPlan.model_validate(record["plan"])
    recipe = plan.recipe
    return {
        "name": record["name"],
        "seed": recipe.seed,
        "images": recipe.denoiser.images,
        "channels": recipe.denoiser.channels,
        "batch_size": recipe.denoiser.batch_size,
        "learning_rate": recipe.denoiser.learning_rate,
        "samples": sum(recipe.denoiser.steps) * recipe.denoiser.batch_size,
        "side": recipe.side,
        "text": recipe.text.pretrained or f"CLIP {recipe.text.layers} x {recipe.text.width}",
        "autoencoder": plan.autoencoder,
        "snr_offset": recipe.denoiser.snr_offset,
        "template_share": recipe.denoiser.template_share,
        "generic_caption": recipe.denoiser.generic_caption,
        "device": _device(record),
        "minutes": _minutes([record]),
        "loss": next(reversed(record["losses"].values()))[-1],
        "digest": record["weights_digest"],
    }


def _frequency(folder: Path, place: Path) -> dict[str, Any] | None:
    """Figures 5 and 6."""
    measured = [r for r in records(folder, "measures") if r["name"].startswith("pairs-")]
    if not measured:
        return None
    summary = frequency_report.summarise(measured, THRESHOLD)
    figures.min_tokens(summary, place / "min-tokens.png")
    grids.reconstructions(folder / measured[0]["name"], place / "reconstructions.png")
    summary["thresholds"] = {str(t): frequency_report.summarise(measured, t) for t in OTHER_THRESHOLDS}
    summary["described"] = frequency_report.described(measured)
    both = (STRICTER, THRESHOLD)
    summary["drivers"] = {str(t): frequency_report.drivers(measured, t) for t in both}
    summary["agreement"] = {str(t): frequency_report.agreement(measured, t) for t in OTHER_THRESHOLDS}
    summary["colours"] = {str(t): frequency_report.by_colours(measured, t) for t in both}
    summary["by_pair"] = {str(t): frequency_report.by_pair(measured, t) for t in OTHER_THRESHOLDS}
    two = frequency_report.of_colours(measured, 2)
    summary["by_pair, two colours"] = {str(t): frequency_report.by_pair(two, t) for t in OTHER_THRESHOLDS}
    settings = measured[0]["settings"]
    summary["settings"] = {part: settings[part] for part in ("inversion", "redraw")}
    return summary


def _fixed(folder: Path, place: Path) -> dict[str, Any] | None:
    """Figure 11: redraws of common pairs that always stood at the same places."""
    measured = {r["name"]: r for r in records(folder, "measures")}
    if "fixed-location" not in measured:
        return None
    grids.first_near(measured["fixed-location"], folder, THRESHOLD, place / "fixed-location.png")
    once = frequency_report.distinct(measured["fixed-location"])
    common = [row for row in measured["fixed-location"]["rows"] if row["group"] == GROUPS[0]]
    return {
        "images": len(common),
        "pictures": sum(row["group"] == GROUPS[0] for row in once["rows"]),
        "near at one token": sum(frequency_report.first_near(r["sweep"], THRESHOLD) == 1 for r in common),
        "by distance alone": frequency_report.summarise(
            [frequency_report.by_distance_alone(once)], THRESHOLD
        ),
        "described": frequency_report.described([measured["fixed-location"]]),
        "places": {
            name: frequency_report.places(measured[name], THRESHOLD)
            for name in measured
            if name == "fixed-location" or name.startswith("pairs-")
        },
    }


def _conditions(results: Path, place: Path) -> dict[str, Any]:
    """What the grid tells."""
    measured, of_frequency = (records(results / name, "measures") for name in ("conditions", "frequency"))
    trained, before = (records(results / name, "trainings") for name in ("conditions", "frequency"))
    rows = conditions_report.rows(measured, of_frequency, THRESHOLD)
    if rows:
        figures.conditions(list(rows.items()), place / "conditions.png")
    return {
        "conditions": rows or None,
        "detectable": conditions_report.detectable(rows),
        "one_token": conditions_report.one_token(measured, THRESHOLD),
        "again": conditions_report.asked_again(measured, THRESHOLD),
        "repeat": conditions_report.repeat(before, of_frequency, trained, measured),
    }


def _content(folder: Path, place: Path) -> dict[str, Any] | None:
    """Images of one element to four, by the same model."""
    measured = [r for r in records(folder, "measures") if r["name"] == CONTENT]
    if not measured:
        return None
    summary = frequency_report.summarise(measured, THRESHOLD)
    figures.min_tokens(summary, place / "content.png")
    return {**summary, "described": frequency_report.described(measured)}


def _diversity(folder: Path, place: Path) -> dict[str, Any] | None:
    """Figures 3, 12 and 13."""
    whole = records(folder, "measures")
    measured = [record for record in whole if not diversity_report.asks_for_shown(record)]
    firsts = [r for r in sorted(measured, key=diversity_report.diversity_of) if r["name"].endswith("-0")]
    usual = [record for record in firsts if not diversity_report.is_control(record)]
    if not usual:
        return None
    summary = diversity_report.summarise(whole)
    figures.diversity(summary, place / "diversity.png")
    plans = {r["name"]: ModelPlan.model_validate(r["plan"]) for r in records(folder, "trainings")}
    shares = [
        (
            f"{diversity_report.diversity_of(record)} elements",
            diversity_report.shares_by_element(record, plans[record["name"]]),
        )
        for record in (usual[0], usual[-1])
    ]
    figures.elements(shares, place / "elements.png")
    grids.samples(folder, firsts, place / "samples.png")
    came = grids.strips(folder, usual, place / "missing-elements.png")
    how = measured[0]["measure"]
    return {
        "by elements": summary,
        "any came": came,
        "images": how["images"],
        "guidance": how["redraw"]["guidance_scale"],
        "max_elements": max(
            p.images.max_elements for p in plans.values() if isinstance(p.images, ElementsPlan)
        ),
    }
