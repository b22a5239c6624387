"""CLIP: which of several texts belongs to an image, without training (arXiv 2103.00020)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from originality.model.library_errors import library_errors
from originality.model.transformers_folder import checked_folder, digest_of, load_network, load_processor
from originality.vision.batches import batch_size_for, in_batches, unit

VERSION = 1
"""Raise with every change that moves a probability: it is part of the digest."""

PROMPT = "a photo of a {}"


@dataclass(frozen=True)
class Towers:
    """CLIP's image tower and text tower, in fp32, and how images and texts are prepared for them."""

    processor: Any
    """Image processor of transformers."""
    tokenizer: Any
    embed_images: Callable[[torch.Tensor], torch.Tensor]
    """Pixels (n, 3, h, w) to projected features (n, width)."""
    embed_texts: Callable[..., torch.Tensor]
    """The tokenizer's output, as keyword arguments, for n texts to projected features (n, width)."""
    width: int
    text_length: int
    """Tokens that the text tower reads."""
    vocabulary: int
    """Rows of the text tower's token table."""
    logit_scale: float
    """Factor of a cosine before the softmax."""
    digest: Callable[[], str]
    """Short digest of the files that were loaded; it reads every byte."""


class Clip:
    """Tells how likely each of several texts belongs to an image."""

    def __init__(
        self, towers: Towers, device: str | torch.device = "cpu", batch_size: int | None = None
    ) -> None:
        """Check that the towers read an image and a text.

        Args:
            device: where the towers are.
            batch_size: images in a pass; None for the device's default.

        Raises:
            ValueError: the tokenizer has more tokens than the text tower, or a result is not finite.
        """
        self._towers = towers
        self._device = torch.device(device)
        self._batch_size = batch_size or batch_size_for(self._device)
        self._text_features: dict[str, np.ndarray] = {}
        # What would stop every image is found here, before the first one.
        if len(towers.tokenizer) > towers.vocabulary:
            raise ValueError(
                f"the tokenizer has {len(towers.tokenizer)} tokens, the network {towers.vocabulary}"
            )
        if not np.isfinite(self.probabilities(np.full((1, 64, 64, 3), 255, np.uint8), ["a photo"])).all():
            raise ValueError("its numbers are not finite")

    def digest(self) -> str:
        """Short digest of weights, configuration and tokenizer."""
        return self._digest

    @cached_property
    def _digest(self) -> str:
        return self._towers.digest()

    def probabilities(self, images: np.ndarray, texts: Sequence[str]) -> np.ndarray:
        """How likely each text belongs to an image, given that exactly one of them does.

        Args:
            images: uint8 (n, h, w, 3), RGB.
            texts: k texts, each within the model's length.

        Returns:
            float64 (n, k); each row sums to 1, and does not depend on the other images.

        Raises:
            ValueError: a text is longer than the model reads.
        """
        seen = in_batches(images, self._batch_size, self._towers.width, self._prepare, self._embed_images)
        read = np.stack([self._embed_text(text) for text in texts])
        return softmax_of_cosines(unit(seen), read, self._towers.logit_scale)

    def _prepare(self, image: np.ndarray) -> torch.Tensor:
        prepared = self._towers.processor(
            images=image, input_data_format="channels_last", return_tensors="pt"
        )
        return torch.as_tensor(prepared["pixel_values"][0])

    def _embed_images(self, batch: torch.Tensor) -> torch.Tensor:
        return self._towers.embed_images(batch.to(self._device))

    @torch.inference_mode()
    def _embed_text(self, text: str) -> np.ndarray:
        """Features of a text, float64 (width,) of length 1."""
        if text not in self._text_features:
            # Each text is read by itself and padded to full length: a pass's shape moves the last bits, and
            # a text's features must not depend on the texts beside it.
            length = self._towers.text_length
            read = self._towers.tokenizer(text, padding="max_length", max_length=length, return_tensors="pt")
            if read["input_ids"].shape[1] > length:
                raise ValueError(f"{text!r} is longer than the {length} tokens that this CLIP reads")
            features = self._towers.embed_texts(**read.to(self._device))
            self._text_features[text] = unit(features[0].double().cpu().numpy())
        return self._text_features[text]


def softmax_of_cosines(images: np.ndarray, texts: np.ndarray, scale: float) -> np.ndarray:
    """How likely each of k texts belongs to each of n images, of unit vectors (n, d) and (k, d): the softmax
    of their cosines times ``scale``, float64 (n, k)."""
    # No matrix product: its last bits would depend on how many images there are.
    logits = (images[:, None, :] * texts[None, :, :]).sum(axis=-1) * scale
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def load_clip(folder: Path, device: str | torch.device = "cpu", batch_size: int | None = None) -> Clip:
    """Load a CLIPModel of transformers from a folder with its tokenizer and image processor.

    Args:
        batch_size: images in a pass; None for the device's default.

    Raises:
        SettingsError: the folder holds no CLIPModel, something is missing or damaged, or it cannot read an
            image.
    """
    from transformers import AutoImageProcessor, CLIPModel, CLIPTokenizer

    folder = checked_folder(folder, {"clip"}, "a CLIPModel (kind 'clip')", words=True)
    processor = load_processor(AutoImageProcessor, folder)
    tokenizer = load_processor(CLIPTokenizer, folder)
    network = load_network(CLIPModel, folder, device)
    with library_errors(f"folder {folder}"):
        towers = Towers(
            processor,
            tokenizer,
            embed_images=lambda pixels: network.get_image_features(pixels).pooler_output,
            embed_texts=lambda **read: network.get_text_features(**read).pooler_output,
            width=network.config.projection_dim,
            text_length=network.config.text_config.max_position_embeddings,
            vocabulary=network.config.text_config.vocab_size,
            logit_scale=float(network.logit_scale.double().exp()),
            digest=lambda: hashlib.sha256(f"clip {VERSION} {digest_of(folder)}".encode()).hexdigest()[:16],
        )
        return Clip(towers, device, batch_size)
