"""Agreement between seeds and the calibration of confidence, on verdicts with known answers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from originality.bench import confidence, variants
from originality.evaluation.confidence import PassRule
from tests.support.places import ROOT

SURE, UNSURE = (0.1, 0.01), (0.29, 0.05)
"""Mean distance and its standard error; the threshold is 0.3."""


def row(seed: int, image_id: str, attempts: list[tuple[float, float]]) -> dict:
    sweep = [
        {
            "tokens": m,
            "distance_mean": mean,
            "distance_sem": sem,
            "redraws": 20,
            "editability": 1.0,
            "editable": True,
            "passed": mean < 0.3,
            "inversion_steps": 1,
            "unet_samples": 1,
            "seconds": 1.0,
        }
        for m, (mean, sem) in enumerate(attempts, 1)
    ]
    passed = [a["tokens"] for a in sweep if a["passed"]]
    return {
        "image_id": image_id,
        "status": "judged",
        "min_tokens": passed[0] if passed else None,
        "max_tokens": 5,
        "sweep": sweep,
        "settings_digest": variants.FAST.settings(seed).digest(),
        "model_digest": "shapes",
    }


def write(folder: Path, seed: int, found: dict[str, list[tuple[float, float]]]) -> None:
    rows = [row(seed, image, attempts) for image, attempts in found.items()]
    file = variants.results_of(folder, variants.FAST, seed)
    file.write_text("".join(json.dumps(of) + "\n" for of in rows))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two seeds: of four images that are sure one differs, the image that is not sure differs as well."""
    far = (0.9, 0.01)
    one = {"a": [SURE], "b": [far, SURE], "c": [far] * 5, "d": [SURE], "e": [UNSURE]}
    other = one | {"d": [far, SURE], "e": [(0.31, 0.05), UNSURE]}
    for seed, found in ((3, one), (4, other)):
        write(tmp_path, seed, found)
    return tmp_path


def test_agreement_is_counted_by_confidence(folder: Path) -> None:
    found = confidence.summarise(folder)
    assert (found["images"], found["seeds"]) == (5, 2)
    assert found["same min tokens"][1] == pytest.approx(3 / 5)
    bins = {(of["from"], of["to"]): of for of in found["by confidence"]}
    assert [of["verdicts"] for of in bins.values()] == [1, 1, 0, 8]
    assert bins[0.9, 1.0]["repeats"][1] == pytest.approx(6 / 8)
    assert bins[0.9, 1.0]["mean confidence"] > 0.99
    assert bins[0.5, 0.7]["repeats"] == (0, 0, 0)


def test_the_score_differs_less_than_min_tokens(folder: Path) -> None:
    found = confidence.summarise(folder)
    assert found["min tokens"]["mean absolute difference"][1] == pytest.approx(2 / 5)
    apart = found["score"]["mean absolute difference"]
    assert 1 / 5 < apart[1] < 2 / 5  # image d by one, e by less
    by_rule = found["score by the rule for numbers of tokens that were not tried"]
    assert list(by_rule) == list(confidence.RULES) and by_rule["as the last"] == found["score"]
    assert by_rule["never"]["mean absolute difference"][1] > apart[1]


def test_a_single_seed_has_no_comparison(folder: Path) -> None:
    variants.results_of(folder, variants.FAST, 4).unlink()
    assert confidence.summarise(folder) == {} == confidence.write(folder)
    assert not (folder / confidence.RESULTS).exists()


def test_results_and_figure_are_written(folder: Path) -> None:
    found = confidence.write(folder)
    written = json.loads((folder / confidence.RESULTS).read_text())
    assert written == json.loads(json.dumps(found))
    assert (folder / confidence.FIGURE).stat().st_size > 1000


def test_a_row_of_the_benchmark_is_as_sure_as_its_distances() -> None:
    rule = PassRule.of(variants.FAST.settings(3))
    assert confidence.sureness_of(row(3, "a", [SURE]), rule).confidence > 0.99
    assert confidence.sureness_of(row(3, "a", [UNSURE]), rule).confidence < 0.6


def test_the_committed_results_are_those_of_the_committed_verdicts() -> None:
    """To two digits, as kinds of CPU differ in the last ones."""
    folder = ROOT / "docs" / "bench"
    written, found = json.loads((folder / confidence.RESULTS).read_text()), confidence.summarise(folder)
    for name in ("min tokens", "score"):
        for measure in ("rank correlation", "mean absolute difference"):
            assert found[name][measure] == pytest.approx(written[name][measure], abs=0.005)
    for ours, theirs in zip(found["by confidence"], written["by confidence"], strict=True):
        assert abs(ours["verdicts"] - theirs["verdicts"]) <= 1
        assert ours["repeats"] == pytest.approx(theirs["repeats"], abs=0.03)
    last = found["by confidence"][-1]
    assert last["repeats"][1] >= confidence.TARGETS["repeats over 0.9"]
