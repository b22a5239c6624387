"""The families of Stable Diffusion: their published architectures, as diffusers and transformers write them.

Configurations of the published models, without weights. They complete a single-file checkpoint, which holds
weights alone, and build a model of the real size where no weights are available.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from originality.model.clip_vocabulary import END, LENGTH, TOKENS, write_tokenizer


@dataclass(frozen=True)
class TextEncoder:
    """A text encoder and its tokenizer."""

    kind: str
    """Class in transformers."""
    config: dict[str, Any]
    pad: str
    """Padding token of its tokenizer."""


@dataclass(frozen=True)
class Family:
    """One family's architecture."""

    pipeline: str
    """Class in diffusers."""
    unet: dict[str, Any]
    vae: dict[str, Any]
    texts: tuple[TextEncoder, ...]
    sampler: str
    """Class of the published scheduler in diffusers."""
    schedule: dict[str, Any]


def _text(width: int, layers: int, heads: int, act: str, **more: Any) -> dict[str, Any]:
    return {
        "model_type": "clip_text_model",
        "vocab_size": TOKENS,
        "hidden_size": width,
        "intermediate_size": 4 * width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "max_position_embeddings": LENGTH,
        "hidden_act": act,
        "projection_dim": width,
        # The published files state other ids, from before transformers read them. These are the true ones.
        "bos_token_id": TOKENS - 2,
        "eos_token_id": TOKENS - 1,
        **more,
    }


def _unet(side: int, text_width: int, **more: Any) -> dict[str, Any]:
    """UNet of SD 1.x and 2.x: four levels, all but the deepest with cross-attention to the text."""
    return {
        "sample_size": side,
        "in_channels": 4,
        "out_channels": 4,
        "block_out_channels": [320, 640, 1280, 1280],
        "down_block_types": [*["CrossAttnDownBlock2D"] * 3, "DownBlock2D"],
        "up_block_types": ["UpBlock2D", *["CrossAttnUpBlock2D"] * 3],
        "layers_per_block": 2,
        "cross_attention_dim": text_width,
        **more,
    }


def _vae(side: int, **more: Any) -> dict[str, Any]:
    return {
        "sample_size": side,
        "in_channels": 3,
        "out_channels": 3,
        "latent_channels": 4,
        "block_out_channels": [128, 256, 512, 512],
        "down_block_types": ["DownEncoderBlock2D"] * 4,
        "up_block_types": ["UpDecoderBlock2D"] * 4,
        "layers_per_block": 2,
        "scaling_factor": 0.18215,
        "force_upcast": False,  # unlike SDXL's, it does not overflow in fp16
        **more,
    }


_SCHEDULE = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "steps_offset": 1,
    "clip_sample": False,
}
_PNDM = {**_SCHEDULE, "set_alpha_to_one": False, "skip_prk_steps": True}
_CLIP_L = TextEncoder("CLIPTextModel", _text(768, 12, 12, "quick_gelu"), pad=END)
_OPENCLIP_H = TextEncoder("CLIPTextModel", _text(1024, 23, 16, "gelu"), pad="!")
"""Without OpenCLIP's last layer, which SD 2.x does not use."""
_OPENCLIP_BIGG = TextEncoder("CLIPTextModelWithProjection", _text(1280, 32, 20, "gelu"), pad="!")
_SD2_HEADS = {"attention_head_dim": [5, 10, 20, 20], "use_linear_projection": True}

FAMILIES = {
    "sd1": Family(
        pipeline="StableDiffusionPipeline",
        unet=_unet(64, 768, attention_head_dim=8),
        vae=_vae(512),
        texts=(_CLIP_L,),
        sampler="PNDMScheduler",
        schedule={**_PNDM, "prediction_type": "epsilon"},
    ),
    "sd2-base": Family(
        pipeline="StableDiffusionPipeline",
        unet=_unet(64, 1024, **_SD2_HEADS),
        vae=_vae(512),
        texts=(_OPENCLIP_H,),
        sampler="PNDMScheduler",
        schedule={**_PNDM, "prediction_type": "epsilon"},
    ),
    "sd2": Family(
        pipeline="StableDiffusionPipeline",
        unet=_unet(96, 1024, **_SD2_HEADS, upcast_attention=True),
        vae=_vae(768),
        texts=(_OPENCLIP_H,),
        sampler="DDIMScheduler",
        schedule={**_SCHEDULE, "set_alpha_to_one": False, "prediction_type": "v_prediction"},
    ),
    "sdxl": Family(
        pipeline="StableDiffusionXLPipeline",
        unet=_unet(
            128,
            2048,
            block_out_channels=[320, 640, 1280],
            down_block_types=["DownBlock2D", *["CrossAttnDownBlock2D"] * 2],
            up_block_types=[*["CrossAttnUpBlock2D"] * 2, "UpBlock2D"],
            transformer_layers_per_block=[1, 2, 10],
            attention_head_dim=[5, 10, 20],
            use_linear_projection=True,
            addition_embed_type="text_time",
            addition_time_embed_dim=256,
            projection_class_embeddings_input_dim=2816,
        ),
        vae=_vae(1024, scaling_factor=0.13025, force_upcast=True),
        texts=(_CLIP_L, _OPENCLIP_BIGG),
        sampler="EulerDiscreteScheduler",
        schedule={**_SCHEDULE, "timestep_spacing": "leading", "prediction_type": "epsilon"},
    ),
}
"""SD v1-1 to v1-5; v2-base and v2-1-base (512 pixels); v2 and v2-1 (768 pixels); SDXL base."""


def write_configuration(family: Family, folder: Path) -> Path:
    """Write a family's diffusers folder, complete but for weights.

    Raises:
        SettingsError: CLIP's vocabulary is not installed.
    """
    index: dict[str, Any] = {
        "_class_name": family.pipeline,
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
        "scheduler": ["diffusers", family.sampler],
    }
    if family.pipeline == "StableDiffusionPipeline":
        index |= {"safety_checker": [None, None], "feature_extractor": [None, None]}
        index["requires_safety_checker"] = False
    else:
        index["force_zeros_for_empty_prompt"] = True
    _write(folder / "unet" / "config.json", {"_class_name": "UNet2DConditionModel", **family.unet})
    _write(folder / "vae" / "config.json", {"_class_name": "AutoencoderKL", **family.vae})
    _write(folder / "scheduler" / "scheduler_config.json", {"_class_name": family.sampler, **family.schedule})
    for suffix, text in zip(("", "_2"), family.texts, strict=False):
        index[f"text_encoder{suffix}"] = ["transformers", text.kind]
        index[f"tokenizer{suffix}"] = ["transformers", "CLIPTokenizer"]
        config = {"architectures": [text.kind], **text.config}
        _write(folder / f"text_encoder{suffix}" / "config.json", config)
        write_tokenizer(folder / f"tokenizer{suffix}", text.pad)
    _write(folder / "model_index.json", index)
    return folder


def _write(file: Path, values: dict[str, Any]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(values, indent=2) + "\n")
