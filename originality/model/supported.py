"""Which models are supported, by their configurations. Each function returns the reason why not, or None."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

ONLY = "supported are Stable Diffusion 1.x, 2.x and XL"

PREDICTIONS = ("epsilon", "v_prediction")
"""What a UNet may have been trained to predict from noisy latents: their noise (Stable Diffusion 1.x,
2.x-base), or their velocity (2.x at 768 pixels; Salimans and Ho, arXiv 2202.00512, Appendix D)."""

SDXL = "text_time"
"""Value of addition_embed_type of a UNet that also reads the pooled text and the image's size."""

_SAMPLERS = ("DDPM", "DDPMParallel", "DDIM", "DDIMParallel", "DDIMInverse", "PNDM", "RePaint", "LCM", "TCD")
_SOLVERS = ("LMS", "Euler", "EulerAncestral", "Heun", "KDPM2", "KDPM2Ancestral")
_DPM = ("Multistep", "MultistepInverse", "Singlestep", "SDE")
BETA_SCHEDULERS = frozenset(
    (
        *(f"{name}Scheduler" for name in (*_SAMPLERS, "UniPCMultistep", "DEISMultistep", "SASolver")),
        *(f"{name}DiscreteScheduler" for name in _SOLVERS),
        *(f"DPMSolver{name}Scheduler" for name in _DPM),
    )
)
"""Classes of schedulers in diffusers that describe DDPM's noise: betas from beta_start, beta_end and
beta_schedule, or trained_betas. Other classes give these keys a different meaning, or lack them."""


def pipeline(index: dict[str, Any]) -> str | None:
    """Why the pipeline of a model_index.json is unsupported; None if it is supported or unknown."""
    kind = str(index.get("_class_name") or "")
    known = "StableDiffusion" in kind and not re.search("StableDiffusion3|Cascade", kind)
    if known or kind == "DiffusionPipeline" or not kind.endswith("Pipeline"):
        return None
    return f"is a {kind} by its model_index.json; {ONLY}"


def schedule(config: dict[str, Any]) -> str | None:
    """Why a model with this noise schedule is unsupported; None if it is supported."""
    kind = str(config.get("_class_name") or "")
    known = not kind or kind in BETA_SCHEDULERS
    flow = config.get("use_flow_sigmas") or "flow" in str(config.get("prediction_type"))
    if flow or "FlowMatch" in kind:
        key = "use_flow_sigmas" if config.get("use_flow_sigmas") else config.get("prediction_type")
        by = f"{kind or 'its scheduler'} with {key}" if known else kind
        return f"was trained by flow matching ({by}), which is not supported; {ONLY}, on a schedule of betas"
    if not known:
        return (
            f"has a {kind} by its scheduler_config.json, which is not known to follow DDPM's schedule of "
            f"betas; {ONLY}: use the scheduler folder of the model that it was made from"
        )
    if (own := config.get("prediction_type", "epsilon")) not in PREDICTIONS:
        return f"predicts {own!r}; only {' and '.join(PREDICTIONS)} are supported"
    return None


def is_bert(text: dict[str, Any]) -> bool:
    """Whether a text encoder is BERT, as in the paper's synthetic setting (Appendix B.1)."""
    return text.get("model_type") == "bert"


def networks(unet: dict[str, Any], vae: dict[str, Any], texts: Sequence[dict[str, Any]]) -> str | None:
    """Why a model with these configurations is unsupported; None if it is supported."""
    if (encodes := vae.get("_class_name", "AutoencoderKL")) != "AutoencoderKL":
        return f"has a VAE of kind {encodes}; only AutoencoderKL is supported"
    channels, kind = vae["latent_channels"], unet.get("_class_name", "UNet2DConditionModel")
    if kind != "UNet2DConditionModel":
        return f"has a {kind}, not a UNet that is conditioned on text alone"
    if unet["in_channels"] != channels:
        purposes = {2 * channels: "edits images", 2 * channels + 1: "fills in parts of images"}
        does = purposes.get(unet["in_channels"], f"reads {unet['in_channels']} channels")
        return f"{does}, so it does not generate from text alone; use the model that it was made from"
    if unet.get("addition_embed_type") not in (None, SDXL):
        return f"needs {unet['addition_embed_type']!r} in addition to text, which is not supported"
    needed = [k for k in ("class_embed_type", "encoder_hid_dim_type", "time_cond_proj_dim") if unet.get(k)]
    if needed:
        return f"has a UNet with {needed[0]} {unet[needed[0]]!r}, which is not supported"
    if not isinstance(unet["sample_size"], int):
        return f"generates images of {unet['sample_size']} latents, which are not square"
    for name in ("latents_mean", "shift_factor"):
        if vae.get(name) is not None:
            return f"has a VAE whose latents are centred ({name}), which is not supported"
    for text in texts:
        named = (text.get("architectures") or ["CLIPTextModel"])[0]
        if not named.startswith("CLIPTextModel") and not is_bert(text):
            return f"reads text with a {named}; pseudo-tokens take rows of CLIP's or BERT's token table"
    return None
