"""The training of the shapes model at a tiny size: it resumes to the same numbers."""

from __future__ import annotations

import json
import math
import os
import signal
import sys

import pytest
import torch

from originality.model.diffusion import LatentDiffusion
from originality.settings.parts import ModelSettings
from originality.shapes.image_sets import Scene, TaughtSet, generator
from originality.shapes.motifs import all_motifs
from originality.training.shapes_model import autoencoder, denoiser
from originality.training.shapes_model.assemble import assemble
from originality.training.shapes_model.latents import encode_set
from originality.training.shapes_model.recipe import AutoencoderRecipe, DenoiserRecipe, ShapesRecipe
from originality.training.shapes_model.vocabulary import all_words, learn_merges, save_tokenizer
from originality.training.stage import Processes, Stage, decay_start, rate_factor, run_stage

TINY = ShapesRecipe(
    autoencoder=AutoencoderRecipe(channels=(8, 8, 8, 8), steps=3, batch_size=2),
    denoiser=DenoiserRecipe(channels=(32, 32), heads=4, images=64, steps=(6,), batch_size=4),
)


def run_toy(folder, interrupt_at=None, steps=12, decay_share=0.5):
    """A linear fit that raises at step ``interrupt_at``, like a killed process."""
    torch.manual_seed(0)
    module = torch.nn.ModuleDict({"fit": torch.nn.Linear(4, 1)})

    def loss_at(step):
        if step == interrupt_at:
            raise InterruptedError
        x = torch.randn((8, 4), generator=torch.Generator().manual_seed(step))
        return (module["fit"](x) - x.sum(1, keepdim=True)).square().mean()

    stage = Stage(
        "toy",
        module,
        loss_at,
        steps=steps,
        learning_rate=0.05,
        warmup=2,
        weight_decay=0.01,
        ema_decay=0.9,
        decay_share=decay_share,
    )
    run_stage(stage, folder, checkpoint_seconds=0.0)
    return [p.detach().clone() for p in module.parameters()], stage.average.mean


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a[0] + a[1], b[0] + b[1], strict=True))


@pytest.mark.parametrize("cut", [1, 5, 6, 7, 11])
def test_an_interrupted_stage_resumes_to_the_same_weights(tmp_path, cut):
    uninterrupted = run_toy(tmp_path / "uninterrupted")
    with pytest.raises(InterruptedError):
        run_toy(tmp_path / "cut", interrupt_at=cut)
    resumed = run_toy(tmp_path / "cut")
    assert same(uninterrupted, resumed)
    curves = [json.loads((tmp_path / d / "toy.json").read_text())["loss"] for d in ("uninterrupted", "cut")]
    assert curves[0] == curves[1]
    assert same(resumed, run_toy(tmp_path / "cut", interrupt_at=0))  # finished: only loaded


def fit_in_process(rank, size, folder, rendezvous):
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=size
    )
    torch.manual_seed(0)
    module = torch.nn.ModuleDict({"fit": torch.nn.Linear(4, 1)})
    part = Processes.current().share(8)

    def loss_at(step):
        if step == 7 and rank == 0 and not (folder / "asked").exists():
            (folder / "asked").touch()
            os.kill(os.getpid(), signal.SIGTERM)  # ask one of the processes to stop
        x = torch.randn((8, 4), generator=torch.Generator().manual_seed(step))[part]
        return (module["fit"](x) - x.sum(1, keepdim=True)).square().mean()

    recipe = {
        "steps": 12,
        "learning_rate": 0.05,
        "warmup": 2,
        "weight_decay": 0.01,
        "ema_decay": 0.9,
        "decay_share": 0.5,
    }
    try:
        run_stage(Stage("toy", module, loss_at, **recipe), folder)
    except KeyboardInterrupt:
        run_stage(Stage("toy", module, loss_at, **recipe), folder)
    torch.save([p.detach() for p in module.parameters()], folder / f"weights-{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.long
def test_several_processes_train_as_one_and_stop_together(tmp_path):
    alone = run_toy(tmp_path / "alone")[0]
    torch.multiprocessing.spawn(fit_in_process, (2, tmp_path, tmp_path / "meet"), nprocs=2)
    first, second = (torch.load(tmp_path / f"weights-{rank}.pt") for rank in (0, 1))
    for weight, same_weight, own in zip(first, second, alone, strict=True):
        assert torch.equal(weight, same_weight)
        torch.testing.assert_close(weight, own)
    curve = json.loads((tmp_path / "toy.json").read_text())["loss"]
    uninterrupted = json.loads((tmp_path / "alone" / "toy.json").read_text())["loss"]
    assert curve == pytest.approx(uninterrupted, rel=1e-4)


def test_a_batch_that_cannot_be_divided_evenly_is_refused():
    assert list(range(8))[Processes(1, 2).share(8)] == [1, 3, 5, 7]
    with pytest.raises(ValueError, match="3 processes"):
        Processes(0, 3).share(8)


@pytest.mark.parametrize("steps", [14, 20, 40])
def test_a_longer_recipe_resumes_from_the_plateau(tmp_path, steps):
    run_toy(tmp_path / "short", steps=12, decay_share=0.5)
    longer = run_toy(tmp_path / "short", steps=steps, decay_share=0.5)
    assert same(longer, run_toy(tmp_path / "long", steps=steps, decay_share=0.5))


def test_a_checkpoint_of_a_different_recipe_is_refused(tmp_path):
    run_toy(tmp_path)
    with pytest.raises(ValueError, match="toy"):
        run_toy(tmp_path, decay_share=0.25)


def test_a_loss_that_is_not_finite_is_an_error(tmp_path):
    module = torch.nn.ModuleDict({"fit": torch.nn.Linear(1, 1)})
    with pytest.raises(FloatingPointError, match="learning rate"):
        stage = Stage(
            "bad",
            module,
            lambda step: module["fit"].weight.sum() * math.nan,
            steps=2,
            learning_rate=1.0,
            warmup=1,
            weight_decay=0.0,
            ema_decay=0.9,
        )
        run_stage(stage, tmp_path)


def test_the_learning_rate_warms_up_stays_and_falls():
    rates = [rate_factor(k, 100, 10, 0.2) for k in range(100)]
    assert rates[0] == 0.1
    assert rates[10:80] == [1.0] * 70
    assert decay_start(100, 10, 0.2) == 80
    assert rates[80:] == sorted(rates[80:], reverse=True)
    assert rates[-1] < 0.01


@pytest.mark.long
def test_the_stages_make_a_folder_that_draws(tmp_path):
    images = TaughtSet()
    vae = autoencoder.train(TINY, tmp_path, images)
    moments = encode_set(vae, images, 0, 64, tmp_path)
    again = encode_set(vae, images, 0, 64, tmp_path)
    assert (moments == again).all()
    tokenizer = save_tokenizer(all_words(), TINY.text.max_length, tmp_path / "tokenizer")
    trained = denoiser.train(TINY, vae, moments, images, tokenizer, tmp_path)
    assemble(vae, trained, tmp_path / "shapes")
    model = LatentDiffusion(ModelSettings(path=str(tmp_path / "shapes"), device="cpu"))
    assert model.latent_shape == (8, 8, 8)
    assert sys.float_info.min / 2 > 0  # flushing denormals ends with the training


@pytest.mark.long
def test_a_second_round_starts_from_a_model_folder(tmp_path):
    images = TaughtSet()
    vae = autoencoder.train(TINY, tmp_path, images)
    moments = encode_set(vae, images, 0, 64, tmp_path)
    tokenizer = save_tokenizer(all_words(), TINY.text.max_length, tmp_path / "tokenizer")

    def train(steps, folder, taught=None):
        recipe = TINY.model_copy(update={"denoiser": TINY.denoiser.model_copy(update={"steps": steps})})
        return denoiser.train(recipe, vae, moments, images, tokenizer, tmp_path / folder, taught)

    both = train((6, 6), "both")
    assemble(vae, train((6,), "first"), tmp_path / "model")
    second = train((6, 6), "second", tmp_path / "model")
    for ours, theirs in zip(both.unet.parameters(), second.unet.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, atol=5e-3, rtol=5e-3)  # the folder holds a UNet in fp16
    curves = [json.loads((tmp_path / f / "denoiser-2.json").read_text())["loss"] for f in ("both", "second")]
    assert curves[0] == pytest.approx(curves[1], rel=0.02)
    assert not (tmp_path / "second" / "denoiser-1.json").exists()
    other = save_tokenizer((*all_words(), "walrus"), TINY.text.max_length, tmp_path / "other")
    with pytest.raises(ValueError, match="vocabulary"):
        denoiser.train(TINY, vae, moments, images, other, tmp_path / "refused", tmp_path / "model")


def test_the_same_words_always_get_the_same_ids(tmp_path):
    for k, words in enumerate((all_words(), reversed(all_words()))):
        save_tokenizer(words, 32, tmp_path / str(k))
    first, second = ((tmp_path / str(k) / "vocab.json").read_text() for k in range(2))
    assert first == second
    assert learn_merges(["ab", "abc", "b"]) == [("a", "b"), ("a", "b</w>"), ("ab", "c</w>")]


def test_every_word_is_one_token(tmp_path):
    tokenizer = save_tokenizer(all_words(), 32, tmp_path)
    for word in (*all_words(), "shape", "house", "painting", "cat"):
        assert len(tokenizer(word, add_special_tokens=False).input_ids) == 1


def test_captions_come_in_every_form():
    own = DenoiserRecipe()
    motif = all_motifs()[0]
    scene = TaughtSet().scene_of_group("familiar", generator("x"))
    captions = [denoiser.training_caption(scene, own, generator(k)) for k in range(400)]
    assert 0.04 < sum(s == "" for s in captions) / 400 < 0.18
    assert any("shape" in s for s in captions)
    assert any(s == scene.name for s in captions)
    assert any(s == scene.caption for s in captions)
    assert any(s.startswith(("a ", "an ", "the ")) and scene.name in s for s in captions)
    assert denoiser.training_caption(Scene((), "empty"), own, generator(0)) == ""
    assert motif.name is not None
