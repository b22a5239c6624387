"""Small models with random weights, one of each family that is supported, as diffusers writes them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from originality.model.diffusers_folder import MODELS

_WIDTH = 64
"""Of the text states."""


def sd1(folder: Path) -> Path:
    """Stable Diffusion 1.x: predicts the noise, pads with the end of text."""
    return _save(folder, pad="<|endoftext|>", act="quick_gelu", unet={"attention_head_dim": 8}, schedule={})


def sd2(folder: Path) -> Path:
    """Stable Diffusion 2.x at its full size: predicts the velocity, pads with "!", OpenCLIP's activation,
    heads by level, linear projections."""
    unet = {"attention_head_dim": (2, 4), "use_linear_projection": True}
    return _save(folder, pad="!", act="gelu", unet=unet, schedule={"prediction_type": "v_prediction"})


def sdxl(folder: Path) -> Path:
    """Stable Diffusion XL: two text encoders, the second with a sum of the text; told the image's size."""
    first, second = _tokenizer(folder / "words", "<|endoftext|>"), _tokenizer(folder / "words", "!")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        StableDiffusionXLPipeline(
            vae=tiny_vae(),
            text_encoder=CLIPTextModel(_text(first, "quick_gelu")),
            text_encoder_2=CLIPTextModelWithProjection(_text(second, "gelu", width=48, projection_dim=40)),
            tokenizer=first,
            tokenizer_2=second,
            unet=_unet(
                cross_attention_dim=_WIDTH + 48,
                attention_head_dim=(2, 4),
                use_linear_projection=True,
                transformer_layers_per_block=(1, 2),
                addition_embed_type="text_time",
                addition_time_embed_dim=8,
                projection_class_embeddings_input_dim=40 + 6 * 8,
            ),
            scheduler=_schedule(),
            add_watermarker=False,
        ).save_pretrained(folder)
    return folder


FAMILIES: dict[str, Callable[[Path], Path]] = {"sd1": sd1, "sd2": sd2, "sdxl": sdxl}


def _save(folder: Path, *, pad: str, act: str, unet: dict[str, Any], schedule: dict[str, Any]) -> Path:
    tokenizer = _tokenizer(folder / "words", pad)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        StableDiffusionPipeline(
            vae=tiny_vae(),
            text_encoder=CLIPTextModel(_text(tokenizer, act)),
            tokenizer=tokenizer,
            unet=_unet(cross_attention_dim=_WIDTH, **unet),
            scheduler=_schedule(**schedule),
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        ).save_pretrained(folder)
    return folder


def tiny_vae() -> AutoencoderKL:
    """A VAE with random weights; a latent has an eighth of the image's side, as in Stable Diffusion."""
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(8, 8, 16, 16),
        norm_num_groups=4,
        latent_channels=4,
        sample_size=64,
    )


def _text(tokenizer: CLIPTokenizer, act: str, width: int = _WIDTH, **more: Any) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=tokenizer.model_max_length,
        hidden_act=act,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        **more,
    )


def _unet(**kind: Any) -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(32, 64),
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        layers_per_block=1,
        norm_num_groups=8,
        **kind,
    )


def _schedule(**kind: Any) -> DDIMScheduler:
    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        **kind,
    )


def _tokenizer(folder: Path, pad: str) -> CLIPTokenizer:
    """The words of the model that ships."""
    shutil.copytree(MODELS / "shapes" / "tokenizer", folder)
    config = folder / "tokenizer_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "pad_token": pad}))
    tokenizer = CLIPTokenizer.from_pretrained(folder)
    shutil.rmtree(folder)
    return tokenizer
