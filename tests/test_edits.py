"""Edit prompts in rounds: asked only of words that redraw, in passes that images share, and once certain
no more."""

from __future__ import annotations

import numpy as np
import pytest

from originality.editability import SubjectInScene
from originality.settings import AuditSettings
from originality.sweep import Sweep
from tests.test_lanes import Grey, changed
from tests.test_sweep import item, run, timeless


class ByChance:
    """Sees the subject in one of three images, as their pixels have it."""

    def digest(self) -> str:
        return ""

    def scores(self, images: np.ndarray) -> np.ndarray:
        return np.array([int(image.sum()) // 7 % 3 / 2 for image in images])


class Edited(Sweep):
    """Notes the prompts of every pass of drawing."""

    def __init__(self, settings: AuditSettings) -> None:
        super().__init__(settings)
        self.distance = self.judge.distance = Grey()
        check = SubjectInScene(ByChance(), 0.6)
        self.judge._check = lambda _subject: check
        self.drawn: list[set[str]] = []
        chosen = self.judge._chosen

        def noted(evaluations):
            found = chosen(evaluations)
            self.drawn.append({asked.prompt for _, asked in found})
            return found

        self.judge._chosen = noted  # type: ignore[method-assign]


@pytest.fixture(scope="module")
def edits(quick) -> AuditSettings:
    return changed(
        quick,
        inversion={"steps": 2, "batch_size": 2, "templates": 2},
        redraw={"count": 8, "round": 2, "together": 6, "confidence": 0.8, "steps": 2},
        distance={"threshold": 0.4},
        in_distribution={"check": "none", "ask": "redrawn", "threshold": 0.35},
    )


@pytest.fixture(scope="module")
def several(edits):
    sweep = Edited(edits)
    return sweep, run(sweep, *(item(k) for k in range(4)))


def test_they_are_drawn_for_words_that_redraw_alone(several):
    attempts = [a for done in several[1].values() for a in done.record["sweep"]]
    near = [a["distance_mean"] < 0.4 for a in attempts]
    assert [a["editable"] is not None for a in attempts] == near
    assert {a["editable"] for a in attempts} == {True, False, None}
    drawn = [(a["unet_samples"] - 2 * 2) / (2 * 2) - a["redraws"] for a in attempts]
    assert [edited > 0 for edited in drawn] == near and 0 < min(filter(None, drawn)) < 8
    assert any(len(prompts) > 1 for prompts in several[0].drawn)  # beside other images' redraws


@pytest.mark.parametrize("k", [0, 3])
def test_an_image_alone_has_the_edits_that_it_has_among_others(edits, several, k):
    alone, among = run(Edited(edits), item(k))[f"image-{k}"], several[1][f"image-{k}"]
    assert timeless(alone.record) == timeless(among.record)
    assert alone.files == among.files


@pytest.mark.parametrize("steps", [3, 4, 5, 6])
def test_they_go_on_from_any_step(edits, several, steps):
    sweep = Edited(edits)
    for k in (3, 0):
        sweep.admit(item(k))
    assert "image-0" not in [done.item_id for _ in range(steps) for done in sweep.step()]
    again = Edited(edits)
    again.restore(item(0), sweep.snapshot("image-0"))
    assert timeless(run(again)["image-0"].record) == timeless(several[1]["image-0"].record)
