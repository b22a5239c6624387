"""How well words are learned, compared with the model's loss on words that it knows."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from originality.bench import learning
from originality.bench.variants import FAST, REDUCED, Variant
from originality.experiments.held_out import Query
from originality.model.randomness import keyed_generator
from originality.settings.audit import AuditSettings
from originality.sweep.sweep import Sweep

QUICK = Variant(
    "quick",
    "a step",
    flags={
        "model": {"device": "cpu"},
        "inversion": {"steps": 1, "cooldown": 0, "stop": "never", "batch_size": 1, "lanes": 2},
    },
)
ASKED = [(Query("familiar", 300), 1), (Query("unseen", 300), 2)]


@pytest.fixture(autouse=True)
def few_redraws(monkeypatch: pytest.MonkeyPatch) -> None:
    def settings(variant: Variant) -> AuditSettings:
        own = variant.settings(0)
        redraw = FAST.settings(0).redraw.model_copy(update={"count": 2, "steps": 2, "together": None})
        return own.model_copy(update={"redraw": redraw})

    monkeypatch.setattr(learning, "settings_of", settings)
    monkeypatch.setattr(learning, "DRAWS", 6)


@pytest.mark.long
def test_words_are_learned_once(tmp_path: Path) -> None:
    results = tmp_path / "words.jsonl"
    learning.learn(QUICK, ASKED[:1], results)
    learning.learn(QUICK, ASKED, results)
    learning.learn(QUICK, ASKED, results)
    rows = [json.loads(line) for line in results.read_text().splitlines()]
    assert [(row["image_id"], row["tokens"], row["samples"]) for row in rows] == [
        ("familiar 300", 1, 1),
        ("unseen 300", 2, 1),
    ]
    assert all(0 < row["loss"] < 2 and 0 <= row["distance"] <= 1 for row in rows)


def test_an_untrained_word_has_the_loss_of_its_initial_word() -> None:
    sweep = Sweep(learning.settings_of(QUICK))
    model, query = sweep.model, ASKED[0][0]
    moments = model.encode(model.fit(query.scene.image()))
    lane = sweep.inverter.open(query.image_id, moments, 1)
    found = learning.word_losses(sweep, lane)

    rng = keyed_generator("how well a word is learned", query.image_id)
    posterior, noise = torch.randn((2, 6, *moments.mean.shape), generator=rng)
    texts = [t.format(sweep.domain.initial_word) for t in sweep.domain.templates]
    for k, t in enumerate((83, 250, 416, 583, 750, 916)):
        clean, time = (moments.mean + moments.std * posterior[k])[None], torch.tensor([t])
        with torch.no_grad():
            noisy = model.add_noise(clean, noise[k : k + 1], time)
            output = model.predict(noisy, time, model.encode_prompts([texts[k % len(texts)]]))
        assert found[k].item() == pytest.approx((output - noise[k]).square().mean().item(), rel=1e-4)


def test_variants_are_compared_on_the_words_that_both_learned(tmp_path: Path) -> None:
    results = tmp_path / "words.jsonl"
    reduced = {("a", 1): (0.05, 0.2), ("a", 2): (0.048, 0.4), ("b", 1): (0.07, 0.1)}
    fast = {("a", 1): (0.052, 0.31), ("a", 2): (0.048, 0.31)}
    for variant, found in ((REDUCED, reduced), (FAST, fast)):
        rows = [
            {
                "image_id": i,
                "tokens": m,
                "samples": 100,
                "loss": loss,
                "distance": far,
                **learning.key_of(variant),
            }
            for (i, m), (loss, far) in found.items()
        ]
        with results.open("a") as out:
            out.writelines(json.dumps(row) + "\n" for row in rows)
    *_, first, second, _, scale = learning.table(results).splitlines()
    assert "| 3 | 100 | +0.00 ± 0.00 | +0.000 ± 0.000 | 0.000 | 100% |" in first
    assert "| 2 | 100 | +1.00 ± 0.71 | +0.010 ± 0.071 | 0.100 | 50% |" in second
    assert scale.endswith("in thousandths: 2.0 by token 2")  # of "a", the only one with both
