"""Models of an experiment are trained by the engine, and resume to the same weights after a kill."""

from __future__ import annotations

import pytest
import torch

from originality.contract.scorer import Item
from originality.experiments.tasks import train_model
from originality.experiments.tasks.long_task import OneAtATime
from originality.experiments.tasks.plans import ElementsPlan, ModelPlan, PairsPlan
from originality.experiments.tasks.train_model import Training
from originality.model.diffusion import LatentDiffusion
from originality.settings.parts import ModelSettings
from originality.training.shapes_model.recipe import AutoencoderRecipe, DenoiserRecipe, ShapesRecipe
from tests.support.long_task import cut, finished

CHUNKS = 3
"""Number of chunks in which the latents of a set are encoded in these tests."""
TINY = ShapesRecipe(
    autoencoder=AutoencoderRecipe(channels=(8, 8, 8, 8), steps=3, batch_size=2),
    denoiser=DenoiserRecipe(channels=(32, 32), heads=4, images=CHUNKS * 50 - 10, steps=(4, 3), batch_size=4),
)
PLANS = {
    "shared": ModelPlan(
        name="shared",
        images=PairsPlan(kind="pairs", named=True),
        recipe=TINY.model_copy(update={"autoencoder": AutoencoderRecipe()}),
    ),
    "own": ModelPlan(name="own", images=ElementsPlan(kind="elements"), recipe=TINY, autoencoder="own"),
}


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    monkeypatch.setattr(train_model, "CHUNK", 50)


def trainer(cache):
    return OneAtATime(
        lambda output: Training(ModelPlan.model_validate(output), torch.device("cpu"), cache),
    )


@pytest.mark.long
@pytest.mark.parametrize("name", PLANS)
def test_a_killed_training_resumes_to_the_same_weights_and_losses(tmp_path, name):
    item = Item("a", PLANS[name].document())
    uninterrupted = trainer(tmp_path / "uninterrupted")
    uninterrupted.admit(item)
    expected, steps = finished(uninterrupted)
    own = TINY.autoencoder.steps if name == "own" else 0
    assert steps == own + CHUNKS + sum(TINY.denoiser.steps)
    for kill in (1, 4, 6, steps - 1):
        first = trainer(tmp_path / f"cut {kill}")
        first.admit(item)
        kept = cut(first, item, kill)
        again = trainer(tmp_path / f"moved {kill}")  # another machine, without the latents
        again.restore(item, kept)
        assert again.snapshot("a")  # before any step
        third = trainer(tmp_path / f"moved {kill}")
        third.restore(item, again.snapshot("a"))
        resumed, more = finished(third)
        assert resumed.record["weights_digest"] == expected.record["weights_digest"]
        assert resumed.record["losses"] == expected.record["losses"]
        encoded_again = min(max(kill - own, 0), CHUNKS)
        assert more == steps - kill + encoded_again


def test_a_trained_model_is_a_folder_that_draws(tmp_path):
    item = Item("a", PLANS["own"].document())
    scorer = trainer(tmp_path / "cache")
    scorer.admit(item)
    assert "autoencoder 0/3" in scorer.progress
    done, _ = finished(scorer)
    assert done.record["status"] == "judged" and done.record["plan"] == PLANS["own"].document()
    for name, content in done.files.items():
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    model = LatentDiffusion(ModelSettings(path=str(tmp_path / "model"), device="cpu"))
    assert model.latent_shape == (8, 8, 8)


def test_snapshots_of_other_items_and_damaged_ones_are_refused(tmp_path):
    item = Item("a", PLANS["shared"].document())
    scorer = trainer(tmp_path)
    scorer.admit(item)
    scorer.step()
    kept = scorer.snapshot("a")
    with pytest.raises(ValueError, match="different item"):
        trainer(tmp_path).restore(Item("b", item.content), kept)
    for damaged in (kept[:-1], kept[:100], b"", kept[:200] + b"x" + kept[201:]):
        with pytest.raises(ValueError, match="damaged"):
            trainer(tmp_path).restore(item, damaged)
