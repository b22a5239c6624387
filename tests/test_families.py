"""Every family of models against diffusers' own parts: the one that ships, others with random weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler, StableDiffusionPipeline

from originality.checkpoint import MODELS
from originality.conditioning import word_vector
from originality.diffusion import SCHEDULERS, LatentDiffusion
from originality.inversion import Inverter
from originality.prompts import DOMAINS
from originality.randomness import keyed_generator
from originality.scoring import Item
from originality.settings import AuditSettings, InversionSettings, ModelSettings, RedrawSettings
from originality.sweep import Sweep
from originality.synthetic.dataset import TaughtSet
from tests.tiny_models import FAMILIES


@pytest.fixture(scope="module", params=["shipped", *FAMILIES])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    if request.param == "shipped":
        return MODELS / "shapes"
    return FAMILIES[request.param](tmp_path_factory.mktemp(request.param))


@pytest.fixture
def model(folder: Path) -> LatentDiffusion:
    return LatentDiffusion(ModelSettings(path=str(folder), device="cpu"))


@pytest.fixture
def pipeline(folder: Path) -> StableDiffusionPipeline:
    pipe = StableDiffusionPipeline.from_pretrained(folder, use_safetensors=True, dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.mark.parametrize("name", SCHEDULERS)
def test_redraws_equal_the_pipelines(
    model: LatentDiffusion, pipeline: StableDiffusionPipeline, name: str
) -> None:
    kind, extra = SCHEDULERS[name]
    pipeline.scheduler = kind.from_config(pipeline.scheduler.config, **extra)
    width = pipeline.text_encoder.config.hidden_size
    vectors = torch.randn((2, width), generator=keyed_generator("vectors")) * 0.1
    pipeline.load_textual_inversion({"<s2>": vectors})
    noise = torch.randn((3, *model.latent_shape), generator=keyed_generator("noise"))
    settings = RedrawSettings(count=3, steps=5, scheduler=name, guidance_scale=3.0)
    theirs = pipeline(
        "a photo of <s2>",
        num_images_per_prompt=3,
        num_inference_steps=5,
        guidance_scale=3.0,
        latents=noise.clone(),
        output_type="np",
    ).images
    ours = model.redraw("a photo of {}", vectors, noise, settings)
    assert np.abs(ours.astype(int) - (theirs * 255).round().astype(int)).max() <= 1


def test_a_step_has_the_gradient_of_a_whole_table_reference(
    model: LatentDiffusion, pipeline: StableDiffusionPipeline
) -> None:
    """diffusers' own noise and target, and the whole token table with two rows more."""
    settings = InversionSettings(steps=1, batch_size=4, learning_rate=1e-2, lanes=1)
    inverter = Inverter(model, DOMAINS["shapes"], settings, seed=5)
    lane = inverter.open("a", model.encode(model.fit(TaughtSet().scene(2, 0).image())), 2)
    loss = inverter._losses([lane])[0]
    (ours,) = torch.autograd.grad(loss, lane.vectors)

    drawn = inverter.draw(lane)
    start = word_vector(model.tokenizer, model.text_encoder, "shape").expand(2, -1).clone()
    pipeline.load_textual_inversion({"<w>": start})
    templates = [DOMAINS["shapes"].templates[k].format("<w>") for k in drawn.templates]
    texts = [pipeline.maybe_convert_prompt(text, pipeline.tokenizer) for text in templates]
    ids = pipeline.tokenizer(texts, padding="max_length", return_tensors="pt").input_ids
    table = pipeline.text_encoder.get_input_embeddings().weight.requires_grad_()
    schedule = DDPMScheduler.from_config(pipeline.scheduler.config)
    noisy = schedule.add_noise(drawn.latents, drawn.noise, drawn.times)
    velocity = schedule.config.prediction_type == "v_prediction"
    target = schedule.get_velocity(drawn.latents, drawn.noise, drawn.times) if velocity else drawn.noise
    said = pipeline.unet(noisy, drawn.times, pipeline.text_encoder(ids)[0]).sample
    theirs = torch.nn.functional.mse_loss(said, target)
    theirs.backward()
    assert torch.allclose(loss, theirs, rtol=1e-5)
    assert torch.allclose(ours, table.grad[-2:], rtol=1e-3, atol=1e-8)
    assert ours.abs().max() > 0


def test_a_sweep_goes_through_and_repeats_to_the_bit(folder: Path, quick: AuditSettings) -> None:
    settings = quick.model_copy(update={"model": ModelSettings(path=str(folder), device="cpu")})
    records = []
    for _ in range(2):
        sweep = Sweep(settings)
        sweep.admit(Item("a", TaughtSet().scene(2, 0).image()))
        while not (finished := sweep.step()):
            pass
        record = finished[0].record
        records.append([{k: v for k, v in a.items() if k != "seconds"} for a in record["sweep"]])
        assert record["status"] == "judged"
    assert records[0] == records[1] and len(records[0]) == 2
