"""Readings of what the paper leaves open: scaled step size, flips, weight decay, stretch or crop."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms.functional import hflip

from jobs.auditing.audit_run import LATER_DEFAULTS
from originality.calibration.thresholds import method_digest
from originality.contract.scorer import Item
from originality.cost.operations import protocol_counts
from originality.inversion.inverter import Inverter, invert
from originality.inversion.step_noise import StepNoiseSource
from originality.model.diffusion import Moments
from originality.settings.domains import DOMAINS
from originality.settings.inversion import InversionSettings
from originality.settings.presets import PRESETS, load_settings
from originality.shapes.image_sets import TaughtSet
from originality.sweep.sweep import Sweep
from tests.support.sweeps import item, run, timeless

SHAPES = DOMAINS["shapes"]
HOUSES = {"domain": "houses"}
HF = {"learning_rate_scale": "batch", "weight_decay": 1e-2, "flips": "half"}
"""The settings of Hugging Face's script."""


@pytest.fixture(scope="module")
def picture(model) -> np.ndarray:
    return model.fit(TaughtSet().scene(2, 1).image())


def inverter(model, **given) -> Inverter:
    settings = {"steps": 3, "batch_size": 4, "learning_rate": 1e-3, "lanes": 2, **given}
    return Inverter(model, SHAPES, InversionSettings(**settings), seed=5)


def test_a_flipped_sample_is_of_the_flipped_image_and_nothing_else_changes(model, picture):
    """Against torchvision's flip and diffusers' own VAE, sample by sample."""
    own = inverter(model, flips="half")
    moments = own.encode(picture)
    pixels = hflip(torch.from_numpy(picture).permute(2, 0, 1)).float()[None] / 127.5 - 1
    with torch.no_grad():
        posterior = model.vae.encode(pixels).latent_dist
    scale = model.vae.config.scaling_factor
    mirrored = Moments(posterior.mean[0] * scale, posterior.std[0] * scale)
    assert torch.allclose(moments.mirrored.mean, mirrored.mean, atol=1e-5)
    assert torch.allclose(moments.mirrored.std, mirrored.std, atol=1e-6)

    plain = inverter(model)
    upright = plain.encode(picture)
    assert upright.mirrored is None and torch.equal(upright.mean, moments.mean)
    drawing = [(own, own.open("a", moments, 2))]
    drawing += [(plain, plain.open("a", either, 2)) for either in (upright, mirrored)]
    seen = set()
    for step in range(4):
        for _, lane in drawing:
            lane.step = step
        drawn, as_it_is, turned = (of.step_noise(lane) for of, lane in drawing)
        for name in ("noise", "timesteps", "templates", "template_of"):
            assert torch.equal(getattr(drawn, name), getattr(as_it_is, name)), name
        for k, latents in enumerate(drawn.latents):
            flipped = not torch.equal(latents, as_it_is.latents[k])
            assert not flipped or torch.allclose(latents, turned.latents[k], atol=1e-4)
            seen.add(flipped)
    assert seen == {True, False}


def test_half_of_the_samples_are_flipped_and_a_cycle_repeats_which():
    zero, one = torch.zeros(1, 1, 1), torch.ones(1, 1, 1)
    flat = Moments(zero, zero, mirrored=Moments(one, zero))  # a sample is 1 where it is flipped
    settings = InversionSettings(batch_size=20, flips="half")
    source = StepNoiseSource(settings, 0, 1000, 27)
    shown = torch.cat([source.of("a", flat, 1, step).latents for step in range(100)])
    assert 0.45 < shown.mean() < 0.55
    repeated = StepNoiseSource(settings.model_copy(update={"cycle": 7}), 0, 1000, 27)
    for step in range(7):
        first, again = (repeated.of("a", flat, 1, at).latents for at in (step, step + 7))
        assert torch.equal(first, again)
    assert not torch.equal(source.of("a", flat, 1, 0).latents, source.of("a", flat, 1, 1).latents)
    with pytest.raises(ValueError, match="mirrored"):
        source.of("a", Moments(zero, zero), 1, 0)


@pytest.mark.parametrize("given", [{}, {"learning_rate_scale": "batch"}, {"weight_decay": 0.5}, HF])
def test_a_step_equals_that_of_torchs_unfused_optimiser(model, picture, given):
    """AdamW unfused, with the learning rate and decay of the reading."""
    own = inverter(model, **given)
    lane = own.open("a", own.encode(picture), 2)
    table = lane.vectors.detach().clone().requires_grad_()
    rate = 1e-3 * (4 if given.get("learning_rate_scale") == "batch" else 1)
    theirs = torch.optim.AdamW([table], lr=rate, weight_decay=given.get("weight_decay", 0.0), fused=False)
    start = table.detach().clone()
    for _ in range(3):
        ((_, table.grad),) = own.gradients([lane], 8)
        theirs.step()
        own.advance([lane])
        assert torch.allclose(lane.vectors, table, atol=1e-6)
    moved = (lane.vectors - start).abs().max().item()
    assert rate < moved < 4 * rate or given.get("weight_decay") == 0.5


def test_a_lane_with_flips_does_not_depend_on_its_neighbours(model, picture):
    own = inverter(model, **HF)
    moments = own.encode(picture)
    other = own.encode(model.fit(TaughtSet().scene(2, 3).image()))
    alone = invert(own, [("a", moments, 2)])[0]
    among = invert(own, [("b", other, 1), ("a", moments, 2), ("c", other, 2)])[1]
    assert torch.equal(alone.vectors, among.vectors) and alone.losses == among.losses
    unflipped = invert(inverter(model, **{**HF, "flips": "never"}), [("a", moments, 2)])[0]
    assert not torch.equal(alone.vectors, unflipped.vectors)


@pytest.mark.long
@pytest.mark.parametrize("repeats", [{}, {"cycle": 2, "templates": 2, "timesteps": "stratified"}])
def test_a_sweep_with_hugging_faces_readings_resumes_from_a_snapshot(quick, repeats):
    inversion = quick.inversion.model_copy(update={**HF, **repeats})
    model = quick.model.model_copy(update={"fit": "stretch"})
    sweep = Sweep(quick.model_copy(update={"inversion": inversion, "model": model}))
    uninterrupted = run(sweep, item(0))["image-0"]
    sweep.admit(item(0))
    sweep.admit(item(1))
    for _ in range(2):
        sweep.step()
    snapshot = sweep.snapshot("image-0")
    sweep.images.clear()
    sweep.restore(item(0), snapshot)
    restored = run(sweep)["image-0"]
    assert timeless(restored.record) == timeless(uninterrupted.record)
    assert restored.files == uninterrupted.files


@pytest.mark.long
def test_metric_and_model_both_see_the_stretched_picture(quick):
    """A wide image is judged like one that was stretched beforehand (as Hugging Face does)."""
    wide = TaughtSet().scene(2, 1).image().convert("RGB").resize((200, 90))
    model = quick.model.model_copy(update={"fit": "stretch"})
    sweep = Sweep(quick.model_copy(update={"model": model}))
    before = wide.resize((64, 64), resample=Image.Resampling.BICUBIC)
    here, there = (run(sweep, Item("a", image))["a"] for image in (wide, before))
    assert timeless(here.record) == timeless(there.record) and here.files == there.files
    cropped = run(Sweep(quick), Item("a", wide))["a"]
    assert cropped.files["query.webp"] != here.files["query.webp"]


def test_a_reading_changes_the_digests_only_if_it_is_not_the_default():
    usual = load_settings("laptop")
    assert usual.digest() == "34cbd5fedf014275"  # recorded before there were readings
    defaults = {"learning_rate_scale": "none", "weight_decay": 0.0, "flips": "never"}
    assert load_settings("laptop", None, {"inversion": defaults}).digest() == usual.digest()
    for preset in PRESETS:
        one = load_settings(preset, None, HOUSES)
        of_hf = [load_settings(preset, None, {**HOUSES, "inversion": {n: v}}) for n, v in HF.items()]
        assert len({s.digest() for s in (one, *of_hf)}) == 4
        assert len({method_digest(s) for s in (one, *of_hf)}) == 4
        assert all(getattr(one.inversion, name) == default for name, default in defaults.items())
        assert LATER_DEFAULTS["settings"]["inversion"].items() >= defaults.items(), (
            "for runs that were started before"
        )
    paper = load_settings("paper", None, {**HOUSES, "inversion": HF})
    assert paper.inversion.step_size == pytest.approx(1e-2)
    plain = load_settings("paper", None, HOUSES)
    assert plain.inversion.step_size == 5e-4
    assert protocol_counts(paper, 1).encoded == 2 * protocol_counts(plain, 1).encoded
