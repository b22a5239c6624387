"""Every family of models against diffusers' own parts: the one that ships, others with random weights."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler, DiffusionPipeline

from originality.contract.scorer import Item
from originality.inversion.inverter import Inverter
from originality.model.diffusers_folder import MODELS
from originality.model.diffusion import LatentDiffusion
from originality.model.noise_schedule import SCHEDULERS
from originality.model.randomness import keyed_generator
from originality.settings.audit import AuditSettings
from originality.settings.domains import DOMAINS
from originality.settings.inversion import InversionSettings
from originality.settings.parts import ModelSettings
from originality.settings.redraw import RedrawSettings
from originality.shapes.image_sets import TaughtSet
from originality.sweep.sweep import Sweep
from tests.support.tiny_models import FAMILIES


@pytest.fixture(scope="module", params=["shipped", *FAMILIES])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    if request.param == "shipped":
        return MODELS / "shapes"
    return FAMILIES[request.param](tmp_path_factory.mktemp(request.param))


@pytest.fixture
def model(folder: Path) -> LatentDiffusion:
    return LatentDiffusion(ModelSettings(path=str(folder), device="cpu"))


@pytest.fixture
def pipeline(folder: Path) -> DiffusionPipeline:
    pipe = DiffusionPipeline.from_pretrained(folder, use_safetensors=True, dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def teach(pipeline: DiffusionPipeline, model: LatentDiffusion, word: str, vectors: torch.Tensor) -> None:
    """Load a pseudo-word into the pipeline, for each of its text encoders, as a user would."""
    kept = model.text.split_by_encoder(word, vectors)
    pipeline.load_textual_inversion({word: kept[word]})
    if len(kept) > 1:
        second = {"text_encoder": pipeline.text_encoder_2, "tokenizer": pipeline.tokenizer_2}
        pipeline.load_textual_inversion({word: kept[f"{word}.text_encoder_2"]}, **second)


def test_pseudo_words_have_the_widths_of_the_encoders(model: LatentDiffusion) -> None:
    assert sum(model.text.widths) == len(model.text.word_vector("shape"))


@pytest.mark.parametrize("name", SCHEDULERS)
def test_redraws_equal_the_pipelines(model: LatentDiffusion, pipeline: DiffusionPipeline, name: str) -> None:
    kind, extra = SCHEDULERS[name]
    pipeline.scheduler = kind.from_config(pipeline.scheduler.config, **extra)
    vectors = torch.randn((2, sum(model.text.widths)), generator=keyed_generator("vectors")) * 0.1
    teach(pipeline, model, "<s2>", vectors)
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


def test_a_prompt_without_a_pseudo_word_is_drawn_as_by_the_pipeline(
    model: LatentDiffusion, pipeline: DiffusionPipeline
) -> None:
    noise = torch.randn((2, *model.latent_shape), generator=keyed_generator("noise"))
    settings = RedrawSettings(count=2, steps=4, scheduler="ddim", guidance_scale=3.0)
    pipeline.scheduler = SCHEDULERS["ddim"][0].from_config(pipeline.scheduler.config)
    theirs = pipeline(
        ["a photo of big red full circle", "a cat"],
        num_inference_steps=4,
        guidance_scale=3.0,
        latents=noise.clone(),
        output_type="np",
    ).images
    ours = model.generate(
        model.encode_prompts(["a photo of big red full circle", "a cat"]), noise, settings
    ).checked()
    assert np.abs(ours.astype(int) - (theirs * 255).round().astype(int)).max() <= 1


def changed(folder: Path, file: str, without: Sequence[str] = (), **values: object) -> None:
    kept = {k: v for k, v in json.loads((folder / file).read_text()).items() if k not in without}
    (folder / file).write_text(json.dumps({**kept, **values}))


def off(folder: Path, prompt: str, scheduler: str = "ddim", word: bool = False) -> int:
    """Greatest difference of a pixel to the pipeline, as it comes from the folder."""
    model = LatentDiffusion(ModelSettings(path=str(folder), device="cpu"))
    pipeline = DiffusionPipeline.from_pretrained(folder, use_safetensors=True, dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    vectors = torch.randn((2, sum(model.text.widths)), generator=keyed_generator("vectors")) * 0.1
    if word:
        teach(pipeline, model, "<s2>", vectors)
    noise = torch.randn((2, *model.latent_shape), generator=keyed_generator("noise"))
    settings = RedrawSettings(count=2, steps=4, scheduler=scheduler, guidance_scale=3.0)
    options = {
        "num_images_per_prompt": 2,
        "num_inference_steps": 4,
        "guidance_scale": 3.0,
        "output_type": "np",
    }
    theirs = pipeline(prompt.format("<s2>"), latents=noise.clone(), **options).images
    if word:
        ours = model.redraw(prompt, vectors, noise, settings)
    else:
        ours = model.generate(model.encode_prompts([prompt]).repeat_prompt(2), noise, settings).checked()
    return int(np.abs(ours.astype(int) - (theirs * 255).round().astype(int)).max())


@pytest.mark.parametrize("unsaid", ["clip_sample", "steps_offset"])
def test_an_old_schedule_is_completed_as_by_the_pipeline(tmp_path: Path, unsaid: str) -> None:
    folder = FAMILIES["sd1"](tmp_path / "model")
    changed(folder, "scheduler/scheduler_config.json", [unsaid])
    assert off(folder, "a photo of big circle") <= 1


def test_an_sdxl_without_a_setting_for_empty_prompts_uses_zeros(tmp_path: Path) -> None:
    folder = FAMILIES["sdxl"](tmp_path / "model")
    changed(folder, "model_index.json", ["force_zeros_for_empty_prompt"])
    assert off(folder, "a photo of big circle") <= 1


def test_a_schedule_that_names_a_noisy_sampler_is_sampled_without_noise(tmp_path: Path) -> None:
    folder = FAMILIES["sd1"](tmp_path / "model")
    changed(folder, "scheduler/scheduler_config.json", algorithm_type="sde-dpmsolver++")
    model = LatentDiffusion(ModelSettings(path=str(folder), device="cpu"))
    noise = torch.randn((1, *model.latent_shape), generator=keyed_generator("noise"))
    settings = RedrawSettings(count=2, steps=4, scheduler="dpm++", guidance_scale=3.0)
    first, again = (
        model.generate(model.encode_prompts(["a photo"]), noise, settings).checked() for _ in range(2)
    )
    assert np.array_equal(first, again)


def test_passes_that_share_the_memory_of_a_recorded_graph_keep_their_output(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As CUDA graphs do: every pass writes its output over the last one's."""
    folder = FAMILIES["sd1"](tmp_path / "model")

    def recorded(unet: torch.nn.Module, mode: str | None) -> object:
        written: dict[torch.Size, torch.Tensor] = {}

        def overwrite(_module: object, _given: object, output: object) -> None:
            place = written.setdefault(output.sample.shape, torch.empty_like(output.sample))
            output.sample = place.copy_(output.sample)

        unet.register_forward_hook(overwrite)
        return unet

    monkeypatch.setattr(torch, "compile", recorded)
    plain = LatentDiffusion(ModelSettings(path=str(folder), device="cpu"))
    graphs = LatentDiffusion(ModelSettings(path=str(folder), device="cpu", compile="cuda-graphs"))
    graphs.denoising.max_samples = plain.denoising.max_samples = 1
    noise = torch.randn((2, *plain.latent_shape), generator=keyed_generator("noise"))
    settings = RedrawSettings(count=2, steps=3, scheduler="ddim", guidance_scale=3.0)
    drawn = [
        m.generate(m.encode_prompts(["a photo"]).repeat_prompt(2), noise, settings).checked()
        for m in (plain, graphs)
    ]
    assert np.array_equal(*drawn)


def test_a_text_is_pooled_at_its_end_despite_its_published_configuration(tmp_path: Path) -> None:
    """SDXL's has an eos_token_id of 2. transformers then sums up at the highest token, which is a text's end
    only until diffusers adds a pseudo-word's: its own pictures of one are then others."""
    folder = FAMILIES["sdxl"](tmp_path / "model")
    exact = LatentDiffusion(ModelSettings(path=str(folder), device="cpu"))
    for part in ("text_encoder", "text_encoder_2"):
        changed(folder, f"{part}/config.json", bos_token_id=0, eos_token_id=2, pad_token_id=1)
    own = LatentDiffusion(ModelSettings(path=str(folder), device="cpu"))
    vectors = torch.randn((1, 2, sum(own.text.widths)), generator=keyed_generator("vectors"))
    ours, reference = (model.encode_prompts(["a photo of {}"], vectors) for model in (own, exact))
    assert ours.pooled is not None and reference.pooled is not None
    assert torch.equal(ours.pooled, reference.pooled) and torch.equal(ours.states, reference.states)
    assert off(folder, "a photo of big circle") <= 1
    assert off(folder, "a photo of {}", word=True) > 1  # diffusers #10754


def test_a_step_has_the_gradient_of_a_reference_with_the_full_table(
    model: LatentDiffusion, pipeline: DiffusionPipeline
) -> None:
    """diffusers' own noise and target, and the whole token table with two rows more."""
    settings = InversionSettings(steps=1, batch_size=4, learning_rate=1e-2, lanes=1)
    inverter = Inverter(model, DOMAINS["shapes"], settings, seed=5)
    lane = inverter.open("a", model.encode(model.fit(TaughtSet().scene(2, 0).image())), 2)
    loss = inverter.losses([lane])[0]
    (ours,) = torch.autograd.grad(loss, lane.vectors)

    drawn = inverter.step_noise(lane)
    start = model.text.word_vector("shape").expand(2, -1).clone()
    teach(pipeline, model, "<w>", start)
    texts = [DOMAINS["shapes"].templates[k].format("<w>") for k in drawn.templates[drawn.template_of]]
    encoders = [e for e in (pipeline.text_encoder, getattr(pipeline, "text_encoder_2", None)) if e]
    tables = [e.get_input_embeddings().weight.requires_grad_() for e in encoders]
    schedule = DDPMScheduler.from_config(pipeline.scheduler.config)
    noisy = schedule.add_noise(drawn.latents, drawn.noise, drawn.timesteps)
    velocity = schedule.config.prediction_type == "v_prediction"
    target = schedule.get_velocity(drawn.latents, drawn.noise, drawn.timesteps) if velocity else drawn.noise
    if len(encoders) == 1:
        states, _ = pipeline.encode_prompt(texts, "cpu", 1, False)
        prediction = pipeline.unet(noisy, drawn.timesteps, states).sample
    else:
        states, _, pooled, _ = pipeline.encode_prompt(texts, device="cpu", do_classifier_free_guidance=False)
        size = torch.tensor([[model.side, model.side, 0, 0, model.side, model.side]]).expand(len(texts), -1)
        added = {"text_embeds": pooled, "time_ids": size}
        prediction = pipeline.unet(noisy, drawn.timesteps, states, added_cond_kwargs=added).sample
    theirs = torch.nn.functional.mse_loss(prediction, target)
    theirs.backward()
    assert torch.allclose(loss, theirs, rtol=1e-5)
    gradient = torch.cat([table.grad[-2:] for table in tables], dim=-1)
    assert torch.allclose(ours, gradient, rtol=1e-3, atol=1e-8)
    for part in ours.split(model.text.widths, dim=-1):
        assert part.abs().max() > 0


@pytest.mark.long
def test_a_sweep_completes_and_repeats_to_the_bit(folder: Path, quick: AuditSettings) -> None:
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
