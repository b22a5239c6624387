"""A model's noise schedule, and the samplers that denoise along it."""

from __future__ import annotations

import inspect
from typing import Any

import diffusers
import torch

from originality.contract.config import SettingsError
from originality.model.library_errors import library_errors
from originality.settings.parts import ModelSettings
from originality.settings.redraw import RedrawSettings

SCHEDULERS: dict[str, tuple[Any, dict[str, Any]]] = {
    "pndm": (diffusers.PNDMScheduler, {"skip_prk_steps": True}),
    "ddim": (diffusers.DDIMScheduler, {}),
    "euler": (diffusers.EulerDiscreteScheduler, {}),
    # A model's own schedule may name an "sde-" algorithm, which adds noise at each step: redraws would then
    # depend on more than their initial noise.
    "dpm++": (diffusers.DPMSolverMultistepScheduler, {"algorithm_type": "dpmsolver++"}),
    "unipc": (diffusers.UniPCMultistepScheduler, {}),
}
"""Class of diffusers and added options for each value of the setting redraw.scheduler."""


def sampler_of(schedule: dict[str, Any], settings: RedrawSettings) -> Any:
    """The sampler that the settings name, on a model's noise schedule.

    Raises:
        SettingsError: the sampler would ignore a part of the schedule.
    """
    kind, extra = SCHEDULERS[settings.scheduler]
    zero_snr = "rescale_betas_zero_snr"
    if schedule.get(zero_snr) and zero_snr not in inspect.signature(kind.__init__).parameters:
        raise SettingsError(
            f"the model's noise schedule ends in pure noise ({zero_snr}), which the sampler "
            f"{settings.scheduler!r} does not support; use --set redraw.scheduler=ddim"
        )
    return kind.from_config(schedule, **extra)


def check_schedule(model: ModelSettings, schedule: dict[str, Any], settings: RedrawSettings) -> None:
    """Build the sampler that the settings name on a model's noise schedule, and check the schedule's values.

    Raises:
        SettingsError: the sampler cannot follow the schedule, or its values are invalid.
    """
    file = "scheduler/scheduler_config.json"
    with library_errors(f"model folder {model.path!r}: its {file}"):
        if reason := _invalid(diffusers.DDPMScheduler.from_config(schedule), settings.steps):
            raise SettingsError(
                f"model folder {model.path!r}: its {file} {reason}; fetch the model's published file"
            )
        sampler_of(schedule, settings).set_timesteps(settings.steps)


def _invalid(schedule: Any, steps: int) -> str | None:
    """Why no model was trained on a noise schedule, as the end of "its scheduler_config.json ..."."""
    trained, alphas_cumprod = schedule.config.num_train_timesteps, schedule.alphas_cumprod
    if len(alphas_cumprod) != trained:
        return f"has {len(alphas_cumprod)} betas and num_train_timesteps {trained}"
    if trained < steps:
        return f"has num_train_timesteps {trained}, fewer than redraw.steps {steps}"
    least = 0 if schedule.config.rescale_betas_zero_snr else torch.finfo(alphas_cumprod.dtype).tiny
    # Written as "not all within", because NaN fails every comparison.
    within = ((alphas_cumprod >= least) & (alphas_cumprod <= 1)).all()
    if not within or (alphas_cumprod.diff() > 0).any() or alphas_cumprod[0] == alphas_cumprod[-1]:
        return "has betas of which alphas_cumprod does not fall within (0, 1]"
    return None
