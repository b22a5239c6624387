"""The sweep: repeats to the bit, resumes to the bit, and draws what diffusers' pipeline draws."""

from __future__ import annotations

import io

import numpy as np
import pytest
import safetensors.torch
import torch
from diffusers import StableDiffusionPipeline
from PIL import Image

from originality.diffusion import SCHEDULERS, model_folder
from originality.randomness import keyed_generator
from originality.scoring import Item
from originality.settings import ModelSettings, RedrawSettings, load_settings
from originality.sweep import Sweep
from originality.synthetic.dataset import TaughtSet

TIMES = ("finished_at", "seconds")


def run(sweep: Sweep, *items: Item):
    waiting, done = list(items), {}
    flying = len(sweep._flights)
    while waiting or flying:
        while waiting and flying < sweep.capacity:
            sweep.admit(waiting.pop(0))
            flying += 1
        for finished in sweep.step():
            flying -= 1
            done[finished.item_id] = finished
    return done


def timeless(record):
    """A record without what a clock decides."""
    row = {k: v for k, v in record.items() if k not in TIMES}
    row["sweep"] = [{k: v for k, v in a.items() if k not in TIMES} for a in row["sweep"]]
    return row


def item(k: int) -> Item:
    return Item(f"image-{k}", TaughtSet().scene(2, k).image())


@pytest.fixture(scope="module")
def sweep(quick):
    return Sweep(quick)


@pytest.fixture(scope="module")
def together(sweep):
    return run(sweep, item(0), item(1), item(4))


def test_a_verdict_is_the_same_to_the_bit_alone_or_with_neighbours(sweep, together):
    for k in (0, 1, 4):
        alone = run(sweep, item(k))[f"image-{k}"]
        other = together[f"image-{k}"]
        assert timeless(alone.record) == timeless(other.record)
        assert alone.files == other.files


def test_another_seed_gives_other_numbers(quick, together):
    other = run(Sweep(quick.model_copy(update={"seed": 1})), item(0))["image-0"]
    assert timeless(other.record) != timeless(together["image-0"].record)


def test_a_snapshot_goes_on_to_the_same_verdict(quick, together):
    first = Sweep(quick)
    for k in (0, 1):
        first.admit(item(k))
    for _ in range(6):  # into the second number of tokens
        first.step()
    snapshot = first.snapshot("image-0")
    second = Sweep(quick)
    second.restore(item(0), snapshot)
    while not (done := second.step()):
        pass
    assert timeless(done[0].record) == timeless(together["image-0"].record)
    assert done[0].files == together["image-0"].files


def test_a_snapshot_of_other_settings_is_refused(quick, sweep):
    sweep.admit(item(0))
    snapshot = sweep.snapshot("image-0")
    run(sweep)  # nothing to admit, but what is in flight is finished
    other = Sweep(quick.model_copy(update={"seed": 9}))
    with pytest.raises(ValueError, match="other settings"):
        other.restore(item(0), snapshot)


def test_records_hold_what_the_contract_says(together, quick):
    record = together["image-0"].record
    assert record["status"] == "judged"
    assert record["censored"] == (record["min_tokens"] is None)
    last = record["sweep"][-1]
    assert last["inversion_steps"] == 4
    assert last["redraws"] == 3
    assert last["unet_samples"] == 4 * 4 + 3 * 3 * 2
    files = together["image-0"].files
    words = safetensors.torch.load(files["tokens.safetensors"])
    assert {n: len(v) for n, v in words.items()} == {
        f"<s{a['tokens']}>": a["tokens"] for a in record["sweep"]
    }
    page = Image.open(io.BytesIO(files["redraws.webp"]))
    assert page.size == (8 * 64, 64 * len(record["sweep"]))
    assert Image.open(io.BytesIO(files["query.webp"])).size == (64, 64)


@pytest.mark.parametrize("name", SCHEDULERS)
def test_redraws_equal_the_pipelines_for_the_same_noise(model, name):
    """Our denoising loop against StableDiffusionPipeline with the word loaded."""
    folder = model_folder(ModelSettings())
    pipe = StableDiffusionPipeline.from_pretrained(folder, use_safetensors=True, dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    kind, extra = SCHEDULERS[name]
    pipe.scheduler = kind.from_config(model._scheduler_config, **extra)
    vectors = torch.randn((2, 128), generator=keyed_generator("vectors")) * 0.1
    pipe.load_textual_inversion({"<s2>": vectors})
    noise = torch.randn((3, *model.latent_shape), generator=keyed_generator("noise"))
    settings = RedrawSettings(count=3, steps=5, scheduler=name, guidance_scale=3.0)
    ours = model.redraw("a photo of {}", vectors, noise, settings)
    theirs = pipe(
        "a photo of <s2>",
        num_images_per_prompt=3,
        num_inference_steps=5,
        guidance_scale=3.0,
        latents=noise.clone(),
        output_type="np",
    ).images
    assert np.abs(ours.astype(int) - (theirs * 255).round().astype(int)).max() <= 1


def test_tokens_file_loads_into_a_pipeline(model, together):
    pipe = StableDiffusionPipeline.from_pretrained(model_folder(ModelSettings()), use_safetensors=True)
    words = safetensors.torch.load(together["image-0"].files["tokens.safetensors"])
    assert pipe.maybe_convert_prompt("a photo of <s2>", pipe.tokenizer) == "a photo of <s2>"
    for name, vectors in words.items():
        pipe.load_textual_inversion({name: vectors})
    assert pipe.maybe_convert_prompt("a photo of <s2>", pipe.tokenizer) == "a photo of <s2> <s2>_1"
    ids = pipe.tokenizer("<s2> <s2>_1", add_special_tokens=False).input_ids
    loaded = pipe.text_encoder.get_input_embeddings().weight[ids]
    assert torch.equal(loaded.detach(), words["<s2>"])


def test_an_image_of_another_size_or_mode_is_fitted(model):
    photo = Image.effect_noise((300, 200), 60).convert("RGBA")
    assert model.fit(photo).shape == (64, 64, 3)


def test_a_distance_that_is_no_number_is_recorded_and_the_sweep_goes_on(quick, monkeypatch):
    sweep = Sweep(quick)
    real = sweep.distance.between
    calls = []

    def sometimes(query, redraws):
        calls.append(1)
        distances = real(query, redraws)
        return distances * np.nan if len(calls) == 1 else distances

    monkeypatch.setattr(sweep.distance, "between", sometimes)
    record = run(sweep, item(0))["image-0"].record
    assert record["sweep"][0]["failure"] == "the distance of the redraws is nan"
    assert record["sweep"][0]["distance_mean"] is None
    assert record["sweep"][1]["distance_mean"] is not None
    assert record["status"] == "judged"


def test_presets_of_the_world_of_shapes_load(model):
    for preset in ("laptop", "paper-shapes"):
        assert Sweep(load_settings(preset)).capacity >= 1
