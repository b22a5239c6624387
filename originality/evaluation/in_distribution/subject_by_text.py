"""The edit subject by CLIP: the probability of its prompt among prompts of other things."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import torch

from originality.vision.clip import PROMPT, load_clip

OTHERS = (
    *("person", "dog", "cat", "bird", "horse", "sheep", "fish", "car", "bus", "boat", "bicycle", "airplane"),
    *(
        "house",
        "building",
        "bridge",
        "tree",
        "flower",
        "mountain",
        "beach",
        "chair",
        "table",
        "book",
        "bottle",
    ),
    *("cup", "plate of food", "piece of fruit", "ball", "toy", "statue", "painting", "sign", "dress"),
)
SCENES = (
    *(
        "a photo",
        "a photo of an empty room",
        "a photo of a landscape",
        "a photo of a street",
        "a photo of the sky",
    ),
    *("a photo of a wall", "a photo of water", "a blurry photo", "a drawing", "an abstract pattern"),
)
"""What an image may show instead of the subject: everyday things (put into PROMPT) and plain scenes. Our
choice; no paper names a set."""


class SubjectByText:
    """The probability that an image belongs to PROMPT with the subject, rather than to OTHERS or SCENES.

    The probability is of what an image mainly shows: a small subject in a scene of something else shares it
    with that. This detector is therefore stricter than one that looks for objects.
    """

    def __init__(self, subject: str, folder: Path, device: str | torch.device = "cpu") -> None:
        """Load the weights.

        Raises:
            SettingsError: as for load_clip.
        """
        self._clip = load_clip(folder, device)
        others = [PROMPT.format(word) for word in OTHERS if word != subject.lower()]
        self._texts = [PROMPT.format(subject), *others, *SCENES]

    def digest(self) -> str:
        """Short digest of CLIP's digest and of the prompts."""
        prompts = json.dumps([PROMPT, OTHERS, SCENES])
        return hashlib.sha256(f"{self._clip.digest()} {prompts}".encode()).hexdigest()[:16]

    def scores(self, images: np.ndarray) -> np.ndarray:
        """Probability of the subject: float64 (n,) in 0..1, for uint8 (n, h, w, 3)."""
        return self._clip.probabilities(images, self._texts)[:, 0]
