"""Counts of work and their cost: by hand, against a real sweep, and carried over from what was measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from diffusers.models.attention_processor import AttnProcessor
from PIL import Image

from originality.contract.config import SettingsError
from originality.contract.scorer import Item
from originality.cost.flops import Flops, counted, flops, judging
from originality.cost.measured_counts import (
    Assumptions,
    Measured,
    carried_over,
    differences,
    known,
    read,
    write,
)
from originality.cost.operations import Cost, Counts, cost, denoising_steps, protocol_counts
from originality.model.diffusion import LatentDiffusion
from originality.model.meta_model import Architecture
from originality.model.model_folder import open_model
from originality.model.noise_schedule import SCHEDULERS
from originality.settings.presets import load_settings
from originality.settings.redraw import RedrawSettings
from originality.sweep.sweep import Sweep

OF_A_SAMPLE = Flops(forward=1000, step=2000, encoding=300, decoding=500, text=10, text_step=20)


HOUSES = {"domain": "houses"}


def test_the_papers_protocol_by_hand() -> None:
    paper = protocol_counts(load_settings("paper", None, HOUSES), 3)
    assert paper == Counts(
        tokens_tried=3,
        tokens_checked=3,
        step_samples=3 * 2000 * 20,
        drawing_samples=3 * 2 * 2 * 36 * 20,  # redraws and edits, guided; PNDM's 35 steps are 36 passes
        decoded=3 * 2 * 20,
        encoded=1,
        step_prompts=3 * 2000 * 20,
        prompts=3 * 2,
        judged=3 * 20 + 1,
    )
    plain = {**HOUSES, "in_distribution": {"check": "none"}, "redraw": {"guidance_scale": 1.0}}
    redraws = protocol_counts(load_settings("paper", None, plain), 3)
    assert redraws.drawing_samples * 4 == paper.drawing_samples and redraws.prompts == 3
    few = {**HOUSES, "inversion": {"templates": 4}, "redraw": {"round": 6}}
    rounds = protocol_counts(load_settings("paper", None, few), 3, 1)
    assert rounds.step_prompts == 3 * 2000 * 4
    assert rounds.decoded == (3 + 1) * 20 and rounds.prompts == 3 + 1


def test_costs_are_counts_times_operations() -> None:
    counts = Counts(
        tokens_tried=2,
        tokens_checked=1.5,
        step_samples=100,
        drawing_samples=40,
        decoded=4,
        encoded=1,
        step_prompts=30,
        prompts=6,
        judged=5,
    )
    found = cost(counts, OF_A_SAMPLE, judging=7)
    assert found == Cost(inversion=200_000, drawing=40_000, decoding=2000, encoding=300, text=660, judging=35)
    assert found.unet == 240_000 and found.total == 242_995
    messages = str(found)
    assert messages.startswith("0.243 MFLOP an image: inversion 0.2 MFLOP (82%), drawing 0.04 MFLOP (16%)")
    assert messages.endswith("judging 3.5e-05 MFLOP (under 1%)")


@pytest.mark.parametrize("scheduler", SCHEDULERS)
@pytest.mark.parametrize("steps", [7, 35])
def test_samples_of_redraws_are_the_models_own(model: LatentDiffusion, scheduler: Any, steps: int) -> None:
    redraw = RedrawSettings(scheduler=scheduler, steps=steps, count=3)
    assert 2 * denoising_steps(redraw) == model.unet_samples_per_redraw(redraw)


def test_a_real_sweep_takes_what_its_settings_say() -> None:
    values = {
        "model": {"device": "cpu"},
        "max_tokens": 1,
        # a prompt a step, and no pass is filled up
        "inversion": {"steps": 2, "batch_size": 1, "lanes": 1},
        "redraw": {"count": 2, "steps": 2, "reference": False},
        "in_distribution": {"check": "none"},
    }
    settings = load_settings("laptop", None, values)
    sweep = Sweep(settings)
    sweep.model.unet.set_attn_processor(AttnProcessor())
    sweep.model.vae.set_attn_processor(AttnProcessor())
    for encoder in sweep.model.text.encoders:
        encoder.set_attn_implementation("eager")  # type: ignore[operator]
    assert len(sweep.model.unconditional) == 1  # the empty prompt is read once, not an image
    finished: list[Any] = []

    def whole() -> None:
        sweep.admit(Item("image", Image.new("RGB", (64, 64), "white")))
        while not finished:
            finished.extend(sweep.step())

    taken = counted(whole)
    tried = len(finished[0].record["sweep"])
    counts = protocol_counts(settings, tried)
    assert finished[0].counters["unet_samples"] == counts.step_samples + counts.drawing_samples
    # the detector of elements fills each of its passes up to 16 images
    filled = counts.model_copy(update={"judged": 16 * (tried + 1)})
    of_model = flops(Architecture.of_folder(open_model(settings.model)))
    assert cost(filled, of_model, judging(settings.distance)).total == taken


MEASURED = Measured(
    counts=Counts(
        tokens_tried=2,
        tokens_checked=1.5,
        step_samples=2 * 60 * 8 / 4,
        drawing_samples=2 * 15 * 2 * 20 / 2,
        decoded=20,
        encoded=1,
        step_prompts=2 * 60 * 8 / 4,
        prompts=4,
        judged=21,
    ),
    images=60,
    settings=load_settings("laptop"),
)


def test_counts_measured_under_the_same_settings_are_used_unchanged() -> None:
    found = known({"laptop": MEASURED}, load_settings("laptop", None, {"seed": 7}))
    assert found is MEASURED and carried_over(MEASURED, MEASURED.settings) == MEASURED.counts
    messages = Assumptions.of(MEASURED.settings, MEASURED).lines
    assert "(2 in the mean, 1.5 of them checked) as the 60" in messages[0]
    assert not any("in place of" in line or "share" in line for line in messages)


def test_carried_over_counts_do_the_same_share_of_the_work() -> None:
    other = {
        "model": {"path": "CompVis/stable-diffusion-v1-4"},
        "domain": "houses",
        "distance": {"metric": "dreamsim", "threshold": None},
        "in_distribution": {"check": "editability"},
        "redraw": {"steps": 30, "guidance_scale": 7.5},
    }
    settings = load_settings("laptop", None, other)
    assert known({"laptop": MEASURED}, settings) is MEASURED
    found, most = carried_over(MEASURED, settings), protocol_counts(settings, 2)
    assert most.drawing_samples == 2 * 2 * 2 * 30 * 20
    assert found.step_samples == most.step_samples / 4 == MEASURED.counts.step_samples
    # all 2 numbers of tokens are redrawn, and 1.5 of them edited
    assert found.drawing_samples == (2 + 1.5) * 20 * 30 * 2 / 2
    assert (found.encoded, found.decoded, found.tokens_tried) == (1, (2 + 1.5) * 20 / 2, 2)
    assert differences(MEASURED, settings) == [
        "model.path CompVis/stable-diffusion-v1-4 in place of shapes",
        "domain houses in place of shapes",
        "redraw.steps 30 in place of 15",
        "redraw.guidance_scale 7.5 in place of 3.0",
        "distance.metric dreamsim in place of elements",
        "distance.threshold 0.45 in place of 0.3",
        "in_distribution.check editability in place of positions",
    ]
    messages = str(Assumptions.of(settings, MEASURED))
    assert "model.path CompVis/" in messages
    assert "(inversion 25%, drawing 50%, metric 51%)" in messages


@pytest.mark.parametrize(
    "otherwise",
    [
        {"max_tokens": 3},
        {"inversion": {"steps": 61}},
        {"inversion": {"timesteps": "uniform"}},
        {"redraw": {"round": 5}},
        {"in_distribution": {"ask": "redrawn"}},
    ],
)
def test_counts_of_a_different_method_are_not_used(otherwise: dict[str, Any]) -> None:
    settings = load_settings("laptop", None, otherwise)
    assert known({"laptop": MEASURED}, settings) is None
    messages = Assumptions.of(settings, None).lines
    assert messages[0].startswith("nothing was measured")


def test_counts_of_paper_shapes_apply_to_paper() -> None:
    shapes, paper = load_settings("paper-shapes"), load_settings("paper", None, HOUSES)
    measured = Measured(counts=protocol_counts(shapes, 2.5), images=12, settings=shapes)
    assert known({"laptop": MEASURED, "paper-shapes": measured}, paper) is measured
    assert carried_over(measured, paper) == protocol_counts(paper, 2.5)


def test_of_several_counts_the_nearest_are_used() -> None:
    far = MEASURED.model_copy(update={"settings": load_settings("laptop", None, {"redraw": {"steps": 30}})})
    near = MEASURED.model_copy(update={"images": 80})
    assert known({"a": far, "b": MEASURED, "c": near}, MEASURED.settings) is near


def test_measured_counts_are_written_and_read(tmp_path: Path) -> None:
    file = tmp_path / "counts.json"
    strict = load_settings("laptop", None, {"distance": {"threshold": 0.45}})
    kept = {"laptop": MEASURED, "strict": MEASURED.model_copy(update={"settings": strict})}
    write(kept, file)
    assert read(file) == kept


def test_a_file_without_counts_is_refused_in_one_line(tmp_path: Path) -> None:
    file = tmp_path / "counts.json"
    with pytest.raises(SettingsError, match=r"cannot read .*counts\.json: No such file"):
        read(file)
    row = MEASURED.model_dump(mode="json")
    wrong: list[Any] = ["no JSON", [1], {"laptop": row | {"images": 0}}, {"laptop": row | {"extra": 1}}]
    for content in wrong:
        file.write_text(content if isinstance(content, str) else json.dumps(content))
        with pytest.raises(SettingsError, match=r"counts\.json") as refused:
            read(file)
        assert "\n" not in str(refused.value)
