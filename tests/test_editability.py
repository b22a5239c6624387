from __future__ import annotations

import numpy as np
import skimage.data

from originality.editability import SUBJECT_CLASSES, ElementPositions, load_check
from originality.prompts import DOMAINS
from originality.settings import InDistributionSettings
from originality.synthetic.dataset import generator, motif_scene, pixels
from originality.synthetic.motifs import all_motifs

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


def test_an_animal_is_not_asked_for_in_a_scene_of_itself():
    assert DOMAINS["animals"].edit_prompt == "car in {}"
    assert DOMAINS["houses"].edit_prompt == "cat in {}"
    assert all(domain.edit_subject in SUBJECT_CLASSES for domain in DOMAINS.values())


def test_no_check_is_none():
    assert load_check(InDistributionSettings(check="none")) is None
