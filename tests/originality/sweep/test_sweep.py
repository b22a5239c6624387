"""The sweep: same results alone or among others, files and records, failures, little memory."""

from __future__ import annotations

import io
from contextlib import contextmanager

import numpy as np
import pytest
import safetensors.torch
import torch
from diffusers import StableDiffusionPipeline
from PIL import Image

from originality.model.diffusion import LatentDiffusion
from originality.model.model_folder import open_model
from originality.settings.parts import ModelSettings
from originality.settings.presets import load_settings
from originality.sweep.sweep import Sweep
from tests.support.sweeps import item, run, timeless


@pytest.fixture(scope="module")
def sweep(quick):
    return Sweep(quick)


@pytest.fixture(scope="module")
def together(sweep):
    return run(sweep, item(0), item(1), item(4))


@pytest.mark.long
def test_verdicts_are_bitwise_independent_of_batch_neighbours(sweep, together):
    for k in (0, 1, 4):
        alone = run(sweep, item(k))[f"image-{k}"]
        other = together[f"image-{k}"]
        assert timeless(alone.record) == timeless(other.record)
        assert alone.files == other.files


@pytest.mark.long
def test_a_different_seed_gives_different_results(quick, together):
    other = run(Sweep(quick.model_copy(update={"seed": 1})), item(0))["image-0"]
    assert timeless(other.record) != timeless(together["image-0"].record)


def test_records_and_files_follow_the_contract(together, quick):
    record = together["image-0"].record
    assert record["status"] == "judged"
    assert record["censored"] == (record["min_tokens"] is None)
    last = record["sweep"][-1]
    assert last["inversion_steps"] == 4
    assert last["redraws"] == 3
    assert last["unet_samples"] == 4 * 4 + 3 * 3 * 2
    assert together["image-0"].counters["unet_samples"] == last["unet_samples"] * len(record["sweep"])
    drawn = [found.counters.get("unet_samples_reference", 0) for found in together.values()]
    assert sum(drawn) == 3 * 3 * 2, "three draws from the plain prompt, once for all images"
    files = together["image-0"].files
    words = safetensors.torch.load(files["tokens.safetensors"])
    assert {n: len(v) for n, v in words.items()} == {
        f"<s{a['tokens']}>": a["tokens"] for a in record["sweep"]
    }
    page = Image.open(io.BytesIO(files["redraws.webp"]))
    assert page.size == (8 * 64, 64 * len(record["sweep"]))
    assert Image.open(io.BytesIO(files["query.webp"])).size == (64, 64)


def test_tokens_file_loads_into_a_pipeline(model, together):
    pipe = StableDiffusionPipeline.from_pretrained(open_model(ModelSettings()).path, use_safetensors=True)
    words = safetensors.torch.load(together["image-0"].files["tokens.safetensors"])
    assert pipe.maybe_convert_prompt("a photo of <s2>", pipe.tokenizer) == "a photo of <s2>"
    for name, vectors in words.items():
        pipe.load_textual_inversion({name: vectors})
    assert pipe.maybe_convert_prompt("a photo of <s2>", pipe.tokenizer) == "a photo of <s2> <s2>_1"
    ids = pipe.tokenizer("<s2> <s2>_1", add_special_tokens=False).input_ids
    loaded = pipe.text_encoder.get_input_embeddings().weight[ids]
    assert torch.equal(loaded.detach(), words["<s2>"])


@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
def test_an_image_of_any_size_or_mode_is_fitted(fit):
    model = LatentDiffusion(ModelSettings(device="cpu", fit=fit))
    for size in ((300, 200), (2, 10_000), (10_000, 2), (1, 1), (1, 60_000), (64, 63)):
        fitted = model.fit(Image.effect_noise(size, 60).convert("RGBA"))
        assert (fitted.shape, fitted.dtype) == ((64, 64, 3), np.uint8), size
    square = Image.effect_noise((64, 64), 60).convert("RGB")
    assert (model.fit(square) == np.asarray(square)).all()


def test_a_wide_image_is_cropped_padded_or_stretched():
    """Red, green and blue thirds of 300 x 100 pixels, sampled along the middle and down the side."""
    stripes = Image.new("RGB", (300, 100))
    colours = dict(zip("rgb", ((255, 0, 0), (0, 255, 0), (0, 0, 255)), strict=True)) | {"w": (255,) * 3}
    for k, name in enumerate("rgb"):
        stripes.paste(colours[name], (100 * k, 0, 100 * k + 100, 100))
    seen = {}
    for fit in ("crop", "pad", "stretch"):
        fitted = LatentDiffusion(ModelSettings(device="cpu", fit=fit)).fit(stripes)
        names = {colour: name for name, colour in colours.items()}
        places = ((32, 5), (32, 32), (32, 58), (5, 5), (58, 5))
        seen[fit] = "".join(names[tuple(int(v) for v in fitted[place])] for place in places)
    assert seen == {"crop": "ggggg", "pad": "rgbww", "stretch": "rgbrr"}


def test_the_fit_changes_the_digest_only_if_it_is_not_the_default():
    assert load_settings("laptop").digest() == "34cbd5fedf014275"
    assert load_settings("laptop", flags={"model": {"fit": "crop"}}).digest() == "34cbd5fedf014275"
    fits = ({"model": {"fit": fit}} for fit in ("crop", "pad", "stretch"))
    assert len({load_settings("laptop", flags=fit).digest() for fit in fits}) == 3


@pytest.mark.long
def test_a_distance_that_is_not_finite_fails_its_attempt_and_the_sweep_continues(quick, monkeypatch):
    sweep = Sweep(quick)
    real = sweep.distance.between
    calls = []

    def sometimes(query, redraws):
        calls.append(1)
        distances = real(query, redraws)
        return distances * np.nan if len(calls) == 1 else distances

    monkeypatch.setattr(sweep.distance, "between", sometimes)
    record = run(sweep, item(0))["image-0"].record
    assert "distance" in record["sweep"][0]["failure"]
    assert record["sweep"][0]["distance_mean"] is None
    assert record["sweep"][1]["distance_mean"] is not None
    assert record["status"] == "judged"


@contextmanager
def little_memory(sweep: Sweep, most: int):
    """More than ``most`` samples at once through UNet, VAE decoder or metric run out of memory inside."""
    embed = sweep.distance.embed

    def weigh(_part, given):
        if len(given[0]) > most:
            raise torch.OutOfMemoryError("CUDA out of memory")

    parts = (sweep.model.unet, sweep.model.vae.decoder)
    hooks = [part.register_forward_pre_hook(weigh) for part in parts]
    sweep.distance.embed = lambda images: weigh(None, (images,)) or embed(images)
    try:
        yield
    finally:
        sweep.distance.embed = embed
        for hook in hooks:
            hook.remove()


@pytest.mark.long
@pytest.mark.parametrize(
    ("most", "output"),
    [(5, "inversion 4, denoising 3"), (1, "inversion 1, denoising 1, decoding 1, measuring 1")],
)
def test_running_out_of_memory_changes_no_verdict(quick, together, most, output):
    runs = []
    for items in ((item(0), item(1)), (item(1),)):
        with little_memory(sweep := Sweep(quick), most):
            runs.append(run(sweep, *items))
        assert sweep.progress.endswith(f"out of memory, samples a pass: {output}")
    for name, done in runs[0].items():
        ours, theirs = timeless(done.record), timeless(together[name].record)
        rounded = dict.fromkeys(("sweep", "score", "score_low", "score_high", "confidence"))
        assert {**ours, **rounded} == {**theirs, **rounded}
        for a, b in zip(ours["sweep"], theirs["sweep"], strict=True):
            assert a.pop("distances") == pytest.approx(b.pop("distances"), abs=1e-3)
            assert a.pop("pass_probability") == pytest.approx(b.pop("pass_probability"), abs=0.02)
            assert a == pytest.approx(b, abs=1e-3)
        words, whole = (safetensors.torch.load(f.files["tokens.safetensors"]) for f in (done, together[name]))
        for m, vectors in words.items():
            assert torch.allclose(vectors, whole[m], atol=1e-5)
    together_still, alone = (r["image-1"] for r in runs)
    assert timeless(together_still.record) == timeless(alone.record)
    assert together_still.files == alone.files


def test_no_memory_for_one_sample_is_an_error(quick):
    sweep = Sweep(quick)
    sweep.admit(item(0))
    with little_memory(sweep, 0), pytest.raises(torch.OutOfMemoryError):
        sweep.step()


def test_presets_of_the_world_of_shapes_load(model):
    for preset in ("laptop", "paper-shapes"):
        assert Sweep(load_settings(preset)).capacity >= 1
