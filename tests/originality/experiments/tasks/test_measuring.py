"""Measurements of an experiment's models, and that a killed measurement resumes to the same record."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from originality.contract.scorer import Item
from originality.experiments.tasks.long_task import OneAtATime
from originality.experiments.tasks.measure_elements import (
    ElementsMeasure,
    ElementsMeasuring,
    cut_out,
    strip_of,
    summarise_detections,
)
from originality.experiments.tasks.measure_pairs import GROUPS, PairsMeasure, PairsMeasuring
from originality.experiments.tasks.plans import PairsPlan, document
from originality.model.diffusers_folder import MODELS
from originality.settings.redraw import RedrawSettings
from originality.shapes.detector import Detection
from originality.shapes.elements import elements_of
from tests.support.long_task import cut, finished

SHAPES = MODELS / "shapes"
RED_SQUARE, BLUE_CIRCLE = "big red full square", "big blue full circle"


def measurer(kind, plan_kind):
    return OneAtATime(lambda output: kind(plan_kind.model_validate(output), SHAPES, "cpu"))


@pytest.mark.long
def test_elements_are_counted_the_same_after_a_kill():
    plan = ElementsMeasure(
        kind="elements",
        name="shipped",
        model="shapes",
        wanted=(RED_SQUARE, BLUE_CIRCLE),
        images=40,
        redraw=RedrawSettings(steps=4, scheduler="dpm++", guidance_scale=3.0),
    )
    item = Item("a", document(plan))
    scorer = measurer(ElementsMeasuring, ElementsMeasure)
    scorer.admit(item)
    expected, steps = finished(scorer)
    empty, red, blue = expected.record["prompts"]
    assert [p["images"] for p in (empty, red, blue)] == [40, 40, 40]
    assert red["shown"][RED_SQUARE] > 5 * empty["shown"][RED_SQUARE] / 2
    assert blue["shown"][BLUE_CIRCLE] > blue["shown"][RED_SQUARE]
    assert sum(red["counts"].values()) == 40
    sheet = Image.open(io.BytesIO(expected.files["drawn-big-red-full-square.webp"]))
    assert sheet.size == (8 * 66 + 2, 4 * 66 + 2)
    strip = Image.open(io.BytesIO(expected.files[strip_of(RED_SQUARE, prompted=True)]))
    assert strip.height == 32 + 4 and strip.width <= 12 * 34 + 2
    first = measurer(ElementsMeasuring, ElementsMeasure)
    first.admit(item)
    kept = cut(first, item, 3)
    second = measurer(ElementsMeasuring, ElementsMeasure)
    second.restore(item, kept)
    resumed, more = finished(second)
    assert more == steps - 3
    assert resumed.files == expected.files
    seconds = resumed.record.pop("seconds"), expected.record.pop("seconds")
    assert min(seconds) > 0 and resumed.record == expected.record


def test_detections_are_summarised():
    def seen(caption, confidence):
        return Detection(elements_of(caption)[0], 10.0, 10.0, confidence)

    found = [
        [seen(RED_SQUARE, 0.95), seen(RED_SQUARE, 0.92), seen(BLUE_CIRCLE, 0.6)],
        [seen(BLUE_CIRCLE, 0.99)],
        [],
    ]
    assert summarise_detections(found, (RED_SQUARE, BLUE_CIRCLE)) == {
        "images": 3,
        "shown": {RED_SQUARE: 1, BLUE_CIRCLE: 1},
        "elements": {BLUE_CIRCLE: 1, RED_SQUARE: 2},
        "unsure": 1,
        "made out": {RED_SQUARE: 2, BLUE_CIRCLE: 2},
        "confidence": {RED_SQUARE: 0.935, BLUE_CIRCLE: 0.795},
        "counts": {"0": 1, "1": 1, "2": 1},
    }
    assert summarise_detections([[]], (RED_SQUARE,))["confidence"] == {RED_SQUARE: None}


def test_a_cut_out_at_the_edge_is_padded_with_white():
    image = np.zeros((64, 64, 3), np.uint8)
    corner = cut_out(image, Detection(elements_of(RED_SQUARE)[0], 4.0, 60.0, 1.0))
    assert corner.shape == (32, 32, 3)
    assert (corner[:20, 12:] == 0).all() and (corner[:, :12] == 255).all() and (corner[20:] == 255).all()


@pytest.mark.parametrize("queries", [1, 2, 8])
def test_even_colours_take_the_first_pairs_of_one_and_of_two_colours(queries):
    usual = PairsMeasure(
        kind="pairs", name="m", model="shapes", images=PairsPlan(kind="pairs"), queries=queries
    )
    even = usual.model_copy(update={"even_colours": True})
    for group in GROUPS:
        assert usual.numbers(group) == list(range(queries))
        numbers = even.numbers(group)
        assert numbers == sorted(set(numbers)) and len(numbers) == queries
        colours = {n: len({e.colour for e in even.scene(group, n).elements}) for n in range(numbers[-1] + 1)}
        of_one = [n for n in numbers if colours[n] == 1]
        assert len(of_one) == -(-queries // 2)
        for of, count in ((of_one, 1), (sorted(set(numbers) - set(of_one)), 2)):
            assert of == [n for n in colours if colours[n] == count][: len(of)]
    assert even.model_copy(update={"groups": ("one element",)}).numbers("one element") == list(range(queries))


@pytest.mark.long
def test_pairs_are_measured_at_every_number_of_tokens_the_same_after_a_kill():
    over = {
        "max_tokens": 2,
        "inversion": {"steps": 3, "lanes": 2},
        "redraw": {"count": 2, "steps": 2},
    }
    plan = PairsMeasure(
        kind="pairs", name="shipped", model="shapes", images=PairsPlan(kind="pairs"), queries=1, over=over
    )
    assert plan.settings().distance.threshold == 0
    item = Item("a", document(plan))
    scorer = measurer(PairsMeasuring, PairsMeasure)
    scorer.admit(item)
    expected, steps = finished(scorer)
    rows = expected.record["rows"]
    assert [row["group"] for row in rows] == list(GROUPS)
    assert all([a["tokens"] for a in row["sweep"]] == [1, 2] for row in rows)
    assert "common-pair-0-redraws.webp" in expected.files

    def without_times(rows):
        return [{**row, "sweep": [{**a, "seconds": None} for a in row["sweep"]]} for row in rows]

    for after in (9,):
        first = measurer(PairsMeasuring, PairsMeasure)
        first.admit(item)
        kept = cut(first, item, after)
        second = measurer(PairsMeasuring, PairsMeasure)
        second.restore(item, kept)
        resumed, more = finished(second)
        assert more == steps - after
        assert without_times(resumed.record["rows"]) == without_times(rows)
        assert resumed.files.keys() == expected.files.keys()
