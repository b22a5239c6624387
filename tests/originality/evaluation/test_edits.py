"""Edit images in rounds: only for words that redraw, in shared passes, until their share is certain."""

from __future__ import annotations

import numpy as np
import pytest

from originality.evaluation.in_distribution.scene import SubjectInScene
from originality.settings.audit import AuditSettings
from originality.sweep.sweep import Sweep
from tests.support.sweeps import Grey, changed, item, run, timeless

NEAR = 0.45
"""A threshold far from all distances here: the nearest are 0.40 and 0.52."""


class Pinned(SubjectInScene):
    """Finds the subject where the test says, whatever the pixels, which differ between kinds of CPU."""

    def __init__(self) -> None:
        self.coming: list[bool] = []

    def hits(self, edits: np.ndarray) -> np.ndarray:
        seen, self.coming = self.coming[: len(edits)], self.coming[len(edits) :]
        return np.array(seen)


class Edited(Sweep):
    """A sweep that records the prompts of every rendering pass."""

    def __init__(self, settings: AuditSettings) -> None:
        super().__init__(settings)
        self.distance = self.judge.distance = Grey()
        check = Pinned()
        self.judge.check = lambda _subject: check
        self.drawn: list[set[str]] = []
        chosen, look = self.judge.choose_rounds, self.judge.look_for_subject

        def noted(evaluations):
            found = chosen(evaluations)
            self.drawn.append({requested.prompt for _, requested in found})
            return found

        def pinned(evaluation, images):
            """Two of three edits show the subject; of the first word of image 3 one of four does."""
            seldom = (evaluation.image_id, len(evaluation.vectors)) == ("image-3", 1)
            numbers = range(evaluation.edits, evaluation.edits + len(images))
            check.coming = [k % 4 == 1 if seldom else k % 3 != 1 for k in numbers]
            look(evaluation, images)

        self.judge.choose_rounds = noted  # type: ignore[method-assign]
        self.judge.look_for_subject = pinned  # type: ignore[method-assign]


@pytest.fixture(scope="module")
def edits(quick) -> AuditSettings:
    return changed(
        quick,
        inversion={"steps": 2, "batch_size": 2, "templates": 2},
        redraw={"count": 8, "round": 2, "together": 6, "confidence": 0.8, "steps": 2},
        distance={"threshold": NEAR},
        in_distribution={"check": "none", "ask": "redrawn", "threshold": 0.35},
    )


@pytest.fixture(scope="module")
def several(edits):
    sweep = Edited(edits)
    return sweep, run(sweep, *(item(k) for k in range(4)))


def test_edits_are_rendered_only_for_words_that_redraw(several):
    attempts = [a for done in several[1].values() for a in done.record["sweep"]]
    near = [a["distance_mean"] < NEAR for a in attempts]
    assert [a["editable"] is not None for a in attempts] == near
    assert {a["editable"] for a in attempts} == {True, False, None}
    drawn = [(a["unet_samples"] - 2 * 2) / (2 * 2) - a["redraws"] for a in attempts]
    assert [edited > 0 for edited in drawn] == near and 0 < min(filter(None, drawn)) < 8
    assert any(len(prompts) > 1 for prompts in several[0].drawn)  # beside other images' redraws


def test_every_distance_and_hit_is_kept(several):
    records = [done.record for done in several[1].values()]
    for attempt in (a for record in records for a in record["sweep"]):
        assert len(attempt["distances"]) == attempt["redraws"]
        assert np.mean(attempt["distances"]) == pytest.approx(attempt["distance_mean"])
        assert (attempt["edit_hits"] is None) == (attempt["editable"] is None)
        if attempt["edit_hits"]:
            assert np.mean(attempt["edit_hits"]) == pytest.approx(attempt["editability"])
        assert 0 <= attempt["pass_probability"] <= 1
    assert all(0 <= record["confidence"] <= 1 <= record["score"] for record in records)


@pytest.mark.parametrize("k", [0, 3])
def test_edits_are_independent_of_the_other_images(edits, several, k):
    alone, among = run(Edited(edits), item(k))[f"image-{k}"], several[1][f"image-{k}"]
    assert timeless(alone.record) == timeless(among.record)
    assert alone.files == among.files


@pytest.mark.parametrize("steps", [3, 4, 5, 6])
def test_edits_resume_from_any_step(edits, several, steps):
    sweep = Edited(edits)
    for k in (3, 0):
        sweep.admit(item(k))
    assert "image-0" not in [done.item_id for _ in range(steps) for done in sweep.step()]
    again = Edited(edits)
    again.restore(item(0), sweep.snapshot("image-0"))
    assert timeless(run(again)["image-0"].record) == timeless(several[1]["image-0"].record)
