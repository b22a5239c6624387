"""Feature vectors of images and their cosine distance, for the metrics made of a network."""

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
    """The same array, if it is a stack of RGB images.

    Raises:
        ValueError: not uint8 (n, h, w, 3).
    """
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] != 3:
        raise ValueError(f"images must be uint8 (n, h, w, 3), these are {images.dtype} {images.shape}")
    return images


def batch_size_for(device: torch.device) -> int:
    """Images in one pass where nobody chose."""
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

    A matrix product's last bits depend on its shape. A short last pass is therefore filled up with
    repeats, and an image's numbers are the same bits whatever images it came with. Where memory runs out,
    passes are smaller: fewer images alone would be filled up to the same.

    Args:
        images: uint8 (n, h, w, 3).
        size: images in a pass, at least 1.
        width: numbers that ``forward`` gives an image.
        prepare: uint8 (h, w, 3) to the network's input without the batch axis.
        forward: (size, ...) to (size, width).

    Returns:
        float64 (n, width).

    Raises:
        torch.OutOfMemoryError: a single image is too much.
    """
    rows = np.empty((len(rgb_images(images)), width))

    def fill_in(most: int) -> np.ndarray:
        for start in range(0, len(images), most):
            chunk = [prepare(image) for image in images[start : start + most]]
            filled = chunk + chunk[-1:] * (most - len(chunk))
            features = forward(torch.stack(filled)).double().cpu().numpy()
            rows[start : start + len(chunk)] = features[: len(chunk)]
        return rows

    return Passes().run(size, fill_in)


def unit(features: np.ndarray) -> np.ndarray:
    """Rows (n, d) scaled to length 1; a row of zeros stays zero, an infinite one is NaN."""
    norm = np.linalg.norm(features, axis=-1, keepdims=True)
    with np.errstate(invalid="ignore"):  # inf / inf: NaN is the answer
        return np.asarray(features / np.where(norm == 0, 1.0, norm))


def cosine_distances(query: np.ndarray, redraws: Sequence[np.ndarray]) -> np.ndarray:
    """1 - cosine of unit vectors: the query (d,) and n redraws of (d,); float64 (n,) in [0, 2].

    NaN stays NaN, so that an overflow is seen by whoever judges the distance.
    """
    # One dot product a redraw: a matrix product's bits would depend on how many redraws there are.
    cosines = np.array([float(np.dot(redraw, query)) for redraw in redraws], dtype=np.float64)
    return np.clip(1.0 - cosines, 0.0, 2.0)
