"""Runs a network over images in passes of one shape, and the cosine distances of what it gives.

These networks judge redraws; the passes of the diffusion model are sized by
:mod:`originality.cost.memory_plan`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

from originality.model.out_of_memory import Passes

GPU_BATCH = 20
"""Images in one pass on a GPU: the paper's number of redraws."""

CPU_BATCH = 1
"""Images in one pass on a CPU, where one image already fills the cores."""


def rgb_images(images: np.ndarray) -> np.ndarray:
    """Check that an array is a stack of RGB images, and return it.

    Raises:
        ValueError: not uint8 (n, h, w, 3).
    """
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] != 3:
        raise ValueError(f"images must be uint8 (n, h, w, 3), these are {images.dtype} {images.shape}")
    return images


def batch_size_for(device: torch.device) -> int:
    """Default number of images in a pass."""
    return CPU_BATCH if device.type == "cpu" else GPU_BATCH


@torch.inference_mode()
def in_batches(
    images: np.ndarray,
    size: int,
    width: int,
    prepare: Callable[[np.ndarray], torch.Tensor],
    forward: Callable[[torch.Tensor], torch.Tensor],
) -> np.ndarray:
    """Run a network over images in passes that all have the same shape.

    The last bits of a matrix product depend on its shape. So a short last pass is filled up with repeats of
    its last image, and an image's features are the same bits whatever images come with it. If memory runs
    out, the passes become smaller.

    Args:
        images: uint8 (n, h, w, 3).
        size: images in a pass, at least 1.
        width: features of an image, as ``forward`` returns them.
        prepare: uint8 (h, w, 3) to the network's input without the batch axis.
        forward: (size, ...) to (size, width).

    Returns:
        float64 (n, width).

    Raises:
        torch.OutOfMemoryError: a single image does not fit.
    """
    rows = np.empty((len(rgb_images(images)), width))

    def compute(max_images: int) -> np.ndarray:
        for start in range(0, len(images), max_images):
            chunk = [prepare(image) for image in images[start : start + max_images]]
            filled = chunk + chunk[-1:] * (max_images - len(chunk))
            features = forward(torch.stack(filled)).double().cpu().numpy()
            rows[start : start + len(chunk)] = features[: len(chunk)]
        return rows

    return Passes().run(size, compute)


def unit(features: np.ndarray) -> np.ndarray:
    """Rows (n, d) scaled to length 1; a row of zeros stays zero, an infinite one is NaN."""
    norm = np.linalg.norm(features, axis=-1, keepdims=True)
    with np.errstate(invalid="ignore"):  # inf / inf: NaN is the answer
        return np.asarray(features / np.where(norm == 0, 1.0, norm))


def cosine_distances(query: np.ndarray, redraws: Sequence[np.ndarray]) -> np.ndarray:
    """1 - cosine of unit vectors: the query (d,) and n redraws of (d,); float64 (n,) in [0, 2].

    NaN stays NaN, so that the judge of a distance sees an overflow.
    """
    # One dot product for each redraw: the last bits of a matrix product would depend on their number.
    cosines = np.array([float(np.dot(redraw, query)) for redraw in redraws], dtype=np.float64)
    return np.clip(1.0 - cosines, 0.0, 2.0)
