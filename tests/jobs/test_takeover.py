"""Reuse of an earlier experiment's results, from its runs and from folders written by --keep."""

from __future__ import annotations

import json
from itertools import chain
from pathlib import Path
from typing import Any

import pytest

from cluster.run.folder import RunFolder, RunMismatch
from jobs.experimenting.kept import check_room, judged, keep
from jobs.experimenting.plan_runs import id_of, plan_items
from jobs.experimenting.takeover import Earlier, check_made_alike, take_over
from jobs.experimenting.two_runs import measures, trainings, wanted_of
from originality.contract.config import SettingsError
from originality.experiments.conditions import BASE
from originality.experiments.scales import SCALES
from tests.support.places import ROOT

RESULTS = ROOT / "docs" / "paper" / "results"
PLANS = {name: {"model": name} for name in ("a", "b")}
MEASURES = {f"{name}-{k}": {"of": name, "measure": k} for name in PLANS for k in range(2)}
WANTED = {
    id_of(plan): [id_of(measure) for measure in MEASURES.values() if measure["of"] == name]
    for name, plan in PLANS.items()
}
IDS = [id_of(measure) for measure in MEASURES.values()]


def runs(out: Path, detector: str = "d") -> tuple[RunFolder, RunFolder]:
    """The two runs: of trainings and of measurements."""
    identity = {"models": list(PLANS), "autoencoder": "x"}
    models = plan_items(str(out / "train"), PLANS, {"job": "train", **identity})
    measures = {"job": "measure", "items": MEASURES, "detector": detector}
    return models, plan_items(str(out / "measure"), MEASURES, measures)


def did(run: RunFolder, document: dict[str, Any], weights: str, **files: bytes) -> None:
    record = {"name": "-".join(str(v) for v in document.values()), "status": "judged", "weights": weights}
    run.ledger.commit(id_of(document), record, {k.replace("_", "."): v for k, v in files.items()})


def trained(run: RunFolder, name: str, weights: str) -> None:
    record = {"name": name, "status": "judged", "weights": weights}
    run.ledger.commit(id_of(PLANS[name]), record, {"model/unet": weights.encode()})


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    """An experiment that has finished."""
    models, run = runs(tmp_path / "whole")
    for name in PLANS:
        trained(models, name, f"old {name}")
    for document in MEASURES.values():
        did(run, document, f"old {document['of']}", drawn_webp=b"picture")
    keep(tmp_path / "kept", models, run)
    return tmp_path / "whole"


def weights(run: RunFolder) -> dict[str, str]:
    return {record["name"]: record["weights"] for record in judged(run)}


def test_stored_results_are_reused_completely_and_stored_again(tmp_path: Path, whole: Path) -> None:
    models, run = runs(tmp_path / "new")
    take_over(models, run, WANTED, [Earlier.at(str(tmp_path / "kept"))])
    assert weights(models) == {"a": "old a", "b": "old b"} and len(weights(run)) == 4
    assert not list((tmp_path / "new" / "train").glob("images/*/*"))  # no model, and no pictures in its place
    keep(tmp_path / "again", models, run)
    files = [f.relative_to(tmp_path / "kept") for f in (tmp_path / "kept").rglob("*") if f.is_file()]
    assert len(files) == 3 + 4
    for path in files:
        assert (tmp_path / "again" / path).read_bytes() == (tmp_path / "kept" / path).read_bytes()


@pytest.mark.parametrize("at", ["kept", "second-hand"])
def test_a_missing_model_is_trained_again_if_measurements_are_missing(
    tmp_path: Path, whole: Path, at: str
) -> None:
    """None of its measurements is reused then, as they belong to different weights."""
    take_over(*runs(tmp_path / "second-hand"), WANTED, [Earlier.at(str(tmp_path / "kept"))])
    a, b = WANTED
    more = {a: WANTED[a], b: [*WANTED[b], "another"]}
    models, run = runs(tmp_path / "new")
    take_over(models, run, more, [Earlier.at(str(tmp_path / at))])
    assert weights(models) == {"a": "old a"}
    assert set(weights(run)) == {"a-0", "a-1"}


def test_an_existing_model_is_reused_with_its_measurements(tmp_path: Path, whole: Path) -> None:
    a, b = WANTED
    models, run = runs(tmp_path / "new")
    take_over(models, run, {a: [*WANTED[a], "another"], b: WANTED[b]}, [Earlier.at(str(whole))])
    assert set(weights(models)) == {"a", "b"} and len(weights(run)) == 4
    (file,) = (tmp_path / "new" / "train" / "images" / a).glob("*/model/*")
    assert file.read_bytes() == b"old a"


def test_measurements_belong_to_the_weights_of_their_model(tmp_path: Path, whole: Path) -> None:
    """The first place that has a model gives all its results; a model trained here keeps its own."""
    models, run = runs(tmp_path / "other")
    trained(models, "a", "other a")
    models, run = runs(tmp_path / "new")
    trained(models, "b", "own b")
    take_over(models, run, WANTED, [Earlier.at(str(tmp_path / "other")), Earlier.at(str(whole))])
    assert weights(models) == {"a": "other a", "b": "own b"} and not weights(run)


def test_nothing_is_reused_from_a_run_with_a_different_identity(tmp_path: Path, whole: Path) -> None:
    models, run = runs(tmp_path / "new", detector="another")
    with pytest.raises(RunMismatch, match=r"detector: 'd' there, 'another' here"):
        take_over(models, run, WANTED, [Earlier.at(str(tmp_path / "kept"))])
    assert not weights(models)


def test_results_that_cannot_be_reused_are_named(tmp_path: Path, whole: Path) -> None:
    with pytest.raises(SettingsError, match="--keep"):
        Earlier.at(str(tmp_path))
    (tmp_path / "kept" / "made-with.json").unlink()
    with pytest.raises(SettingsError, match=r"made-with\.json.* --before"):
        Earlier.at(str(tmp_path / "kept"))


def test_damaged_lines_are_named(tmp_path: Path, whole: Path) -> None:
    for part in ("measures", "trainings"):
        file = tmp_path / "kept" / f"{part}.jsonl"
        file.write_text(file.read_text()[:-20])
        with pytest.raises(SettingsError, match=rf"{part}\.jsonl is damaged"):
            Earlier.at(str(tmp_path / "kept"))
        with pytest.raises(SettingsError, match=rf"{part}\.jsonl is damaged"):
            check_room(tmp_path / "kept", WANTED, IDS)


def test_an_incomplete_run_does_not_overwrite_complete_results(tmp_path: Path, whole: Path) -> None:
    models, run = runs(tmp_path / "new")
    for name in PLANS:
        trained(models, name, f"new {name}")
    first, *others = MEASURES.values()
    did(run, first, "new a")
    before = {file: file.read_bytes() for file in (tmp_path / "kept").rglob("*") if file.is_file()}
    assert keep(tmp_path / "kept", models, run) == ["a-1", "b-0", "b-1"]
    assert {file: file.read_bytes() for file in (tmp_path / "kept").rglob("*") if file.is_file()} == before
    for document in others:
        did(run, document, "new")
    assert keep(tmp_path / "kept", models, run) == []
    assert "new b" in (tmp_path / "kept" / "trainings.jsonl").read_text()


def test_pictures_of_an_earlier_run_are_removed(tmp_path: Path, whole: Path) -> None:
    models, run = runs(whole)
    stale = tmp_path / "kept" / "a-0" / "stale.webp"
    stale.write_bytes(b"of before")
    keep(tmp_path / "kept", models, run)
    assert not stale.exists() and (tmp_path / "kept" / "a-0" / "drawn.webp").exists()
    check_room(tmp_path / "kept", WANTED, IDS)
    check_room(tmp_path / "nowhere", [], [])
    with pytest.raises(SettingsError, match=r"trainings .*: b; .* --keep"):
        check_room(tmp_path / "kept", list(WANTED)[:1], IDS)
    with pytest.raises(SettingsError, match=r"measures .*: b-0, b-1; .* --keep"):
        check_room(tmp_path / "kept", WANTED, IDS[:2])
    lines = (tmp_path / "kept" / "trainings.jsonl").read_text().splitlines()
    assert [json.loads(line)["name"] for line in lines] == ["a", "b"]  # as it was


@pytest.mark.parametrize("experiment", sorted(folder.name for folder in RESULTS.iterdir()))
def test_committed_results_can_be_reused(experiment: str, tmp_path: Path) -> None:
    folder = RESULTS / experiment
    output = SCALES["laptop"][experiment]
    ids, wanted = {plan.name: id_of(plan.document()) for plan in output.plans()}, wanted_of(output)
    check_room(folder, ids.values(), chain.from_iterable(wanted.values()))
    earlier = Earlier.at(str(folder))
    check_made_alike(trainings(str(tmp_path / "train"), output.plans()), earlier.trainings)
    assert earlier.measures is not None
    check_made_alike(measures(str(tmp_path / "measure"), output), earlier.measures)
    kept = {json.loads(line)["name"] for line in (folder / "measures.jsonl").read_text().splitlines()}
    for plan in output.plans():
        if plan.name in kept and (experiment, plan.name) != ("conditions", BASE):
            assert earlier.has(ids[plan.name], wanted[ids[plan.name]]), plan.name
    assert kept
