"""Measures the error of half precision in the UNet's prediction."""

from __future__ import annotations

import gc

import torch
from torch import Tensor

from originality.model.diffusion import LatentDiffusion
from originality.model.model_folder import ModelFolder
from originality.model.randomness import keyed_generator
from originality.settings.parts import ModelSettings
from originality.settings.roles import Decides, knobs

BOUNDS = {"fp16": 1e-2, "bf16": 5e-2}
"""Relative errors above which the prediction counts as wrong. Our choice: on a CPU the model that ships has
up to 6e-4 in fp16 and 5e-3 in bf16, random models of each family up to 1.5e-3 and 1.2e-2."""

LEVELS = 5
"""Number of timesteps that are compared, from the first to the last."""


def errors(
    model: LatentDiffusion, settings: ModelSettings, folder: ModelFolder, prompt: str
) -> dict[int, float]:
    """How far the model's prediction is from that in fp32, for the same noisy latents and the same words.

    The reference uses the weights in fp32 too, so that the error includes the rounding of the weights.

    Returns:
        ``|half - full| / |full|`` by timestep; not finite if the prediction is not.
    """
    half = _prediction(model, prompt)
    exact = _in_fp32(settings, folder, model.device)
    try:
        full = _prediction(exact, prompt)
    finally:
        del exact
        gc.collect()
        torch.cuda.empty_cache()
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = settings.tf32
    apart = (half - full).flatten(1).norm(dim=1) / full.flatten(1).norm(dim=1)
    return dict(zip(_times(model).tolist(), apart.tolist(), strict=True))


def _in_fp32(settings: ModelSettings, folder: ModelFolder, device: torch.device) -> LatentDiffusion:
    """Load the model a second time, on the CPU if the GPU has no memory for it."""
    usual = {knob.path: knob.default for knob in knobs(ModelSettings) if knob.has(Decides.SPEED)}
    exact = settings.model_copy(update={**usual, "attention": "sdpa", "device": device.type})
    try:
        return LatentDiffusion(exact, folder)
    except torch.OutOfMemoryError:
        pass  # the traceback keeps the loaded weights in memory until the handler has ended
    torch.cuda.empty_cache()
    return LatentDiffusion(exact.model_copy(update={"device": "cpu"}), folder)


@torch.no_grad()
def _prediction(model: LatentDiffusion, prompt: str) -> Tensor:
    """The model's prediction at each timestep, float32 (LEVELS, c, h, w) on the CPU."""
    generator = keyed_generator("half precision")
    # Normal numbers represent an image's latents, which are scaled to unit variance.
    clean, noise = torch.randn((2, LEVELS, *model.latent_shape), generator=generator).to(model.device)
    t = _times(model).to(model.device)
    words = model.encode_prompts([prompt]).repeat_prompt(LEVELS)
    return model.predict(model.add_noise(clean, noise, t), t, words).cpu()


def _times(model: LatentDiffusion) -> Tensor:
    return torch.linspace(0, len(model.alphas_cumprod) - 1, LEVELS).long()
