"""Which of several texts says what an image shows? CLIP, asked without training (arXiv 2103.00020)."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from originality.model.library_errors import reading
from originality.model.transformers_folder import checked_folder, digest_of, load_network, load_processor
from originality.vision.batches import batch_size_for, in_batches, unit

VERSION = 1
"""Raised with every change that moves a probability."""

PROMPT = "a photo of a {}"


def shares(shown: np.ndarray, said: np.ndarray, scale: float) -> np.ndarray:
    """How likely each of k texts belongs to each of n images, of unit vectors (n, d) and (k, d): the softmax
    of their cosines times ``scale``, float64 (n, k)."""
    # No matrix product: its bits would depend on how many images there are.
    logits = (shown[:, None, :] * said[None, :, :]).sum(axis=-1) * scale
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


class Clip:
    """CLIP's two towers, from a folder of transformers' CLIPModel with its tokenizer and image processor."""

    def __init__(
        self, folder: Path, device: str | torch.device = "cpu", batch_size: int | None = None
    ) -> None:
        """Load the weights; they run in fp32.

        Args:
            batch_size: images in a pass; None for what suits the device.

        Raises:
            SettingsError: the folder holds no CLIPModel, something is missing or damaged, or it cannot read
                an image.
        """
        from transformers import AutoImageProcessor, CLIPModel, CLIPTokenizer

        self._folder = checked_folder(folder, {"clip"}, "a CLIPModel (kind 'clip')", words=True)
        self._device = torch.device(device)
        self._batch_size = batch_size or batch_size_for(self._device)
        self._processor = load_processor(AutoImageProcessor, self._folder)
        self._tokenizer = load_processor(CLIPTokenizer, self._folder)
        self._network = load_network(CLIPModel, self._folder, self._device)
        self._vectors: dict[str, np.ndarray] = {}
        with reading(self._folder):
            self._try()

    def _try(self) -> None:
        """What would stop every image is found before the first one."""
        words, rows = len(self._tokenizer), self._network.config.text_config.vocab_size
        if words > rows:
            raise ValueError(f"the tokenizer has {words} words and the network {rows}")
        if not np.isfinite(self.probabilities(np.full((1, 64, 64, 3), 255, np.uint8), ["a photo"])).all():
            raise ValueError("its numbers are not finite")

    def digest(self) -> str:
        """Short digest of weights, configuration, tokenizer and the code's version."""
        return self._digest

    @cached_property
    def _digest(self) -> str:
        return hashlib.sha256(f"clip {VERSION} {digest_of(self._folder)}".encode()).hexdigest()[:16]

    def probabilities(self, images: np.ndarray, texts: Sequence[str]) -> np.ndarray:
        """How likely each text belongs to an image, if just one of them does.

        Args:
            images: uint8 (n, h, w, 3), RGB.
            texts: k texts, each within the model's length.

        Returns:
            float64 (n, k); each row sums to 1, and does not depend on the other images.

        Raises:
            ValueError: a text is longer than the model reads.
        """
        width = self._network.config.projection_dim
        shown = unit(in_batches(images, self._batch_size, width, self._prepare, self._see))
        said = np.stack([self._vector(text) for text in texts])
        return shares(shown, said, float(self._network.logit_scale.double().exp()))

    def _prepare(self, image: np.ndarray) -> torch.Tensor:
        return torch.as_tensor(
            self._processor(images=image, input_data_format="channels_last", return_tensors="pt")[
                "pixel_values"
            ][0]
        )

    def _see(self, batch: torch.Tensor) -> torch.Tensor:
        return torch.as_tensor(self._network.get_image_features(batch.to(self._device)).pooler_output)

    @torch.inference_mode()
    def _vector(self, text: str) -> np.ndarray:
        """float64 (d,) of length 1. A text is read alone and at full length, as a pass's shape moves bits."""
        if text not in self._vectors:
            length = self._network.config.text_config.max_position_embeddings
            read = self._tokenizer(text, padding="max_length", max_length=length, return_tensors="pt")
            if read["input_ids"].shape[1] > length:
                raise ValueError(f"{text!r} is longer than the {length} tokens that this CLIP reads")
            said = self._network.get_text_features(**read.to(self._device)).pooler_output
            self._vectors[text] = unit(said[0].double().cpu().numpy())
        return self._vectors[text]
