from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from originality.shapes.image_sets import UniformSet, pixels
from tests.support.dreamsim_standin import NORM, TINY, package_undone, save_adapter, save_clip, save_dino

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def scenes() -> np.ndarray:
    """Four images of the world of shapes with something in them: uint8 (4, 64, 64, 3)."""
    found = [s for s in (UniformSet().scene(5, i) for i in range(12)) if s.elements]
    return pixels(found[:4])


@pytest.fixture(scope="session")
def pictures() -> np.ndarray:
    """Four images that differ everywhere: uint8 (4, 96, 128, 3)."""
    noise = np.random.default_rng(3).integers(0, 256, (4, 5, 6, 3), dtype=np.uint8)
    large = [Image.fromarray(n).resize((128, 96), Image.Resampling.BICUBIC) for n in noise]
    return np.stack([np.asarray(image) for image in large])


@pytest.fixture(scope="session")
def tiny_networks() -> Iterator[None]:
    """The dreamsim package with transformers of 0.3M instead of 86M parameters."""
    from dreamsim.feature_extraction import (
        load_clip_as_dino,
        load_open_clip_as_dino,
        vision_transformer,
    )
    from dreamsim.model import EMBED_DIMS

    def vit_base(patch_size: int = 16, **kwargs: Any) -> Any:
        return vision_transformer.VisionTransformer(
            patch_size=patch_size, qkv_bias=True, norm_layer=NORM, **TINY, **kwargs
        )

    with pytest.MonkeyPatch.context() as patch:
        for module in (vision_transformer, load_clip_as_dino, load_open_clip_as_dino):
            patch.setattr(module, "vit_base", vit_base)
        for model in ("clip_vitb16", "clip_vitb32", "open_clip_vitb16", "open_clip_vitb32"):
            patch.setitem(EMBED_DIMS[model], "embedding", 32)
        patch.setitem(EMBED_DIMS["dino_vitb16"], "cls", TINY["embed_dim"])
        yield


@pytest.fixture(scope="session")
def tiny_folder(tiny_networks: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of all branches for :func:`tiny_networks`; only ever read."""
    from dreamsim.feature_extraction.vision_transformer import vit_base

    folder = tmp_path_factory.mktemp("dreamsim")
    save_dino(folder, vit_base(patch_size=16), TINY)
    for seed, name in enumerate(("clip_vitb16", "clip_vitb32", "open_clip_vitb16"), start=2):
        save_clip(folder / f"{name}_pretrain.pth.tar", vit_base(int(name[-2:])), 32, seed)
    save_clip(folder / "open_clip_vitb32_pretrain.pth.tar", vit_base(32), 32, 6)
    with package_undone():
        for branch in ("ensemble", "dino_vitb16", "clip_vitb32", "open_clip_vitb32"):
            save_adapter(folder, branch)
    return folder
