from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import skimage.data
from torchvision.models import EfficientNet_B0_Weights

from originality.contract.config import SettingsError
from originality.evaluation.in_distribution import load_check
from originality.evaluation.in_distribution.positions import ElementPositions
from originality.evaluation.in_distribution.subject_by_classes import SUBJECT_CLASSES, SubjectByClasses
from originality.settings.domains import DOMAINS
from originality.settings.parts import InDistributionSettings
from originality.shapes.image_sets import generator, motif_scene, pixels
from originality.shapes.motifs import all_motifs

MOTIF = all_motifs()[0]


def test_independent_placement_scores_one_and_a_fixed_picture_zero():
    check = ElementPositions()
    scenes = [motif_scene(MOTIF, generator("positions", k)) for k in range(20)]
    free = check.score(pixels(scenes), None)
    fixed = check.score(np.repeat(pixels(scenes[:1]), 20, axis=0), None)
    assert free is not None
    assert fixed is not None
    assert abs(free - 1) < 0.25
    assert fixed < 0.05
    threshold = InDistributionSettings().threshold
    assert fixed < threshold < free


def test_jitter_around_one_place_is_no_independent_placement():
    rng = np.random.default_rng(0)
    scene = motif_scene(MOTIF, generator("positions", 0))
    moved = [
        type(scene)(
            tuple(type(p)(p.element, p.x + rng.normal(0, 2), p.y + rng.normal(0, 2)) for p in scene.placed),
            scene.group,
        )
        for _ in range(20)
    ]
    score = ElementPositions().score(pixels(moved), None)
    assert score is not None
    assert score < InDistributionSettings().threshold


def test_blank_redraws_are_no_evidence():
    assert ElementPositions().score(np.full((20, 64, 64, 3), 255, np.uint8), None) is None


def test_the_subject_must_be_in_the_scene():
    cat, coffee = (np.stack([photo[:300, :300]]) for photo in (skimage.data.chelsea(), skimage.data.coffee()))
    edits = np.concatenate([cat, coffee, coffee, cat])
    settings = InDistributionSettings(check="editability")
    assert load_check(settings, "cat").score(coffee, edits) == 0.5
    assert load_check(settings, "car").score(coffee, edits) == 0.0
    assert load_check(settings, "cat").score(coffee, None) is None


@pytest.fixture(scope="module")
def cat() -> SubjectByClasses:
    return SubjectByClasses("cat")


def crops(photo: np.ndarray, count: int) -> Iterator[np.ndarray]:
    """With at least 60 % of each side; about half of them flipped."""
    rng = np.random.default_rng(0)
    for _ in range(count):
        whole = np.array(photo.shape[:2])
        sides = np.round(whole * rng.uniform(0.6, 1, 2)).astype(int)
        top, left = rng.integers(0, whole - sides + 1)
        crop = photo[top : top + sides[0], left : left + sides[1]]
        yield np.ascontiguousarray(crop[:, :: rng.choice([-1, 1])])


@pytest.mark.parametrize(
    ("name", "count", "lowest", "highest"),
    [("chelsea", 20, 0.8, 1), ("coffee", 8, 0, 0.01), ("rocket", 8, 0, 0.01), ("astronaut", 8, 0, 0.01)],
)
def test_the_cat_is_found_in_every_crop_of_its_photograph_and_in_no_other(
    name: str, count: int, lowest: float, highest: float, cat: SubjectByClasses
) -> None:
    scores = [cat.scores(crop[None])[0] for crop in crops(getattr(skimage.data, name)(), count)]
    assert len(scores) == count and lowest <= min(scores) and max(scores) <= highest


SOME_NAMES = {
    "airplane": "airliner, warplane",
    "bear": "brown bear, American black bear, ice bear, sloth bear",
    "bicycle": "bicycle-built-for-two, mountain bike",
    "boat": "canoe, catamaran, fireboat, gondola, lifeboat, schooner, speedboat, trimaran, yawl",
    "bus": "minibus, school bus, trolleybus",
    "butterfly": "admiral, ringlet, monarch, cabbage butterfly, sulphur butterfly, lycaenid",
    "car": "ambulance, beach wagon, cab, car wheel, convertible, jeep, limousine, minivan, Model T, pickup, "
    "racer, sports car",
    "cat": "tabby, tiger cat, Persian cat, Siamese cat, Egyptian cat",
    "elephant": "tusker, Indian elephant, African elephant",
    "fox": "red fox, kit fox, Arctic fox, grey fox",
    "frog": "bullfrog, tree frog, tailed frog",
    "guitar": "acoustic guitar, electric guitar",
    "rabbit": "wood rabbit, hare, Angora",
    "spider": "black and gold garden spider, barn spider, garden spider, black widow, tarantula, wolf spider",
    "train": "bullet train, electric locomotive, steam locomotive",
    "truck": "fire engine, garbage truck, moving van, pickup, tow truck, trailer truck",
    "turtle": "loggerhead, leatherback turtle, mud turtle, terrapin, box turtle",
}
ENDS = {
    "bird": ["cock great grey owl", "black grouse black swan", "white stork albatross"],
    "dog": ["Chihuahua Mexican hairless"],
    "monkey": ["guenon squirrel monkey"],
    "snake": ["thunder snake sidewinder"],
}
"""First and last name of each run of classes."""


def test_classes_of_subjects_are_those_of_their_names_in_imagenet() -> None:
    names = EfficientNet_B0_Weights.DEFAULT.meta["categories"]
    for subject, expected in SOME_NAMES.items():
        assert ", ".join(names[k] for k in SUBJECT_CLASSES[subject]) == expected
    for subject, expected in ENDS.items():
        classes = SUBJECT_CLASSES[subject]
        starts = [k for k in classes if k - 1 not in classes]
        ends = [k for k in classes if k + 1 not in classes]
        assert [f"{names[a]} {names[b]}" for a, b in zip(starts, ends, strict=True)] == expected
    assert {*SOME_NAMES, *ENDS} == set(SUBJECT_CLASSES)
    assert len(SUBJECT_CLASSES["dog"]) == 118 and len(SUBJECT_CLASSES["bird"]) == 59


def test_a_subject_that_imagenet_does_not_know_names_those_it_does() -> None:
    settings = InDistributionSettings(check="editability")
    says = r"knows no 'house'; known are airplane, bear, .* detr or clip"
    with pytest.raises(SettingsError, match=says) as messages:
        load_check(settings, "house")
    assert "\n" not in str(messages.value)
    with pytest.raises(SettingsError, match="'bicycles'; did you mean 'bicycle'"):
        load_check(settings, "bicycles")


def test_an_animal_is_not_asked_for_in_a_scene_of_itself():
    assert [DOMAINS["animals"].subject_for(word) for word in ("dog", "cat", "bird")] == ["cat", "car", "cat"]
    assert DOMAINS["houses"].subject_for("house") == "cat"
    assert all({d.edit_subject, d.other_subject} <= set(SUBJECT_CLASSES) for d in DOMAINS.values())


def test_check_none_loads_no_check():
    assert load_check(InDistributionSettings(check="none")) is None
