"""The shipped detector finds elements independently of the batch, and ignores malformed ones."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from originality.shapes.detector import MODEL_FOLDER, Detection, Detector
from originality.shapes.drawing import CANVAS, Placed
from originality.shapes.elements import ELEMENTS, SHAPES, Element
from originality.shapes.image_sets import UniformSet, generator, pixels
from originality.training.element_detector.malformed import (
    KINDS,
    deform,
    malformed,
    paste,
    profile_of,
    roughen,
)
from originality.training.element_detector.scores import abstention, evaluate, match

BLANK = np.full((CANVAS, CANVAS, 3), 255, np.uint8)
HELD_OUT = UniformSet(max_elements=4)
STAR = Element("big", "red", "full", "star")


@pytest.fixture(scope="module")
def detector() -> Detector:
    return Detector.load()


@pytest.fixture(scope="module")
def renders() -> np.ndarray:
    return pixels([HELD_OUT.scene(555, i) for i in range(20)])


def test_held_out_renders(detector: Detector) -> None:
    """The detector's scores.json has 2,000 other images; these are lower bounds for a smaller sample."""
    scores = evaluate(detector, HELD_OUT, seed=555, count=300)
    assert scores.precision >= 0.99
    assert scores.recall >= 0.98
    assert scores.centre_error < 1


def test_the_committed_scores_meet_the_target() -> None:
    scores = json.loads((MODEL_FOLDER / "scores.json").read_text())
    assert scores["renders"]["confidence"] == 0.9
    assert scores["renders"]["precision"] >= 0.99
    assert scores["renders"]["recall"] >= 0.99
    assert scores["malformed, share detected at 0.9"]["all"] <= 0.02


def test_blank_image_shows_nothing(detector: Detector) -> None:
    assert detector.detect(BLANK[None]) == [[]]
    assert detector.detect(BLANK[None], confidence=0.05) == [[]]
    assert detector.detect(np.zeros((0, CANVAS, CANVAS, 3), np.uint8)) == []


def test_neighbours_in_the_batch_change_nothing(detector: Detector, renders: np.ndarray) -> None:
    together = detector.detect(renders)
    assert [detector.detect(image[None])[0] for image in renders[:5]] == together[:5]
    assert detector.detect(renders[::-1].copy())[::-1] == together


def test_tensors_and_other_sizes(detector: Detector, renders: np.ndarray) -> None:
    want = detector.detect(renders)
    assert detector.detect(torch.from_numpy(renders)) == want
    # Twice as large and back is the same image up to a slight blur.
    large = detector.detect(renders.repeat(2, 1).repeat(2, 2))
    pairs = sum(
        len(match(b, [Placed(d.element, d.x, d.y) for d in a], [1.0] * len(a))[0])
        for a, b in zip(want, large, strict=True)
    )
    assert pairs >= 0.9 * sum(map(len, want))


@pytest.mark.parametrize("images", [BLANK, BLANK[None].astype(np.float32), BLANK[None, :, :, :1]], ids=str)
def test_wrong_input_is_refused(detector: Detector, images: np.ndarray) -> None:
    with pytest.raises(ValueError, match="uint8"):
        detector.detect(images)


def test_wrong_confidence_is_refused(detector: Detector) -> None:
    with pytest.raises(ValueError, match="confidence"):
        detector.detect(BLANK[None], confidence=0)


def test_a_folder_without_weights_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="safetensors"):
        Detector.load(tmp_path)


def test_abstains_from_malformed_elements(detector: Detector) -> None:
    shares = abstention(detector, seed=556, count=10)
    assert set(shares) == {*KINDS, "all"}
    assert shares["all"] <= 0.05


def test_slight_flaws_stay_confident(detector: Detector) -> None:
    rng = generator("worn")
    elements = [ELEMENTS[k] for k in range(0, 60, 2)]
    images = np.stack([paste(BLANK, roughen(e, rng), 30.2, 33.7) for e in elements])
    found = detector.detect(images)
    right = [[d.element for d in f] == [e] for f, e in zip(found, elements, strict=True)]
    assert np.mean(right) >= 0.9


def test_matching_is_one_to_one_and_ignores_the_hidden() -> None:
    near, far = Placed(STAR, 20, 20), Placed(STAR, 40, 40)
    sure, unsure = Detection(STAR, 21, 20, 0.99), Detection(STAR, 19, 20, 0.95)
    pairs, false, missed, hidden = match([sure, unsure], [near, far], [1.0, 1.0])
    assert (len(pairs), len(false), missed, hidden) == (1, 1, [far], 0)
    # Mostly hidden: neither a miss nor, if found, false.
    assert match([sure], [near], [0.4]) == ([], [], [], 1)
    assert match([], [near], [0.4]) == ([], [], [], 0)
    # Another element, or too far away: a false one and a miss.
    other = Detection(Element("big", "red", "full", "circle"), 20, 20, 0.99)
    assert match([other], [near], [1.0])[1:] == ([other], [near], 0)
    away = Detection(STAR, 24.5, 20, 0.99)
    assert match([away], [near], [1.0])[1:] == ([away], [near], 0)


@pytest.mark.parametrize("kind", KINDS)
def test_deformations_are_drawn_in_place_and_repeat(kind: str) -> None:
    image, again = (paste(BLANK, deform(kind, STAR, generator(kind)), 30, 34) for _ in range(2))
    assert np.array_equal(image, again)
    rows, columns = np.nonzero(image.min(2) < 200)
    assert len(rows) > 20
    assert abs(rows.mean() - 34) < 8
    assert abs(columns.mean() - 30) < 8


@pytest.mark.parametrize("shape", SHAPES)
def test_a_worlds_own_shape_is_not_malformed(shape: str) -> None:
    assert np.isfinite(profile_of(shape)).all()
    assert not malformed(profile_of(shape), 10.0)
    assert malformed(profile_of(shape) * np.linspace(0.7, 1.3, 96), 10.0)
