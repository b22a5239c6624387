"""The distance to what the plain prompt gives: drawn once, shared by all images, no part of a verdict."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from originality.settings.audit import AuditSettings
from originality.sweep.sweep import Sweep
from tests.support.sweeps import Grey, changed, item, run, timeless


@pytest.fixture(scope="module")
def brief(quick) -> AuditSettings:
    shortened = changed(quick, inversion={"steps": 2, "batch_size": 2}, redraw={"steps": 2})
    return shortened.model_copy(update={"max_tokens": 1})


def sweep_of(settings: AuditSettings) -> Sweep:
    sweep = Sweep(settings)
    sweep.distance = sweep.judge.distance = Grey()
    return sweep


def plain(sweep: Sweep) -> np.ndarray:
    """What the plain prompt gives, from the noise that belongs to the reference."""
    redraw, word = sweep.settings.redraw, sweep.domain.initial_words[0]
    prompt = redraw.prompt.replace("{}", word)
    noise = sweep.judge.noise("reference", 0, prompt, range(redraw.count))
    prompts = sweep.model.encode_prompts([prompt]).repeat_prompt(redraw.count)
    return sweep.model.generate(prompts, noise, redraw).checked()


def test_it_is_the_mean_distance_to_draws_from_the_plain_prompt(brief):
    sweep = sweep_of(brief)
    images = plain(sweep)
    for k in (0, 1):
        found = run(sweep, item(k))[f"image-{k}"]
        query, drawn = (sweep.distance.embed(i) for i in (np.asarray(item(k).content)[None], images))
        expected = float(np.mean(sweep.distance.between(query[0], drawn)))
        assert found.record["reference_distance"] == pytest.approx(expected)
        assert ("unet_samples_reference" in found.counters) is (k == 0), "drawn once"


def test_it_is_the_same_beside_other_images(brief):
    beside = run(sweep_of(brief), item(1), item(0))["image-0"].record
    alone = run(sweep_of(brief), item(0))["image-0"].record
    assert beside["reference_distance"] == alone["reference_distance"]


def test_without_it_the_verdict_is_the_same(brief):
    with_, without = (
        timeless(run(sweep_of(changed(brief, redraw={"reference": on})), item(0))["image-0"].record)
        for on in (True, False)
    )
    assert with_.pop("reference_distance") is not None and without.pop("reference_distance") is None
    assert with_.pop("settings_digest") != without.pop("settings_digest")
    assert with_ == without


def test_draws_that_are_not_finite_leave_it_empty(brief, monkeypatch, caplog):
    sweep = sweep_of(brief)
    encode = sweep.model.encode_prompts

    def lost(prompts, vectors=None):
        encoded = encode(prompts, vectors)
        if vectors is None:  # the plain prompt; all others hold a pseudo-word
            encoded = encoded.select(torch.zeros(len(prompts), dtype=torch.long))
            encoded.states.fill_(torch.nan)
        return encoded

    assert len(sweep.model.unconditional) == 1  # read before, as it holds no pseudo-word either
    monkeypatch.setattr(sweep.model, "encode_prompts", lost)
    record = run(sweep, item(0))["image-0"].record
    assert (record["status"], record["reference_distance"]) == ("judged", None)
    assert "reference" in caplog.text
