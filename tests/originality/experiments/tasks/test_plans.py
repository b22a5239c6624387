"""The experiments' plans: the models they train, on which image sets, at both scales."""

from __future__ import annotations

import io
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from transformers import BertConfig, BertModel, BertTokenizer, CLIPTokenizer

from originality.contract.scorer import Item
from originality.experiments.diversity import CONTROL, DIVERSITIES, REPEATS, spanned
from originality.experiments.scales import SCALES
from originality.experiments.tasks.measure_elements import ElementsMeasure, ElementsMeasuring
from originality.experiments.tasks.measure_pairs import GROUPS
from originality.experiments.tasks.plans import ElementsPlan, ModelPlan, PairsPlan
from originality.experiments.tasks.train_model import Training
from originality.model.diffusers_folder import MODELS
from originality.settings.local_weights import Copies
from originality.settings.presets import load_settings
from originality.shapes.elements import ELEMENTS, elements_of
from originality.shapes.image_sets import CommonRareUnseenSet, TaughtSet, UniformSet, generator
from originality.sweep.sweep import Sweep
from originality.training.shapes_model import autoencoder, denoiser
from originality.training.shapes_model.recipe import DenoiserRecipe, ShapesRecipe, TextRecipe
from originality.training.shapes_model.vocabulary import all_words


@pytest.mark.parametrize("elements", DIVERSITIES)
@pytest.mark.parametrize("repeat", range(REPEATS))
def test_a_set_spans_its_elements_and_each_feature_of_the_missing_ones_is_seen(elements, repeat):
    plan = spanned(elements, repeat)
    assert len(plan.spanned) == elements and len(plan.missing) == 2
    missing = [elements_of(text)[0] for text in plan.missing]
    assert all(element in plan.spanned for element in missing)
    shown = plan.images().elements
    assert len(shown) == elements - 2 and not set(missing) & set(shown)
    for feature in ("shape", "colour", "size", "texture"):
        assert {getattr(e, feature) for e in missing} <= {getattr(e, feature) for e in shown}
    drawn = [e for k in range(300) for e in plan.images().scene(0, k).elements]
    assert set(drawn) == set(shown) if elements <= 15 else set(drawn) <= set(shown)


def test_repeats_balance_shapes_colours_sizes_and_textures():
    for scale in ("laptop", "paper"):
        experiment = SCALES[scale]["diversity"]
        plans = [plan for plan in experiment.plans() if not plan.name.startswith(CONTROL)]
        by_set = Counter(len(plan.images.spanned) for plan in plans)
        assert set(by_set) == set(DIVERSITIES) and set(by_set.values()) == {experiment.repeats}
        assert len({plan.name for plan in plans}) == len(plans)
        for elements in DIVERSITIES:
            own = [plan for plan in plans if len(plan.images.spanned) == elements]
            missing = [elements_of(text)[0] for plan in own for text in plan.images.missing]
            for feature in ("shape", "colour", "size", "texture"):
                counts = Counter(getattr(e, feature) for e in missing)
                assert len(counts) == 2 and len(set(counts.values())) == 1
            # and no size or texture goes with one of the mirrored halves
            crossed = Counter((e.size, e.colour, e.shape) for e in missing)
            assert len(crossed) == 8 and len(set(crossed.values())) == 1
    missing = [text for k in range(REPEATS) for text in spanned(4, k).missing]
    assert len(set(missing)) == len(missing) == 16  # each of the 16 simple elements once


@pytest.mark.parametrize(("scale", "most"), [("laptop", 2), ("paper", 4)])
def test_no_image_shows_more_elements_than_the_plan_allows(scale, most):
    for plan in SCALES[scale]["diversity"].plans():
        counts = {len(plan.images.images().scene(0, k).elements) for k in range(60)}
        assert counts == set(range(most + 1)), plan.name
        assert plan.recipe.denoiser.template_share == plan.recipe.denoiser.generic_caption == 0


def test_a_control_differs_only_in_its_autoencoder():
    plans = {plan.name: plan for plan in SCALES["laptop"]["diversity"].plans()}
    control, usual = plans["own-60-0"], plans["elements-60-0"]
    assert (control.autoencoder, usual.autoencoder) == ("own", "shared")
    assert control.images == usual.images and control.recipe == usual.recipe
    every = SCALES["paper"]["diversity"].model_copy(update={"controls": (60,)})
    assert not any(plan.name.startswith(CONTROL) for plan in every.plans())


def test_the_paper_scale_has_the_papers_numbers():
    recipe = SCALES["paper"]["frequency"].recipe
    images = recipe.denoiser.images
    assert images == 100_000
    vae, unet = recipe.autoencoder, recipe.denoiser
    assert (vae.batch_size, vae.learning_rate, vae.steps * vae.batch_size) == (32, 1e-5, 8 * images)
    assert (unet.batch_size, unet.learning_rate) == (64, 6.4e-5)
    assert 15 * images - 15 * 64 < unet.steps[0] * unet.batch_size <= 15 * images
    assert SCALES["paper"]["diversity"].images == 1024
    assert all(plan.autoencoder == "own" for e in SCALES["paper"].values() for plan in e.plans())


def test_the_grid_changes_one_thing_at_a_time():
    for scale in ("laptop", "paper"):
        grid = SCALES[scale]["conditions"]
        base, *others = grid.plans()
        usual_model = SCALES[scale]["frequency"].plans()[0]
        assert base.document() == usual_model.document()  # so the frequency experiment's model is reused
        for plan in others:
            changed = {k for k in ("images", "recipe") if getattr(plan, k) != getattr(base, k)}
            assert changed == {"images" if plan.name == "named" else "recipe"}
        shorter = next(plan for plan in others if plan.name == "shorter")
        assert shorter.recipe.denoiser.steps[0] == base.recipe.denoiser.steps[0] // 2
        for longer in (plan for plan in others if plan.name == "longer"):
            assert longer.recipe.denoiser.steps[0] == base.recipe.denoiser.steps[0] * 4
        measures = {m.name: m for m in grid.measures({plan.name: plan.name for plan in grid.plans()})}
        budgets = {name: measures[name].settings().inversion for name in ("pairs-0", *grid.budgets)}
        usual = budgets["pairs-0"]
        assert budgets["fewer-steps"].steps < usual.steps < budgets["more-steps"].steps
        assert budgets["smaller-steps"].learning_rate < usual.learning_rate
        for name in grid.budgets:
            assert measures[name].model == "pairs-0"
        again = measures["another-seed"].settings()
        assert again.model_copy(update={"seed": 0}) == measures["pairs-0"].settings() and again.seed == 1
        assert measures["content"].model == "pairs-0" and measures["content"].groups != GROUPS
        assert ("one-token" in measures) == (scale == "laptop")
        if scale == "laptop":
            by_paper = measures["one-token"].settings()
            assert (by_paper.max_tokens, by_paper.inversion.steps, by_paper.inversion.batch_size) == (
                1,
                2000,
                20,
            )
        assert ("shipped" in measures) == (scale == "laptop")
        for measure in measures.values():  # measured in full, whatever the preset
            settings = measure.settings()
            assert settings.distance.threshold == 0 and settings.redraw.round_size == settings.redraw.count
            assert settings.in_distribution.ask == "always"


@given(st.integers(0, 10_000), st.booleans())
def test_only_pairs_in_the_training_set_have_names(number, named):
    pairs = CommonRareUnseenSet(named=named)
    scene = pairs.scene(0, number)
    assert (scene.name is not None) == (named and scene.group in ("common", "rare"))
    names = {
        (group, e.placed[0].element, e.placed[1].element): e.name
        for group in ("common", "rare")
        for k in range(60)
        for e in [pairs.pair(group, generator(k))]
    }
    if named:
        assert len(set(names.values())) == len(names) and set(names.values()) <= set(all_words())
    assert pairs.pair("unseen", generator(0)).name is None


def test_terse_captions_leave_out_attributes_and_no_shape():
    own = DenoiserRecipe(attribute_dropout=0.5, caption_dropout=0.0, generic_caption=0.0, template_share=0.0)
    scene = TaughtSet().scene_of_group("unseen", generator("x"))
    output = [denoiser.training_caption(scene, own, generator(k)) for k in range(300)]
    words = [part.split() for caption in output for part in caption.split(" and ")]
    assert np.mean([len(w) - 1 for w in words]) == pytest.approx(1.5, abs=0.15)
    assert {w[-1] for w in words} == {e.shape for e in scene.elements}
    full = own.model_copy(update={"attribute_dropout": 0.0})
    assert denoiser.training_caption(scene, full, generator(0)) == scene.caption


def test_plans_are_written_without_defaults_and_read_back():
    for scale in SCALES.values():
        for experiment in scale.values():
            for plan in experiment.plans():
                assert ModelPlan.model_validate(plan.document()) == plan
    assert len(ELEMENTS) == 60


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    """A BERT with random weights that knows the captions' words."""
    folder = tmp_path_factory.mktemp("bert")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *all_words()]
    (folder / "vocab.txt").write_text("\n".join(words))
    BertTokenizer(vocab=str(folder / "vocab.txt")).save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
    )
    BertModel(config).save_pretrained(folder)
    return folder


@pytest.mark.long
def test_a_model_with_a_pretrained_bert_is_trained_and_inverted(bert, tmp_path):
    recipe = ShapesRecipe(
        text=TextRecipe(pretrained=str(bert)),
        denoiser=DenoiserRecipe(channels=(32, 32), heads=4, images=600, steps=(3,), batch_size=4),
    )
    plan = ModelPlan(name="bert", images=PairsPlan(kind="pairs"), recipe=recipe)
    training = Training(plan, torch.device("cpu"), tmp_path)
    while not training.done:
        training.advance()
    frozen = BertModel.from_pretrained(bert, add_pooling_layer=False)
    for name, content in training.files().items():
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    flags = {
        "model": {"path": "bert", "device": "cpu"},
        "max_tokens": 2,
        "inversion": {"steps": 2, "batch_size": 2},
        "redraw": {"count": 2, "steps": 2},
    }
    sweep = Sweep(load_settings("laptop", None, flags), Copies(model=tmp_path / "model"))
    ours = sweep.model.text.encoders[0]
    assert isinstance(ours, BertModel)
    for name, value in frozen.state_dict().items():
        assert torch.equal(value, ours.state_dict()[name])
    # a prompt with the vectors of a word in it is the prompt with that word
    tokenizer = sweep.model.text.tokenizers[0]
    ids = tokenizer("a photo of circle", padding="max_length", max_length=32, return_tensors="pt").input_ids
    with torch.no_grad():
        expected = ours(ids).last_hidden_state
    vector = sweep.model.text.word_vector("circle")[None, None]
    torch.testing.assert_close(sweep.model.encode_prompts(["a photo of {}"], vector).states, expected)
    sweep.admit(Item("a", TaughtSet().scene(2, 0).image()))
    finished = []
    while not finished:
        finished = sweep.step()
    assert finished[0].record["sweep"][0]["tokens"] == 1


def test_the_paper_s_models_have_stable_diffusion_s_size():
    """Built without weights, they have the published UNet's and VAE's numbers of parameters."""
    recipe = SCALES["paper"]["frequency"].recipe
    with torch.device("meta"):
        vae = autoencoder.build(recipe)
        width = recipe.model_copy(update={"text": TextRecipe(width=768)})
        unet = denoiser.build(width, CLIPTokenizer.from_pretrained(MODELS / "shapes" / "tokenizer"), 32).unet
    assert sum(p.numel() for p in vae.parameters()) == 83_653_863
    assert sum(p.numel() for p in unet.parameters()) == 859_520_964
    assert unet.config.sample_size * 8 == recipe.side


@pytest.mark.long
def test_the_paper_s_scale_runs_at_a_smaller_width(bert, tmp_path, monkeypatch):
    """The entire training as in the recipe: 256 pixels, a separate autoencoder with attention, BERT, and
    unweighted errors at a constant learning rate."""
    monkeypatch.setattr(autoencoder, "SCALE_IMAGES", 8)
    recipe = SCALES["paper"]["frequency"].recipe
    vae = {"channels": (8, 8, 8, 8), "norm_groups": 4, "steps": 2, "batch_size": 2}
    unet = {"channels": (8, 8, 8, 8), "norm_groups": 4, "images": 4, "steps": (2,), "batch_size": 2}
    small = recipe.model_copy(
        update={
            "autoencoder": recipe.autoencoder.model_copy(update=vae),
            "text": TextRecipe(pretrained=str(bert)),
            "denoiser": recipe.denoiser.model_copy(update=unet),
        }
    )
    plan = ModelPlan(name="p", images=PairsPlan(kind="pairs"), recipe=small, autoencoder="own")
    training = Training(plan, torch.device("cpu"), tmp_path)
    while not training.done:
        training.advance()
    assert set(training.record()["losses"]) == {"autoencoder", "denoiser-1"}
    for name, content in training.files().items():
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    redraw = SCALES["paper"]["diversity"].redraw.model_copy(update={"steps": 2})
    wanted = ("big red full square",)
    measure = ElementsMeasure(kind="elements", name="p", model="p", wanted=wanted, images=2, redraw=redraw)
    work = ElementsMeasuring(measure, tmp_path / "model", "cpu")
    while not work.done:
        work.advance()
    assert [messages["images"] for messages in work.record()["prompts"]] == [2, 2]
    sheet = Image.open(io.BytesIO(work.files()["drawn-empty.webp"]))
    assert sheet.height == 256 + 4


def test_elements_are_drawn_with_the_given_frequencies():
    rare, often = "big red full square", "small blue empty star"
    usual = ElementsPlan(kind="elements", empty_share=0.0)
    output = usual.model_copy(update={"frequencies": {rare: 0.1, often: 30.0}})
    assert ModelPlan.model_validate(ModelPlan(name="x", images=output).document()).images == output
    counts = Counter(str(e) for n in range(4000) for e in output.images().scene(0, n).elements)
    drawn, total = sum(counts.values()), 58 + 0.1 + 30
    assert counts[often] / drawn == pytest.approx(30 / total, abs=0.02)
    assert 1 <= counts[rare] < 3 * drawn * 0.1 / total + 5
    others = [counts[str(e)] / drawn for e in output.shown if str(e) not in (rare, often)]
    assert np.mean(others) == pytest.approx(1 / total, rel=0.05) and min(others) > 0.5 / total
    alike = usual.model_copy(update={"frequencies": {often: 1.0}})
    assert usual.images() == UniformSet(empty_share=0.0) != alike.images()


def test_invalid_plans_are_refused():
    for wrong, match in (
        ({"missing": ("big red full square and big red full circle",)}, "is not one element"),
        ({"colours": ("red",), "missing": ("big blue full circle",)}, "big blue full circle"),
        (
            {
                "colours": ("red",),
                "shapes": ("circle",),
                "sizes": ("big",),
                "textures": ("full",),
                "missing": ("big red full circle",),
            },
            "missing",
        ),
        ({"frequencies": {"red square": 2}}, "size colour"),
        ({"frequencies": {"big red full square": 0}}, "greater than 0"),
        ({"colours": ("red",), "frequencies": {"big blue full circle": 2}}, "big blue full circle"),
    ):
        with pytest.raises(ValueError, match=match):
            ElementsPlan(kind="elements", **wrong)
    with pytest.raises(ValueError, match="common_share"):
        PairsPlan(kind="pairs", common_share=0.8, rare_share=0.2)
    with pytest.raises(ValueError, match="autoencoder"):
        ModelPlan(name="x", images=PairsPlan(kind="pairs"), recipe=ShapesRecipe(side=128))
    for experiment in SCALES["laptop"].values():
        with pytest.raises(ValueError, match="seed 3"):
            type(experiment).model_validate({**experiment.model_dump(), "recipe": {"seed": 3}})


def test_models_are_also_measured_on_elements_in_their_training_set():
    diversity = SCALES["laptop"]["diversity"]
    plans = {plan.name: plan for plan in diversity.plans()}
    measures = diversity.measures({name: name for name in plans})
    assert [m.name for m in measures] == [*plans, *(f"{name}-shown" for name in plans)]
    for measure in measures[len(plans) :]:
        images = plans[measure.model].images
        shown = {str(element) for element in images.shown}
        assert set(measure.wanted) <= shown and not set(measure.wanted) & set(images.missing)
        assert min(len(shown), 6) <= len(measure.wanted) <= 8
