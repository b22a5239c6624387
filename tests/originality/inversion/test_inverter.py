"""Textual inversion against diffusers' own parts and against a plain reference."""

from __future__ import annotations

import math
from contextlib import contextmanager

import pytest
import torch
from diffusers import StableDiffusionPipeline

from originality.contract.config import SettingsError
from originality.inversion.inverter import Inverter, invert
from originality.model.model_folder import open_model
from originality.model.prompt_embeddings import word_tokens
from originality.model.randomness import keyed_generator
from originality.settings.domains import DOMAINS
from originality.settings.inversion import InversionSettings
from originality.settings.parts import ModelSettings
from originality.shapes.image_sets import TaughtSet

# Private: Module._forward_hooks, because torch has no public call that lists the hooks of a module.

SETTINGS = InversionSettings(steps=3, batch_size=4, learning_rate=1e-2, lanes=3)


@contextmanager
def watched(model, tell):
    """Calls ``tell`` with the number of samples before every pass through the UNet."""
    hook = model.unet.register_forward_pre_hook(lambda _unet, given: tell(len(given[0])))
    try:
        yield
    finally:
        hook.remove()


@pytest.fixture(scope="module")
def pipeline():
    pipe = StableDiffusionPipeline.from_pretrained(
        open_model(ModelSettings()).path, use_safetensors=True, dtype=torch.float32
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture(scope="module")
def inverter(model):
    return Inverter(model, DOMAINS["shapes"], SETTINGS, seed=5)


@pytest.fixture(scope="module")
def images(model):
    scenes = [TaughtSet().scene(2, k) for k in range(4)]
    return [model.encode(model.fit(s.image())) for s in scenes]


def test_noise_prediction_equals_the_pipelines_with_the_word_loaded(model, pipeline):
    """Injected vectors against load_textual_inversion: equal text embeddings, equal noise prediction."""
    vectors = torch.randn((3, 128), generator=keyed_generator("vectors")) * 0.1
    pipeline.load_textual_inversion({"<w>": vectors})
    ours = model.encode_prompts(["a picture of {}", "{}"], vectors.expand(2, -1, -1))
    theirs = torch.cat([pipeline.encode_prompt(p, "cpu", 1, False)[0] for p in ("a picture of <w>", "<w>")])
    assert torch.equal(ours.states, theirs)
    noisy = torch.randn((2, *model.latent_shape), generator=keyed_generator("noisy"))
    t = torch.tensor([10, 700])
    assert torch.equal(model.predict(noisy, t, ours), pipeline.unet(noisy, t, theirs).sample)


def test_prompts_without_a_word_equal_the_tokenizers_own(model):
    for text in ("", "a photo of big red full circle", "zebra, and 3 naïve cats!"):
        own = model.text.tokenizers[0](text, padding="max_length", return_tensors="pt").input_ids
        assert torch.equal(model.text.tokenise([text], 0).ids[:, 0], own)


def test_injection_leaves_table_and_tokenizer_as_they_were(model, inverter, images):
    table = model.text.tables[0]
    before, words = table.weight.clone(), len(model.text.tokenizers[0])
    invert(inverter, [("a", images[0], 2)])
    assert torch.equal(table.weight, before)
    assert len(model.text.tokenizers[0]) == words
    assert not table._forward_hooks


def test_one_step_has_the_gradient_of_a_full_embedding_table(model, pipeline, inverter, images):
    """Against a reference that adds m rows to the token table and differentiates all of it."""
    lane = inverter.open("a", images[0], 3)
    (ours,) = torch.autograd.grad(inverter.losses([lane] * 3)[0], lane.vectors)

    drawn = inverter.step_noise(lane)
    (tokenizer,) = model.text.tokenizers
    encoder = type(model.text.encoders[0])(model.text.encoders[0].config)
    encoder.load_state_dict(model.text.encoders[0].state_dict())
    encoder.resize_token_embeddings(len(tokenizer) + 3, mean_resizing=False)
    table = encoder.get_input_embeddings().weight
    table.data[-3:] = model.text.word_vector("shape")
    rows = list(range(len(tokenizer), len(tokenizer) + 3))
    ids = []
    for k in drawn.templates[drawn.template_of]:
        before, after = DOMAINS["shapes"].templates[k].split("{}")
        words = [tokenizer(x, add_special_tokens=False).input_ids for x in (before, after)]
        row = [tokenizer.bos_token_id, *words[0], *rows, *words[1]]
        ids.append(row + [tokenizer.eos_token_id] * (tokenizer.model_max_length - len(row)))
    noise = drawn.noise
    alpha = model.alphas_cumprod[drawn.timesteps].view(-1, 1, 1, 1)
    noisy = alpha.sqrt() * drawn.latents + (1 - alpha).sqrt() * noise
    predicted = pipeline.unet(noisy, drawn.timesteps, encoder(torch.tensor(ids))[0]).sample
    torch.nn.functional.mse_loss(predicted, noise).backward()
    assert torch.allclose(ours, table.grad[-3:], rtol=1e-3, atol=1e-7)
    assert ours.abs().max() > 0


def test_an_update_is_adam_without_decay(inverter, images):
    lane = inverter.open("a", images[0], 1)
    start = lane.vectors.detach().clone()
    (gradient,) = torch.autograd.grad(inverter.losses([lane] * 3)[0], lane.vectors)
    inverter.advance([lane])
    expected = start - SETTINGS.learning_rate * gradient / (gradient.abs() + 1e-8)
    assert torch.allclose(lane.vectors, expected, atol=1e-6)


def test_a_lane_depends_on_its_key_and_not_on_its_neighbours(model, inverter, images):
    together = invert(inverter, [("a", images[0], 2), ("b", images[1], 5), ("c", images[2], 1)])
    alone = invert(inverter, [("a", images[0], 2)])
    others = invert(inverter, [("a", images[0], 2), ("d", images[3], 4)])
    for other in (alone[0], others[0]):
        assert torch.equal(together[0].vectors, other.vectors)
        assert together[0].losses == other.losses
    moved = invert(inverter, [("b", images[1], 5), ("a", images[0], 2)])
    assert torch.equal(together[0].vectors, moved[1].vectors)
    seeded = invert(Inverter(model, DOMAINS["shapes"], SETTINGS, seed=6), [("a", images[0], 2)])
    assert not torch.equal(together[0].vectors, seeded[0].vectors)


@pytest.mark.parametrize("most", [1, 2, 3, 4, 5, 8, 11])
def test_a_gradient_of_smaller_passes_is_the_same(inverter, images, most):
    lanes = [inverter.open(name, images[k], 1 + k) for k, name in enumerate("abc")]
    sizes = []
    with watched(inverter.model, sizes.append):
        parts = inverter.gradients(lanes, most)
    assert set(sizes) == ({most // 4 * 4} if most >= 4 else {most, 4 % most or most})
    for (loss, gradient), (other, whole) in zip(parts, inverter.gradients(lanes, 12), strict=True):
        assert loss.item() == pytest.approx(other.item(), rel=1e-5)
        assert (gradient - whole).norm() < 1e-4 * whole.norm()
    for others in ([], [lanes[0]], [lanes[1], lanes[0]]):
        (loss, gradient), *_ = inverter.gradients([lanes[2], *others], most)
        assert loss == parts[2][0] and torch.equal(gradient, parts[2][1])


def test_a_step_that_runs_out_of_memory_is_repeated_with_half_the_samples(model, images):
    """Once before any gradient is known, and once when part of it is."""
    sizes = []

    def full(size):
        sizes.append(size)
        if len(sizes) in (1, 3):
            raise torch.OutOfMemoryError

    poor, small = (Inverter(model, DOMAINS["shapes"], SETTINGS, seed=5) for _ in range(2))
    with watched(model, full):
        short = invert(poor, [("a", images[0], 2), ("b", images[1], 1)])
    assert sizes == [12, 4, 4] + [3, 1] * 2 * SETTINGS.steps
    assert poor.passes.max_samples == 3
    small.passes.max_samples = 3
    for lane, other in zip(short, invert(small, [("a", images[0], 2), ("b", images[1], 1)]), strict=True):
        assert torch.equal(lane.vectors, other.vectors)
        assert lane.losses == other.losses


def test_a_step_without_memory_for_one_sample_moves_nothing(model, images):
    def full(_size):
        raise torch.OutOfMemoryError("CUDA out of memory")

    inverter = Inverter(model, DOMAINS["shapes"], SETTINGS, seed=5)
    lane = inverter.open("a", images[0], 1)
    with watched(model, full), pytest.raises(torch.OutOfMemoryError):
        inverter.advance([lane])
    assert torch.equal(lane.vectors, inverter.open("a", images[0], 1).vectors)
    assert (lane.step, lane.losses, lane.optimiser.state) == (0, [], {})


def test_more_images_than_lanes_are_all_finished_in_turn(inverter, images):
    seen = []
    lanes = invert(
        inverter,
        [(str(k), images[k % 4], 1 + k % 2) for k in range(5)],
        on_step=lambda batch: seen.append(len(batch)),
    )
    assert [lane.step for lane in lanes] == [3] * 5
    assert [lane.image_id for lane in lanes] == list("01234")
    assert sum(seen) == 15
    assert max(seen) <= 3


def test_a_lane_whose_loss_is_not_finite_does_not_fail_others(inverter, images):
    broken = type(images[0])(images[0].mean * math.nan, images[0].std)
    good, bad = invert(inverter, [("a", images[0], 1), ("b", broken, 1)])
    assert bad.failure and bad.failure.endswith("prediction of step 0 is not finite")
    assert good.failure is None
    assert torch.equal(good.vectors, invert(inverter, [("a", images[0], 1)])[0].vectors)
    assert torch.isfinite(bad.vectors).all()


def test_inversion_lowers_the_loss_of_its_image(model, images):
    settings = InversionSettings(steps=40, batch_size=8, learning_rate=2e-2, timesteps="stratified", lanes=1)
    inverter = Inverter(model, DOMAINS["shapes"], settings, seed=0)
    (lane,) = invert(inverter, [("a", images[1], 3)])
    assert sum(lane.losses[-10:]) < sum(lane.losses[:10])


def test_stratified_timesteps_take_one_from_each_part(model, images):
    settings = SETTINGS.model_copy(update={"timesteps": "stratified"})
    lane = (inverter := Inverter(model, DOMAINS["shapes"], settings, 0)).open("a", images[0], 1)
    assert [int(t) // 250 for t in inverter.step_noise(lane).timesteps] == [0, 1, 2, 3]


def test_prompts_and_words_that_the_model_cannot_encode_are_refused(model):
    with pytest.raises(SettingsError, match="template"):
        model.text.tokenise(["a " * 40 + "{}"], 1)
    with pytest.raises(SettingsError, match="'rhinoceros' is 9 tokens"):
        model.text.word_vector("rhinoceros")


def test_the_tokens_of_an_initial_word_are_averaged_if_so_set(model):
    table = model.text.tables[0].weight
    dog, cat = (model.text.word_vector(word) for word in ("dog", "cat"))
    ids = word_tokens(model.text.tokenizers[0], "dog cat", "mean")
    assert torch.equal(dog, table[ids[0]]) and torch.equal(cat, table[ids[1]])
    both = model.text.word_vector("dog cat", "mean")
    assert torch.allclose(both, (dog + cat) / 2, rtol=0, atol=1e-7) and not torch.equal(both, dog)
    settings = SETTINGS.model_copy(update={"initial_tokens": "mean"})
    domain = DOMAINS["shapes"].model_copy(update={"initial_words": ("dog cat",)})
    lane = Inverter(model, domain, settings, seed=0).open("a", None, 3)
    assert torch.equal(lane.vectors, both.expand(3, -1))


@pytest.mark.parametrize("word", ["", " ", "<|endoftext|>", "dog <|startoftext|>"])
@pytest.mark.parametrize("several", ["one", "mean"])
def test_an_initial_word_without_tokens_is_refused(model, word, several):
    with pytest.raises(SettingsError, match="no token"):
        word_tokens(model.text.tokenizers[0], word, several)


@pytest.mark.parametrize("most", [None, 5, 4, 3, 1])
def test_each_prompt_is_encoded_once_per_step_however_small_the_passes(model, images, most, monkeypatch):
    inverter = Inverter(model, DOMAINS["shapes"], SETTINGS, seed=5)
    lanes = [inverter.open(name, images[0], m) for name, m in (("a", 1), ("b", 3))]
    requested = [len(inverter.step_noise(lane).templates) for lane in lanes]
    requested += [] if most else requested[:1]  # a full pass has a third lane
    read, encode = [], model.text.encode
    monkeypatch.setattr(
        model.text, "encode", lambda prompts, own: read.append(len(prompts.ids)) or encode(prompts, own)
    )
    inverter.passes.max_samples = most
    inverter.advance(lanes)
    assert sum(read) == sum(requested)
