"""Stage 2: encode the training set once, so that no epoch renders or encodes images again."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from numpy.lib.format import open_memmap

from originality.shapes.image_sets import ImageSet, pixels
from originality.training.shapes_model.autoencoder import to_tensor
from originality.training.stage import Processes

CHUNK = 500
"""Number of images encoded between two marks of progress."""


def set_name(vae: AutoencoderKL, images: ImageSet, seed: int, count: int) -> str:
    """File name of a set's latents, from digests of what they depend on: the autoencoder and the images."""
    digest = hashlib.sha256(next(iter(vae.decoder.parameters())).detach().cpu().numpy().tobytes())
    digest.update(pixels([images.scene(seed, i) for i in range(256)]).tobytes())
    return f"moments-{digest.hexdigest()[:8]}-{seed}-{count}.npy"


def moments_shape(vae: AutoencoderKL, count: int) -> tuple[int, int, int, int]:
    """Shape of the latents' posterior moments, (count, 2 x channels, h, w): means, then log variances."""
    side = vae.config.sample_size // 2 ** (len(vae.config.block_out_channels) - 1)
    return (count, 2 * vae.config.latent_channels, side, side)


@torch.no_grad()
def encode_images(vae: AutoencoderKL, images: ImageSet, seed: int, numbers: range) -> np.ndarray:
    """Posterior moments of images of a set by number: float16, of :func:`moments_shape`."""
    side = vae.config.sample_size
    batch = to_tensor(pixels([images.scene(seed, i) for i in numbers], side))
    parts = [vae.encode(x.to(vae.device)).latent_dist.parameters.cpu() for x in batch.split(50)]
    return torch.cat(parts).numpy().astype(np.float16)


def encode_set(vae: AutoencoderKL, images: ImageSet, seed: int, count: int, folder: Path) -> np.ndarray:
    """Posterior moments of the first ``count`` images, encoded once and stored in the folder.

    An interrupted encoding resumes at the first missing chunk; the file's name changes with the autoencoder
    and the set.

    Returns:
        float16 (count, 2 x channels, h, w), a memory map: means, then log variances.
    """
    name = set_name(vae, images, seed, count)
    processes = Processes.current()
    done = folder / f"{name}.{processes.rank}-of-{processes.size}.done"
    shape = moments_shape(vae, count)
    if processes.rank == 0 and not (folder / name).exists():
        open_memmap(folder / name, mode="w+", dtype=np.float16, shape=shape)
        for stale in folder.glob(f"{name}.*.done"):
            stale.unlink()
    processes.wait()
    moments = open_memmap(folder / name, mode="r+", dtype=np.float16, shape=shape)
    first = int(done.read_text()) if done.exists() else 0
    started = time.monotonic()
    for start in range(first + processes.rank * CHUNK, count, processes.size * CHUNK):
        stop = min(start + CHUNK, count)
        moments[start:stop] = encode_images(vae, images, seed, range(start, stop))
        moments.flush()
        done.write_text(str(start - processes.rank * CHUNK + processes.size * CHUNK))
        if stop % 5000 == 0:
            pace = (time.monotonic() - started) / (stop - first)
            left = (count - stop) * pace / 60
            print(f"latents: {stop}/{count}, {left:.0f} min left", flush=True)
    processes.wait()
    return moments
