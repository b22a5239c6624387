"""Stage 1: train the autoencoder (paper Appendix B: a VAE from scratch, on the set's own images)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn

from originality.shapes.image_sets import ImageSet, TaughtSet, pixels
from originality.training.shapes_model.recipe import ShapesRecipe
from originality.training.stage import Processes, Stage, run_stage


def build(recipe: ShapesRecipe) -> AutoencoderKL:
    """An untrained autoencoder; seed torch's global generator first."""
    own = recipe.autoencoder
    channels = own.channels
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * len(channels),
        up_block_types=("UpDecoderBlock2D",) * len(channels),
        block_out_channels=channels,
        layers_per_block=own.layers_per_block,
        latent_channels=own.latent_channels,
        norm_num_groups=own.norm_groups,
        mid_block_add_attention=own.attention,
        sample_size=recipe.side,
    )


def to_tensor(images: np.ndarray) -> Tensor:
    """uint8 (n, h, w, 3) to float32 (n, 3, h, w) in -1..1."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).float().div(127.5).sub(1).contiguous()


def stage(recipe: ShapesRecipe, vae: AutoencoderKL, images: ImageSet) -> Stage:
    """The autoencoder's training stage: reconstruction with extra weight on ink, and a small KL term."""
    own, processes = recipe.autoencoder, Processes.current()

    def loss_at(step: int) -> Tensor:
        batch = range(step * own.batch_size, (step + 1) * own.batch_size)
        mine = processes.share(own.batch_size)
        scenes = [images.scene(recipe.seed, i % recipe.denoiser.images) for i in batch[mine]]
        x = to_tensor(pixels(scenes, recipe.side)).to(vae.device)
        posterior = vae.encode(x).latent_dist
        shape = (own.batch_size, *posterior.mean.shape[1:])
        noise = torch.randn(shape, generator=_keyed(recipe.seed, step))
        z = posterior.mean + posterior.std * noise[mine].to(vae.device)
        error = vae.decode(z).sample - x
        ink = 1 + own.ink_weight * (x.amin(1, keepdim=True) < 0.9)
        reconstruction = (ink * (error.abs() + error.square())).mean()
        return reconstruction + own.kl_weight * posterior.kl().mean()

    return Stage(
        "autoencoder",
        nn.ModuleDict({"vae": vae}),
        loss_at,
        steps=own.steps,
        learning_rate=own.learning_rate,
        warmup=100,
        decay_share=own.decay_share,
        weight_decay=0.0,
        ema_decay=0.995,
        recipe=f"{recipe.seed} {own.model_dump_json(exclude={'steps'})}",
    )


SCALE_IMAGES = 512
"""Number of images over whose latents the scaling factor is measured."""


def freeze(recipe: ShapesRecipe, vae: AutoencoderKL, images: ImageSet) -> None:
    """Freeze the autoencoder and set its scaling factor, so that latents have variance 1."""
    vae.eval().requires_grad_(False)
    with torch.no_grad():
        scenes = [images.scene(recipe.seed + 1, i) for i in range(SCALE_IMAGES)]
        parts = (to_tensor(pixels(scenes[k : k + 64], recipe.side)) for k in range(0, SCALE_IMAGES, 64))
        latents = torch.cat([vae.encode(x.to(vae.device)).latent_dist.mean for x in parts])
    vae.register_to_config(scaling_factor=round(1.0 / float(latents.std()), 5))


def train(recipe: ShapesRecipe, folder: Path, images: ImageSet | None = None) -> AutoencoderKL:
    """Train the autoencoder, resume its training, or load the finished one."""
    torch.manual_seed(recipe.seed)
    images = images or TaughtSet()
    vae = build(recipe)
    learning = stage(recipe, vae, images)
    run_stage(learning, folder)
    learning.finish()
    freeze(recipe, vae, images)
    return vae


def _keyed(*key: int) -> torch.Generator:
    """A random generator that depends on the key alone."""
    words = np.random.SeedSequence(key).generate_state(2)
    return torch.Generator().manual_seed(int(words[0]) << 16 ^ int(words[1]))


def reconstruct(vae: AutoencoderKL, images: np.ndarray) -> np.ndarray:
    """Encode and decode uint8 images (n, h, w, 3)."""
    with torch.no_grad():
        decoded = vae.decode(vae.encode(to_tensor(images)).latent_dist.mean).sample
    return to_pixels(decoded)


def to_pixels(images: Tensor) -> np.ndarray:
    """float (n, 3, h, w) in -1..1 to uint8 (n, h, w, 3)."""
    levels = images.clamp(-1, 1).add(1).mul(127.5).round()
    return levels.to(torch.uint8).permute(0, 2, 3, 1).numpy()
