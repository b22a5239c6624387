"""Elements, captions, drawing and image sets of the world of shapes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from originality.shapes.drawing import CANVAS, Placed, draw, reach, visibility
from originality.shapes.elements import CAPTION_WORDS, ELEMENTS, Element, caption_of, elements_of, select
from originality.shapes.image_sets import (
    TRIO,
    CommonRareUnseenSet,
    Scene,
    TaughtSet,
    UniformSet,
    generator,
    pixels,
)
from originality.shapes.motifs import GROUP_SHARE, GROUPS, all_motifs, motif_names

SETS = [UniformSet(), CommonRareUnseenSet(), TaughtSet()]
some_elements = st.lists(st.sampled_from(ELEMENTS), max_size=6)


def trio_count(scene: Scene) -> int:
    return sum(e.shape in TRIO for e in scene.elements)


def test_there_are_sixty_elements():
    assert len(set(ELEMENTS)) == 60
    assert all(e.index == k for k, e in enumerate(ELEMENTS))
    assert len(select(sizes=("big",), textures=("full",))) == 15


@given(some_elements)
def test_captions_read_back(elements):
    assert elements_of(caption_of(elements)) == tuple(elements)


def test_caption_has_the_papers_word_order():
    pair = [Element("big", "red", "full", "circle"), Element("small", "blue", "empty", "square")]
    assert caption_of(pair) == "big red full circle and small blue empty square"


@pytest.mark.parametrize("text", ["big red circle", "big red full disc", "red big full circle", "and"])
def test_invalid_captions_are_refused(text):
    with pytest.raises(ValueError):
        elements_of(text)


@pytest.mark.parametrize("images", SETS, ids=lambda s: type(s).__name__)
def test_an_image_is_a_function_of_set_seed_and_index(images):
    again = type(images)()
    for index in range(20):
        scene = images.scene(3, index)
        assert scene == again.scene(3, index)
        assert np.array_equal(pixels([scene]), pixels([again.scene(3, index)]))
    assert [images.scene(3, k) for k in range(9)] != [images.scene(4, k) for k in range(9)]


def test_other_sets_draw_other_images():
    small = UniformSet(elements=ELEMENTS[:8])
    assert {e for k in range(60) for e in small.scene(0, k).elements} <= set(ELEMENTS[:8])
    assert UniformSet(max_elements=6).scene(0, 1) != UniformSet().scene(0, 1)


def test_uniform_set_has_the_published_counts():
    counts = np.bincount([len(UniformSet().scene(0, k).placed) for k in range(6000)], minlength=5)
    expected = 6000 * np.array([0.1, 0.225, 0.225, 0.225, 0.225])
    assert stats.chisquare(counts, expected).pvalue > 1e-4


def test_elements_and_places_are_uniform_and_independent():
    placed = [p for k in range(4000) for p in UniformSet().scene(1, k).placed]
    kinds = np.bincount([p.element.index for p in placed], minlength=60)
    assert stats.chisquare(kinds).pvalue > 1e-4
    big = [p for p in placed if p.element.size == "big"]
    edge = reach("big")
    xs = (np.array([p.x for p in big]) - edge) / (CANVAS - 2 * edge)
    ys = (np.array([p.y for p in big]) - edge) / (CANVAS - 2 * edge)
    assert stats.kstest(xs, "uniform").pvalue > 1e-4
    assert stats.kstest(ys, "uniform").pvalue > 1e-4
    assert abs(stats.pearsonr(xs, ys).statistic) < 0.05


def test_common_rare_unseen_set_keeps_the_rules_of_appendix_e1():
    scenes = [CommonRareUnseenSet().scene(0, k) for k in range(20000)]
    share = {g: sum(s.group == g for s in scenes) / len(scenes) for g in ("common", "rare", "empty")}
    assert share["common"] == pytest.approx(0.3, abs=0.015)
    assert 0.0003 < share["rare"] < 0.002
    assert share["empty"] == pytest.approx(0.1, abs=0.01)
    for scene in scenes:
        shapes = {e.shape for e in scene.elements}
        assert not {"square", "triangle"} <= shapes
        assert all((e.size, e.texture) == ("big", "full") for e in scene.elements)
        if scene.group == "composed":
            assert trio_count(scene) <= 1
    unseen = CommonRareUnseenSet().pair("unseen", generator("x"))
    assert {e.shape for e in unseen.elements} == {"square", "triangle"}


def test_fixed_location_set_has_the_common_pair_at_the_same_places():
    fixed = CommonRareUnseenSet(fixed_location=True)
    scenes = [s for k in range(300) if (s := fixed.scene(0, k)).group == "common"]
    assert len({tuple((p.x, p.y) for p in s.placed) for s in scenes}) == 1
    assert len({s.elements for s in scenes}) == 9


def test_taught_set_has_the_stated_shares_and_no_unseen_motif():
    taught = TaughtSet()
    scenes = [taught.scene(0, k) for k in range(20000)]
    for group, each in GROUP_SHARE.items():
        found = sum(s.group == group for s in scenes) / len(scenes)
        assert found == pytest.approx(20 * each, rel=0.35)
    motifs = {tuple(sorted(m.elements)): m.group for m in taught.motifs}
    for scene in scenes:
        shapes = {e.shape for e in scene.elements}
        assert not {"square", "triangle"} <= shapes
        group = motifs.get(tuple(sorted(scene.elements)))
        assert group in (None, scene.group)
        assert group != "unseen"


def test_motif_groups_are_of_one_draw():
    motifs = all_motifs()
    assert [sum(m.group == g for m in motifs) for g in GROUPS] == [20] * 4
    assert len({m.elements for m in motifs}) == 80
    assert all(len(set(m.elements)) == 3 for m in motifs)
    names = [m.name for m in motifs if m.name]
    assert len(set(names)) == 60
    assert all(m.name is None for m in motifs if m.group == "unseen")
    assert not set(motif_names()) & set(CAPTION_WORDS)


@given(some_elements, st.integers(0, 1000))
def test_visibility_is_a_share_and_1_for_a_single_element(elements, seed):
    rng = np.random.default_rng(seed)
    scene = [Placed(e, *rng.uniform(16, 48, 2)) for e in elements]
    shares = visibility(scene)
    assert all(0 <= v <= 1 for v in shares)
    if len(scene) == 1:
        assert shares == (1.0,)


def test_a_small_element_is_drawn_over_a_big_one():
    big = Placed(Element("big", "red", "full", "circle"), 32, 32)
    small = Placed(Element("small", "red", "full", "square"), 32, 32)
    for scene in ([big, small], [small, big]):
        sizes = [p.element.size for p in scene]
        assert visibility(scene)[sizes.index("small")] == 1.0
        assert 0.4 < visibility(scene)[sizes.index("big")] < 0.9
    assert np.array_equal(np.asarray(draw([big, small])), np.asarray(draw([small, big])))


def test_an_empty_image_is_white_and_has_the_empty_caption():
    scene = Scene((), "empty")
    assert scene.caption == ""
    assert (pixels([scene]) == 255).all()
