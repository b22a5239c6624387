"""A model's noise schedule is one of diffusers' schedules of betas, or refused in one line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch

from originality.contract.config import SettingsError
from originality.model.model_folder import open_model
from originality.model.noise_schedule import SCHEDULERS, check_schedule, sampler_of
from originality.model.supported import BETA_SCHEDULERS, schedule
from originality.settings.parts import ModelSettings
from originality.settings.redraw import RedrawSettings

OTHER_SCHEDULERS = (
    *("EDMEulerScheduler", "LTXEulerAncestralRFScheduler", "SCMScheduler", "HeliosScheduler", "FooScheduler"),
    *("CMStochasticIterativeScheduler", "CosineDPMSolverMultistepScheduler", "AmusedScheduler", "Foo"),
    *("UnCLIPScheduler", "FlowMapEulerDiscreteScheduler", "IPNDMScheduler", "KarrasVeScheduler"),
    *("CogVideoXDDIMScheduler", "DDPMWuerstchenScheduler", "ScoreSdeVeScheduler", "VQDiffusionScheduler"),
)
SCALED = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
SCHEDULES: list[tuple[dict[str, Any], str]] = [
    ({"_class_name": "FlowMatchEulerDiscreteScheduler"}, "flow matching .FlowMatchEulerDiscreteScheduler"),
    ({"_class_name": "FlowMatchHeunDiscreteScheduler", "prediction_type": "epsilon"}, "flow matching"),
    ({"prediction_type": "flow_prediction"}, "flow matching .DDIMScheduler with flow_prediction"),
    ({"use_flow_sigmas": True}, "flow matching .DDIMScheduler with use_flow_sigmas"),
    *(({"_class_name": kind}, f"a {kind} by its scheduler_config.json") for kind in OTHER_SCHEDULERS),
    ({"prediction_type": "sample"}, "predicts 'sample'"),
]


@pytest.mark.parametrize(("values", "why"), SCHEDULES)
@pytest.mark.parametrize("prediction", [None, "epsilon"])
def test_an_unsupported_schedule_is_refused(
    hub_folder: Path, tmp_path: Path, values: dict[str, Any], why: str, prediction: str | None
) -> None:
    """Also where the settings say what it predicts, as that does not make it a schedule of betas."""
    shutil.copytree(hub_folder, tmp_path / "model")
    file = tmp_path / "model" / "scheduler" / "scheduler_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))
    with pytest.raises(SettingsError, match=why):
        open_model(ModelSettings(path=str(tmp_path / "model"), prediction=prediction))


@pytest.mark.parametrize("kind", sorted(BETA_SCHEDULERS))
def test_a_schedule_of_betas_is_what_diffusers_makes_of_it(kind: str) -> None:
    if kind == "DPMSolverSDEScheduler":
        pytest.importorskip("torchsde")
    betas_config = {
        "beta_start": 0.001,
        "beta_end": 0.01,
        "beta_schedule": "linear",
        "num_train_timesteps": 100,
    }
    betas = getattr(diffusers, kind).from_config(betas_config).betas
    assert torch.allclose(betas, torch.linspace(0.001, 0.01, 100))
    assert schedule({"_class_name": kind, **betas_config}) is None


def test_a_sampler_that_ignores_zero_terminal_noise_is_refused() -> None:
    zero = {"beta_schedule": "scaled_linear", "rescale_betas_zero_snr": True}
    with pytest.raises(SettingsError, match=r"'pndm'.*redraw\.scheduler=ddim"):
        sampler_of(zero, RedrawSettings(scheduler="pndm"))
    assert sampler_of(zero, RedrawSettings(scheduler="ddim")).alphas_cumprod[-1] == 0
    usual = {**zero, "rescale_betas_zero_snr": False}
    assert sampler_of(usual, RedrawSettings(scheduler="pndm")).alphas_cumprod[-1] > 0


INVALID_SCHEDULES: list[tuple[dict[str, Any], str]] = [
    ({"beta_schedule": "foo"}, "cannot be loaded .NotImplementedError: foo"),
    ({"beta_start": "x"}, "cannot be loaded .TypeError"),
    ({"num_train_timesteps": "1000"}, "cannot be loaded .TypeError"),
    ({"num_train_timesteps": 0}, "num_train_timesteps 0"),
    ({"timestep_spacing": "foo"}, "cannot be loaded .ValueError"),
    ({"num_train_timesteps": 10}, "num_train_timesteps 10"),
    ({"beta_end": 2.0}, "alphas_cumprod"),
    ({"beta_end": float("nan")}, "alphas_cumprod"),
    ({"beta_start": 0.0, "beta_end": 0.0}, "alphas_cumprod"),
    ({"beta_start": -0.01}, "cannot be loaded|alphas_cumprod"),
    ({"trained_betas": [1, 2]}, "2 betas .*1000"),
    ({"trained_betas": [0.5] * 1000}, "alphas_cumprod"),
]


@pytest.mark.parametrize(("values", "why"), INVALID_SCHEDULES)
def test_an_invalid_schedule_is_named(values: dict[str, Any], why: str) -> None:
    model = ModelSettings(path="there")
    for scheduler in SCHEDULERS:
        redraw = RedrawSettings(scheduler=scheduler, steps=50)
        check_schedule(model, SCALED, redraw)
        check_schedule(model, {**SCALED, "trained_betas": [0.01] * 1000}, redraw)
        with pytest.raises(SettingsError, match=why) as caught:
            check_schedule(model, {**SCALED, **values}, redraw)
        message = str(caught.value)
        assert "'there': its scheduler/scheduler_config.json " in message and "\n" not in message
    zero = {**SCALED, "rescale_betas_zero_snr": True}
    check_schedule(model, zero, RedrawSettings(scheduler="ddim", steps=50))
