"""Write the page of the experiments (docs/paper.md) and its figures from the stored records.

The results folder has a folder for each experiment: ``trainings.jsonl``, ``measures.jsonl``, and the pictures
of each measurement in a folder of its name.
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
from originality.experiments.report.conditions_report import STRICTER, training_key
from originality.experiments.scales import SCALES
from originality.experiments.tasks.measure_pairs import GROUPS
from originality.experiments.tasks.plans import ElementsPlan, ModelPlan
from originality.settings.parts import THRESHOLDS

EXPERIMENTS = tuple(SCALES["laptop"])

THRESHOLD = THRESHOLDS["elements"]
"""Threshold of the distance, as in the presets."""

OTHER_THRESHOLDS = (0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.5)


def records(folder: Path, name: str) -> list[dict[str, Any]]:
    """Records in a results file; an empty list if the file does not exist."""
    file = folder / f"{name}.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def write(results: Path, page: Path) -> str:
    """Write the page, and its figures in a folder of the page's name beside it.

    Returns:
        The page's text.

    Raises:
        FileNotFoundError: the folder has no results.
    """
    if not any(records(results / name, "measures") for name in EXPERIMENTS):
        raise FileNotFoundError(f"no experiment results in {results}; give the folder that --keep named")
    place = page.with_suffix("")
    place.mkdir(parents=True, exist_ok=True)
    values: dict[str, Any] = {"figures": place.name, "threshold": THRESHOLD}
    values["frequency"] = _frequency(results / "frequency", place)
    values["fixed"] = _fixed(results / "frequency", place)
    values.update(_conditions(results, place))
    values["content"] = _content(results / "conditions", place)
    values["diversity"] = _diversity(results / "diversity", place)
    values["stricter"] = STRICTER
    values["controls"] = diversity_report.controls(records(results / "diversity", "measures"))
    trainings = _first_of_each({name: records(results / name, "trainings") for name in EXPERIMENTS})
    values["trainings"] = {name: list(map(_training, of)) for name, of in trainings.items()}
    values["minutes"] = {
        name: _minutes_by_device(of, records(results / name, "measures")) for name, of in trainings.items()
    }
    values["missing"] = _missing(results)
    values["notes"] = {name: _notes(results / name) for name in EXPERIMENTS}
    (place / "summary.json").write_text(json.dumps(values, indent=1) + "\n")
    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    environment = jinja2.Environment(
        loader=loader, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True, autoescape=False
    )
    environment.filters["percent"] = lambda share: f"{100 * share:.0f} %"
    environment.filters["between"] = lambda bounds: (
        "(one model)" if bounds is None else f"[{bounds[0]:.2f}, {bounds[1]:.2f}]"
    )
    environment.filters["difference"] = _difference
    text = environment.get_template("page.md.j2").render(values)
    page.write_text(text)
    return text


def _difference(found: Mapping[str, Any]) -> str:
    """A difference with its interval, in bold where the interval is above zero."""
    low, high = found["interval"]
    text = f"{found['mean']:+.2f} [{low:.2f}, {high:.2f}]"
    return f"**{text}**" if low > 0 else text


def _missing(results: Path) -> list[str]:
    """Experiments without results at laptop scale, and missing measurements of incomplete ones."""
    missing = []
    for name, experiment in SCALES["laptop"].items():
        wanted = experiment.measures({plan.name: plan.name for plan in experiment.plans()})
        there = {record["name"] for record in records(results / name, "measures")}
        lacking = [measure.name for measure in wanted if measure.name not in there]
        if lacking:
            missing.append(f"{name} ({', '.join(lacking)})" if there else name)
    return missing


def _notes(folder: Path) -> str:
    """The hand-written discussion of an experiment's results: notes.md in its folder."""
    file = folder / "notes.md"
    return file.read_text().strip() if file.exists() else ""


def _minutes(of: Sequence[Mapping[str, Any]]) -> int:
    """Minutes that all these records took."""
    return round(sum(record["seconds"] for record in of) / 60)


def _device(record: Mapping[str, Any]) -> str:
    """Device of a record. Records from before devices were recorded name none: those were on a CPU."""
    return str(record.get("device", "CPU"))


def _minutes_by_device(
    trainings: Sequence[Mapping[str, Any]], measures: Sequence[Mapping[str, Any]]
) -> dict[str, dict[str, int]]:
    """Minutes of training and of measuring, by device."""
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
    """The models that each experiment trained itself, without those it took over from an earlier one."""
    seen: set[tuple[str, float]] = set()
    first = {}
    for name, of in trainings.items():
        first[name] = [record for record in of if training_key(record) not in seen]
        seen |= set(map(training_key, of))
    return first


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
    """Figure 11: redraws of common pairs that always stand at the same places."""
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
    """The grid of conditions."""
    measured, of_frequency = (records(results / name, "measures") for name in ("conditions", "frequency"))
    trained, before = (records(results / name, "trainings") for name in ("conditions", "frequency"))
    rows = conditions_report.rows(measured, of_frequency, THRESHOLD)
    if rows:
        figures.conditions(list(rows.items()), place / "conditions.png")
    return {
        "conditions": rows or None,
        "detectable": conditions_report.detectable(rows),
        "one_token": conditions_report.one_token(measured, THRESHOLD),
        "again": conditions_report.repeat_agreement(measured, THRESHOLD),
        "repeat": conditions_report.repeated_training(before, of_frequency, trained, measured),
    }


def _content(folder: Path, place: Path) -> dict[str, Any] | None:
    """Images of one to four elements, redrawn by the same model."""
    measured = [r for r in records(folder, "measures") if r["name"] == CONTENT]
    if not measured:
        return None
    summary = frequency_report.summarise(measured, THRESHOLD)
    figures.min_tokens(summary, place / "content.png")
    return {**summary, "described": frequency_report.described(measured)}


def _diversity(folder: Path, place: Path) -> dict[str, Any] | None:
    """Figures 3, 12 and 13."""
    everything = records(folder, "measures")
    measured = [record for record in everything if not diversity_report.asks_for_shown(record)]
    firsts = [r for r in sorted(measured, key=diversity_report.diversity_of) if r["name"].endswith("-0")]
    usual = [record for record in firsts if not diversity_report.is_control(record)]
    if not usual:
        return None
    summary = diversity_report.summarise(everything)
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
