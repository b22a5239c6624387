"""The shipped model: what a user who loads it relies on."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from diffusers import StableDiffusionPipeline

from originality.contract.config import SettingsError
from originality.evaluation.distance.elements import ElementSetDistance
from originality.model.diffusers_folder import MODELS
from originality.model.diffusion import LatentDiffusion
from originality.model.model_folder import open_model
from originality.settings.domains import DOMAINS
from originality.settings.parts import ModelSettings
from originality.shapes.detector import Detector
from originality.shapes.elements import elements_of
from originality.shapes.image_sets import UniformSet, pixels
from originality.shapes.motifs import motif_names
from originality.training.shapes_model.card import pair_scenes
from originality.training.shapes_model.prompting import score_prompts

FOLDER = MODELS / "shapes"


def test_it_is_small_and_holds_safetensors_only():
    files = [f for f in FOLDER.rglob("*") if f.is_file()]
    assert sum(f.stat().st_size for f in files) <= 25e6
    assert not [f for f in files if f.suffix in (".bin", ".pt", ".ckpt", ".pkl")]


def test_diffusers_own_pipeline_draws_from_it():
    pipe = StableDiffusionPipeline.from_pretrained(FOLDER, use_safetensors=True)
    pipe.set_progress_bar_config(disable=True)
    image = pipe("big red full circle", num_inference_steps=3).images[0]
    assert image.size == (64, 64)


def test_its_words_are_single_tokens(model):
    words = [w for d in DOMAINS.values() for w in d.initial_words] + list(motif_names()) + ["photo", "circle"]
    for word in words:
        assert len(model.text.tokenizers[0](word, add_special_tokens=False).input_ids) == 1


@pytest.mark.long
def test_the_card_has_this_models_digest_and_scores(model):
    card = json.loads((FOLDER / "scores.json").read_text())
    assert card["model"] == model.digest
    assert card["prompts"]["pairs, common"]["exact"] >= 0.9
    prompts = [scene.caption for scene in pair_scenes("common", 40)]
    drawn = score_prompts(model, Detector.load(), [elements_of(p) for p in prompts], prompts)
    assert drawn.exact >= 0.85
    assert drawn.f1 == pytest.approx(card["prompts"]["pairs, common"]["f1"], abs=0.12)
    assert f"{card['prompts']['pairs, common']['f1']:.3f}" in (FOLDER / "README.md").read_text()


def test_encoding_and_decoding_keeps_the_elements(model):
    pictures = pixels([UniformSet().scene(5, k) for k in range(24)])
    moments = [model.encode(p) for p in pictures]
    again = model.decode(torch.stack([m.mean for m in moments]))
    distance = ElementSetDistance()
    f1 = [
        1 - float(distance.between(query, [redraw])[0])
        for query, redraw in zip(distance.embed(pictures), distance.embed(again), strict=True)
    ]
    assert sum(f1) / len(f1) > 0.9


def test_the_digest_sees_weights_and_names_a_missing_folder(tmp_path):
    assert open_model(ModelSettings()).digest == LatentDiffusion(ModelSettings(device="cpu")).digest
    with pytest.raises(SettingsError, match="does not exist; "):
        open_model(ModelSettings(path=str(tmp_path / "none")))
    with pytest.raises(SettingsError, match="has no model_index"):
        open_model(ModelSettings(path=str(tmp_path)))


def test_a_model_without_safetensors_is_refused(tmp_path):
    folder = shutil.copytree(FOLDER, tmp_path / "model")
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    weights.rename(weights.with_suffix(".bin"))
    with pytest.raises(SettingsError, match="has no safetensors in unet"):
        open_model(ModelSettings(path=str(folder)))


def test_a_missing_gpu_is_an_error_with_the_fix():
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(SettingsError, match="--device cpu"):
        LatentDiffusion(ModelSettings(device="cuda"))
