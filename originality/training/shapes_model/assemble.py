"""Stage 4: write the trained parts as a model folder in diffusers' layout."""

from __future__ import annotations

import copy
import json
from pathlib import Path

from diffusers import AutoencoderKL, DPMSolverMultistepScheduler, StableDiffusionPipeline
from safetensors.torch import load_file, save_file
from transformers import CLIPTextModel

from originality.training.shapes_model.denoiser import Denoiser
from originality.training.shapes_model.vocabulary import all_words, save_tokenizer


def assemble(vae: AutoencoderKL, denoiser: Denoiser, folder: Path) -> None:
    """Write the Stable Diffusion folder with safetensors and, for shapes on white, without a safety checker.

    The UNet is stored in fp16, for half the space, the other parts in fp32.
    """
    pipeline = StableDiffusionPipeline(
        vae=vae,
        text_encoder=denoiser.text_encoder,
        tokenizer=denoiser.tokenizer,
        unet=copy.deepcopy(denoiser.unet).half(),
        scheduler=DPMSolverMultistepScheduler.from_config(denoiser.scheduler.config),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(folder, safe_serialization=True)
    if isinstance(denoiser.text_encoder, CLIPTextModel):
        save_tokenizer(all_words(), denoiser.tokenizer.model_max_length, folder / "tokenizer")
        _name_as_published(folder / "text_encoder" / "model.safetensors")
    for config in folder.rglob("*.json"):
        values = json.loads(config.read_text())
        if isinstance(values, dict) and values.pop("_name_or_path", None) is not None:
            config.write_text(json.dumps(values, indent=2) + "\n")


def _name_as_published(weights: Path) -> None:
    """Name the text encoder's tensors as every published Stable Diffusion does (``text_model.*``).

    transformers 5.6 dropped the prefix from what it saves; it still reads it, and older versions and other
    tools read nothing else.
    """
    tensors = load_file(weights)
    prefixed = {f"text_model.{name.removeprefix('text_model.')}": t for name, t in tensors.items()}
    save_file(prefixed, weights, {"format": "pt"})
