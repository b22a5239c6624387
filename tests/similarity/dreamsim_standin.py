"""Random-weight stand-ins for DreamSim's folder, whose real weights are a download away.

The stand-in has the files, the names and the formats of the real folder, DINO's hub code included
(ours, made of timm), so that the real dreamsim package loads it offline.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

NORM = partial(torch.nn.LayerNorm, eps=1e-6)
"""As in DINO and timm."""

FULL = {"embed_dim": 768, "depth": 12, "num_heads": 12}
TINY = {"embed_dim": 48, "depth": 12, "num_heads": 3}

HUBCONF = """
import torch
from timm.models.vision_transformer import VisionTransformer
dependencies = ["torch", "timm"]
URL = "https://dl.fbaipublicfiles.com/dino/dino_vitbase16_pretrain/dino_vitbase16_pretrain.pth"

def dino_vitb16(pretrained=True):
    model = VisionTransformer(img_size=224, patch_size=16, num_classes=0, **{shape!r})
    model.load_state_dict(torch.hub.load_state_dict_from_url(URL, map_location="cpu"))
    return model
"""


@contextmanager
def package_undone() -> Iterator[None]:
    """Lets the real package do what it does to the process, and undoes it."""
    hub = torch.hub._hub_dir
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            torch.hub._hub_dir = hub


def random_like(state: dict[str, torch.Tensor], seed: int) -> dict[str, torch.Tensor]:
    """Weights with which a transformer tells images apart, stored in bf16 to spare the disk."""
    rng = torch.Generator().manual_seed(seed)
    out = {}
    for name, value in state.items():
        noise = torch.randn(value.shape, generator=rng)
        scaled = 1 + 0.1 * noise if "norm" in name and name.endswith("weight") else 0.08 * noise
        out[name] = scaled.to(torch.bfloat16)
    return out


def save_clip(path: Path, vit: Any, projected: int, seed: int) -> None:
    vit.pos_drop = torch.nn.LayerNorm(vit.embed_dim)
    state = random_like(vit.state_dict(), seed)
    proj = torch.randn(vit.embed_dim, projected, generator=torch.Generator().manual_seed(seed))
    torch.save({"state_dict": {**state, "proj": proj}}, path)


def save_dino(folder: Path, vit: Any, shape: dict[str, int]) -> None:
    (folder / "checkpoints").mkdir()
    torch.save(random_like(vit.state_dict(), 1), folder / "checkpoints" / "dino_vitbase16_pretrain.pth")
    (folder / "facebookresearch_dino_main").mkdir()
    hubconf = folder / "facebookresearch_dino_main" / "hubconf.py"
    hubconf.write_text(HUBCONF.format(shape=shape))
    head = {
        f"module.head.{name}": torch.zeros(1)
        for layer in (0, 2, 4)
        for name in (f"mlp.{layer}.weight", f"mlp.{layer}.bias")
    }
    torch.save(
        {"student": {**head, "module.head.last_layer.weight": torch.zeros(1)}},
        folder / "dino_vitb16_pretrain.pth",
    )


def save_adapter(folder: Path, branch: str) -> None:
    """LoRA of rank 16 on "qkv", as DreamSim's, with an effect (peft begins with none)."""
    from dreamsim.config import dreamsim_args
    from dreamsim.model import PerceptualModel
    from peft import LoraConfig, get_peft_model

    base = PerceptualModel(**dreamsim_args["model_config"][branch], device="cpu", load_dir=str(folder))
    config = LoraConfig(r=16, lora_alpha=8, lora_dropout=0.3, bias="none", target_modules=["qkv"])
    tuned = get_peft_model(base, config)
    rng = torch.Generator().manual_seed(9)
    for name, weight in tuned.named_parameters():
        if "lora_" in name:
            weight.data = 0.1 * torch.randn(weight.shape, generator=rng)
    name = "ensemble_lora" if branch == "ensemble" else f"{branch}_single_lora"
    tuned.save_pretrained(str(folder / name))


def package_distances(folder: Path, branch: str, images: np.ndarray) -> np.ndarray:
    """The real package's ``model(a, b)`` of the first image with each, one pair at a time."""
    from dreamsim import dreamsim
    from PIL import Image

    with package_undone(), torch.inference_mode():
        model, preprocess = dreamsim(device="cpu", cache_dir=str(folder), dreamsim_type=branch)
        tensors = [preprocess(Image.fromarray(image)) for image in images]
        return np.array([model(tensors[0], t).item() for t in tensors])
