from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from originality.contract.config import SettingsError
from originality.evaluation.distance import Distance, load_distance
from originality.evaluation.distance.elements import (
    CONFIDENCE,
    ElementSetDistance,
    Reading,
    legible,
    multiset_f1,
)
from originality.settings.parts import DistanceSettings
from originality.shapes.detector import MODEL_FOLDER, Detection, Detector
from originality.shapes.drawing import Placed, draw
from originality.shapes.elements import ELEMENTS, Element, select
from originality.shapes.image_sets import UniformSet, clear_view, pixels

bags = st.lists(st.sampled_from(ELEMENTS[:6]), max_size=7)


@given(bags, bags)
def test_f1_is_symmetric_and_bounded(a: list[Element], b: list[Element]) -> None:
    assert multiset_f1(a, b) == multiset_f1(b, a)
    assert 0 <= multiset_f1(a, b) <= 1
    assert (multiset_f1(a, b) == 1) == (sorted(a) == sorted(b))
    assert (multiset_f1(a, b) == 0) == (not set(a) & set(b) and bool(a or b))


@given(bags, bags, st.randoms())
def test_f1_ignores_order(a: list[Element], b: list[Element], random: object) -> None:
    shuffled = list(a)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert multiset_f1(shuffled, b) == multiset_f1(a, b)


@given(bags, bags)
def test_f1_is_precision_and_recall(a: list[Element], b: list[Element]) -> None:
    left = list(b)
    hits = 0
    for element in a:
        if element in left:
            left.remove(element)
            hits += 1
    if hits:
        precision, recall = hits / len(b), hits / len(a)
        assert multiset_f1(a, b) == pytest.approx(2 * precision * recall / (precision + recall))


@given(bags, st.sampled_from(ELEMENTS[6:]))
def test_one_element_more_never_helps(a: list[Element], extra: Element) -> None:
    assert multiset_f1(a, [*a, extra]) < 1


def test_f1_examples() -> None:
    assert multiset_f1([], []) == 1
    assert multiset_f1([1], []) == 0
    assert multiset_f1([1, 1], [1]) == pytest.approx(2 / 3)
    assert multiset_f1([1, 2], [1, 3]) == 0.5


class Known(Detector):
    """Says what it is told, image by image."""

    def __init__(self, answers: Sequence[Sequence[Element]]) -> None:
        self._answers = answers

    def detect(self, images: np.ndarray | torch.Tensor, confidence: float = 0.9) -> list[list[Detection]]:
        assert confidence == CONFIDENCE == 0.9
        return [[Detection(e, 1.0, 2.0, 0.95) for e in answer] for answer in self._answers]


def test_distance_of_readings() -> None:
    a, b, c = ELEMENTS[3], ELEMENTS[30], ELEMENTS[7]
    answers = [[a, b], [b, a], [a], [a, b, b], [c], []]
    images = np.full((6, 64, 64, 3), 255, np.uint8)
    metric = ElementSetDistance(Known(answers))
    assert isinstance(metric, Distance)
    found = metric.embed(images)
    distances = metric.between(found[0], found)
    assert distances.dtype == np.float64
    np.testing.assert_allclose(distances, [0, 0, 1 / 3, 1 / 5, 1, 1])
    np.testing.assert_array_equal(metric.between(found[5], found), [1, 1, 1, 1, 1, 0])
    assert list(metric.embed(images[:0])) == [] and metric.between(found[0], []).shape == (0,)


def test_an_illegible_image_has_distance_one_to_every_image() -> None:
    photo = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    scribble = np.full((64, 64, 3), 255, np.uint8)
    scribble[10:20, 10:20] = (222, 45, 38)
    blank = np.full((64, 64, 3), 245, np.uint8)
    assert not legible(photo, []) and not legible(photo, [ELEMENTS[0]])
    assert not legible(scribble, []) and legible(scribble, [ELEMENTS[0]])
    assert legible(blank, [])
    unread = Reading((), legible=False)
    metric = ElementSetDistance(Known([]))
    assert metric.between(unread, [unread, Reading(())]).tolist() == [1, 1]
    assert metric.between(Reading(()), [unread]).tolist() == [1]


def test_every_scene_of_the_world_is_legible() -> None:
    scenes = [UniformSet().scene(1, i) for i in range(150)]
    for scene, image in zip(scenes, pixels(scenes), strict=True):
        assert legible(image, scene.elements)
    for element in ELEMENTS:  # even the smallest is more than nothing
        assert not legible(np.asarray(draw([Placed(element, 32, 32)])), [])
    crowd = [Placed(e, x, y) for e in select(("square",), sizes=("big",), textures=("full",))[:1]
             for x in (12, 32, 52) for y in (12, 32)]  # fmt: skip
    assert legible(np.asarray(draw(crowd)), [p.element for p in crowd])


def test_a_different_size_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"64 x 64 pixels, not 48 x 32.*dreamsim"):
        ElementSetDistance(Known([])).embed(np.zeros((1, 32, 48, 3), np.uint8))


def test_without_a_detector(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(cls: object, folder: object = None) -> Detector:
        raise FileNotFoundError("no detector; make one")

    monkeypatch.setattr(Detector, "load", classmethod(absent))
    with pytest.raises(SettingsError, match="make one"):
        load_distance(DistanceSettings(metric="elements"))


@pytest.mark.skipif(
    not (MODEL_FOLDER / "model.safetensors").exists(), reason="the detector is not trained yet"
)
class TestWithTheShippedDetector:
    @pytest.fixture(scope="class")
    def metric(self) -> Distance:
        return load_distance(DistanceSettings(metric="elements"))

    def test_same_elements_elsewhere(self, metric: Distance) -> None:
        one = [Placed(ELEMENTS[5], 15, 15), Placed(ELEMENTS[48], 45, 40)]
        other = [Placed(ELEMENTS[48], 20, 50), Placed(ELEMENTS[5], 45, 16)]
        fewer = [Placed(ELEMENTS[5], 30, 30)]
        images = np.stack([np.asarray(draw(s)) for s in (one, other, fewer, [])])
        found = metric.embed(images)
        np.testing.assert_allclose(metric.between(found[0], found), [0, 0, 1 / 3, 1])

    def test_reads_scenes(self, metric: Distance) -> None:
        scenes = [s for s in (UniformSet().scene(77, i) for i in range(60)) if clear_view(s)]
        found = metric.embed(pixels(scenes))
        right = [
            list(r.elements) == sorted(s.elements, key=lambda e: e.index)
            for r, s in zip(found, scenes, strict=True)
        ]
        assert np.mean(right) >= 0.9
        assert all(r.legible for r in found)

    def test_a_photograph_is_far_from_itself(self, metric: Distance) -> None:
        rng = np.random.default_rng(0)
        coarse = Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8))
        photo = np.asarray(coarse.resize((64, 64), Image.Resampling.BICUBIC))
        found = metric.embed(np.stack([photo, photo]))
        assert metric.between(found[0], found[1:]).tolist() == [1]

    def test_digest(self, metric: Distance) -> None:
        assert metric.digest() == load_distance(DistanceSettings(metric="elements")).digest()
        assert len(metric.digest()) == 16 and int(metric.digest(), 16) >= 0
