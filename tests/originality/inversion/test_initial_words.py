"""Initial words: the image's own, its domain's, or CLIP's choice."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch
import transformers as tf

from originality.contract.config import SettingsError
from originality.contract.scorer import Item
from originality.inversion.initial_words import (
    InitialWords,
    WordUnusable,
    load_chooser,
    subject_switched,
    words_missing,
)
from originality.model.diffusers_folder import MODELS
from originality.model.model_folder import open_model
from originality.settings.audit import AuditSettings
from originality.settings.domains import DOMAINS, WordMissing
from originality.settings.parts import ModelSettings
from originality.settings.presets import load_settings
from originality.shapes.image_sets import TaughtSet
from originality.sweep.image_state import encode, unpack
from originality.sweep.preflight import preflight
from originality.sweep.sweep import Sweep
from originality.vision.clip import PROMPT, load_clip
from originality.vision.clip_towers import load_model_clip, text_tower
from tests.support.sweeps import run

ANIMALS = ("dog", "cat", "bird")
COLOURS = [(0, 0, 0), (255, 255, 255), (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0)]
PICTURES = np.stack([np.full((64, 64, 3), colour, np.uint8) for colour in COLOURS])
"""Different enough for random weights to distinguish them."""


def of(k: int, word: str | None = None) -> Item:
    return Item(f"image-{k}", TaughtSet().scene(2, k).image(), {"word": word})


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """CLIP with random weights in two folders: one model, and as the two towers of a diffusion model."""
    folder = tmp_path_factory.mktemp("clip")
    tokenizer = tf.CLIPTokenizer.from_pretrained(MODELS / "shapes" / "tokenizer")
    tower = {
        **{"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2},
        **{"projection_dim": 16, "initializer_factor": 3.0},
    }
    words = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("bos", "eos", "pad")}
    config = tf.CLIPConfig(
        text_config={**tower, **words, "vocab_size": len(tokenizer), "max_position_embeddings": 20},
        vision_config={**tower, "image_size": 32, "patch_size": 8},
        projection_dim=16,
        logit_scale_init_value=float(np.log(100)),
    )
    side = {"height": 32, "width": 32}
    processor = tf.CLIPImageProcessor(size=side, crop_size=side)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        whole = tf.CLIPModel(config)
    for saved in (whole, tokenizer, processor):
        saved.save_pretrained(folder / "whole")
    model = folder / "model"
    shutil.copytree(MODELS / "shapes", model)
    texts = tf.CLIPTextModelWithProjection(whole.config.text_config)
    texts.load_state_dict(whole.state_dict(), strict=False)
    images = tf.CLIPVisionModelWithProjection(whole.config.vision_config)
    images.load_state_dict(whole.state_dict(), strict=False)
    for saved, part in (
        (texts, "text_encoder_2"),
        (tokenizer, "tokenizer_2"),
        (images, "image_encoder"),
        (processor, "feature_extractor"),
    ):
        saved.save_pretrained(model / part)
    return folder / "whole", model


@pytest.fixture(scope="module")
def animals(quick) -> AuditSettings:
    """Animals with the fewest steps and redraws."""
    inversion = quick.inversion.model_copy(update={"steps": 3, "batch_size": 2})
    redraw = quick.redraw.model_copy(update={"count": 2, "steps": 1})
    small = {"domain": "animals", "max_tokens": 1, "inversion": inversion, "redraw": redraw}
    return quick.model_copy(update=small)


@pytest.fixture(scope="module")
def sweep(animals):
    return Sweep(animals)


def test_every_image_starts_from_its_own_word(sweep):
    done = run(sweep, of(0, "dog"), of(1, "bird"), of(4, "house"))
    assert {k: f.record["initial_word"] for k, f in done.items()} == {
        "image-0": "dog",
        "image-1": "bird",
        "image-4": "house",
    }
    assert {f.record["status"] for f in done.values()} == {"judged"}
    assert {f.record["edit_subject"] for f in done.values()} == {None}  # the check is of positions
    for word in ("dog", "house"):
        lane = sweep.inverter.open("a", None, 2, word)
        assert torch.equal(lane.vectors.detach(), sweep.model.text.word_vector(word).expand(2, -1))
    other = run(sweep, of(0, "cat"))["image-0"]
    assert other.files["tokens.safetensors"] != done["image-0"].files["tokens.safetensors"]


def test_an_image_without_a_word_does_not_fail_others(sweep):
    with pytest.raises(WordMissing, match=r"\(dog, cat, bird\)"):
        sweep.admit(of(0))
    assert not sweep.images


@pytest.mark.parametrize(
    ("word", "output"),
    [
        ("rhinoceros", "initial word 'rhinoceros' is 9 tokens of this model"),
        ("dog cat", "initial word 'dog cat' is 2 tokens"),
        ("<|endoftext|>", "no token in this model"),
        ("\x1b[2J\n" + "x" * 10_000, r"initial word '\\x1b\[2J\\nxxx"),
    ],
)
def test_an_unusable_initial_word_fails_only_its_image(sweep, word, output):
    with pytest.raises(WordUnusable, match=output) as caught:
        sweep.admit(of(0, word))
    assert not isinstance(caught.value, SettingsError)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 300
    assert not sweep.images


def test_a_word_of_several_tokens_starts_from_their_mean_if_so_set(animals):
    inversion = animals.inversion.model_copy(update={"initial_tokens": "mean"})
    sweep = Sweep(animals.model_copy(update={"inversion": inversion}))
    assert sweep.words.of("dog cat", PICTURES[0]) == "dog cat"
    both = [sweep.inverter.open("a", None, 1, word).vectors.detach() for word in ("dog", "cat")]
    mean = sweep.inverter.open("a", None, 1, "dog cat").vectors.detach()
    assert torch.allclose(mean, (both[0] + both[1]) / 2, rtol=0, atol=1e-7)


def test_a_snapshot_of_a_different_initial_word_is_refused(sweep):
    sweep.admit(of(0, "dog"))
    for _ in range(2):
        sweep.step()
    kept = sweep.snapshot("image-0")
    del sweep.images["image-0"]
    with pytest.raises(ValueError, match="initial word"):
        sweep.restore(of(0, "cat"), kept)
    saved, tensors = unpack(kept)
    with pytest.raises(ValueError, match="initial word"):
        sweep.restore(of(0, "dog"), encode({**saved.model_dump(mode="json"), "word": "bird"}, tensors))
    with pytest.raises(ValueError, match="cannot be read"):
        output = saved.model_dump(mode="json")
        del output["word"]
        sweep.restore(of(0, "dog"), encode(output, tensors))
    assert not sweep.images
    sweep.restore(of(0, "dog"), kept)
    assert sweep.snapshot("image-0") == kept
    del sweep.images["image-0"]


def test_the_edit_subject_depends_on_the_initial_word(animals, monkeypatch):
    """ "cat in S*" for a dog, and "car in S*" for a cat, in one run."""
    check = animals.in_distribution.model_copy(update={"check": "editability"})
    far = animals.distance.model_copy(update={"threshold": 9.0})
    sweep = Sweep(animals.model_copy(update={"in_distribution": check, "distance": far}))
    requested = []
    noise = sweep.judge.noise

    def drawn(image_id, tokens, prompt, numbers):
        requested.append((image_id, prompt))
        return noise(image_id, tokens, prompt, numbers)

    monkeypatch.setattr(sweep.judge, "noise", drawn)
    done = run(sweep, of(0, "dog"), of(1, "cat"))
    assert [done[f"image-{k}"].record["edit_subject"] for k in (0, 1)] == ["cat", "car"]
    assert {("image-0", "cat in {}"), ("image-1", "car in {}")} <= set(requested)
    assert not {("image-0", "car in {}"), ("image-1", "cat in {}")} & set(requested)
    assert sweep.check("cat") is sweep.check("cat") is not sweep.check("car")


def reference(folder, pictures, texts):
    """Probabilities by transformers' CLIPModel."""
    whole, processor = tf.CLIPModel.from_pretrained(folder), tf.CLIPImageProcessor.from_pretrained(folder)
    tokenizer = tf.CLIPTokenizer.from_pretrained(folder)
    with torch.inference_mode():
        logits = whole(
            **tokenizer(texts, padding="max_length", max_length=20, return_tensors="pt"),
            **processor(list(pictures), input_data_format="channels_last", return_tensors="pt"),
        ).logits_per_image
    return logits.double().softmax(-1).numpy()


def test_a_models_own_towers_give_clips_probabilities(clip):
    whole, model = clip
    texts = [PROMPT.format(word) for word in ANIMALS]
    output = load_model_clip(model).probabilities(PICTURES, texts)
    assert output.shape == (6, 3) and output.dtype == np.float64
    assert np.allclose(output.sum(1), 1)
    assert np.allclose(output, reference(whole, PICTURES, texts), atol=1e-4)
    assert np.allclose(output, load_clip(whole).probabilities(PICTURES, texts), atol=1e-4)
    with pytest.raises(ValueError, match="longer than the 20 tokens"):
        load_model_clip(model).probabilities(PICTURES, ["a photo " * 20])


def test_clip_chooses_among_the_words_of_the_domain(animals, clip):
    whole, folder = clip
    own = {"model": animals.model.model_copy(update={"path": str(folder)})}
    opened = open_model(animals.model, folder)
    towers = InitialWords(animals.model_copy(update=own), opened)
    assert towers.chooser.digest() == load_model_clip(folder).digest()
    judge = {"check": "editability", "detector": "clip", "folder": str(whole)}
    judged = load_settings("laptop", None, {"domain": "animals", "in_distribution": judge})
    detector = InitialWords(judged, open_model(judged.model))
    assert detector.chooser.digest() == load_clip(whole).digest()
    likely = reference(whole, PICTURES, [PROMPT.format(word) for word in ANIMALS]).argmax(1)
    expected = [ANIMALS[k] for k in likely]
    assert len(set(expected)) > 1
    assert [towers.of(None, picture) for picture in PICTURES] == expected
    assert [detector.of(None, picture) for picture in PICTURES] == expected
    assert towers.of("house", PICTURES[0]) == "house"  # the image's own word comes first
    before_the_detector = load_chooser(judged, opened)
    assert before_the_detector.digest() == load_model_clip(folder).digest()
    assert load_chooser(judged.model_copy(update={"domain": "houses"}), opened) is None


def test_a_clip_that_chooses_words_counts_in_the_judge_digest(animals, clip):
    _, folder = clip
    own = animals.model_copy(update={"model": animals.model.model_copy(update={"path": str(folder)})})
    with_towers, without = preflight(own), preflight(animals)
    assert with_towers["model_digest"] == without["model_digest"]
    assert with_towers["judge_digest"] != without["judge_digest"]
    houses = animals.model_copy(update={"domain": "houses"})
    assert preflight(houses)["judge_digest"] == without["judge_digest"]


def test_towers_of_different_embedding_spaces_are_not_used(clip, tmp_path):
    _, model = clip
    assert text_tower(model) == "text_encoder_2"
    assert text_tower(MODELS / "shapes") is None
    other = tmp_path / "model"
    shutil.copytree(model, other)
    config = other / "image_encoder" / "config.json"
    config.write_text(config.read_text().replace('"projection_dim": 16', '"projection_dim": 24'))
    assert text_tower(other) is None
    config.write_text("{")
    with pytest.raises(SettingsError, match=r"config\.json"):
        text_tower(other)


def test_a_collection_without_words_is_warned_of_unless_each_image_finds_one(animals, quick, clip):
    whole, model = clip
    own = open_model(animals.model)
    output = words_missing(animals, own)
    assert output is not None and "\n" not in output
    assert "(dog, cat, bird)" in output
    assert words_missing(quick, own) is None
    assert words_missing(animals, open_model(animals.model, model)) is None
    one = {"domain": "mine", "domains": {"mine": {"initial_word": "dog"}}}
    assert words_missing(load_settings("laptop", None, one), own) is None
    judge = {"check": "editability", "detector": "clip", "folder": str(whole)}
    judged = load_settings("laptop", None, {"domain": "animals", "in_distribution": judge})
    assert words_missing(judged, own) is None


def test_a_different_edit_subject_is_reported(quick):
    asks = {"in_distribution": {"check": "editability"}, "domain": "mine"}
    cats = load_settings("laptop", None, {**asks, "domains": {"mine": {"initial_word": "cat"}}})
    output = subject_switched(cats)
    assert output is not None and "'car'" in output
    dogs = load_settings("laptop", None, {**asks, "domains": {"mine": {"initial_word": "dog"}}})
    assert subject_switched(dogs) is None
    assert subject_switched(quick.model_copy(update={"domain": "animals"})) is None
    assert subject_switched(cats.model_copy(update={"in_distribution": quick.in_distribution})) is None


@pytest.mark.parametrize(
    ("domain", "output"),
    [
        ({"initial_words": ["dog", "rhinoceros"]}, "initial word 'rhinoceros' is 9 tokens of this model"),
        ({"initial_word": "dog", "templates": ["a {}", "a " * 40 + "{}"]}, "shorten the template"),
        ({"initial_word": "dog", "edit_subject": "a " * 40 + "z"}, "shorten the template"),
        ({"initial_word": "cat", "other_subject": "zebra crossing"}, "zebra crossing"),
    ],
)
def test_preflight_refuses_a_domain_that_does_not_suit_the_model(domain, output):
    given = {"domain": "mine", "domains": {"mine": domain}, "in_distribution": {"check": "editability"}}
    with pytest.raises(SettingsError, match=output):
        preflight(load_settings("laptop", None, given))


def test_every_domain_of_the_package_suits_the_model_that_ships():
    opened = open_model(ModelSettings())
    for name in DOMAINS:
        words = InitialWords(load_settings("laptop", None, {"domain": name}), opened)
        assert words.chooser is None


def test_an_unknown_edit_subject_fails_only_its_image(quick):
    domain = {"initial_word": "house", "other_subject": "unicorn"}
    given = {"domain": "mine", "domains": {"mine": domain}}
    check = {"check": "editability", "detector": "imagenet"}
    settings = quick.model_validate({**quick.model_dump(), **given, "in_distribution": check})
    sweep = Sweep(settings)
    picture = TaughtSet().scene(2, 0).image()
    sweep.admit(Item("b", picture, {"word": "dog"}))
    with pytest.raises(WordUnusable, match=r"'unicorn'.*word 'cat' in the list"):
        sweep.admit(Item("a", picture, {"word": "cat"}))
    assert [*sweep.images] == ["b"]
