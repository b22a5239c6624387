"""Score how well a model draws what prompts ask for, by the elements detected in its images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from originality.evaluation.distance.elements import multiset_f1
from originality.model.diffusion import LatentDiffusion
from originality.model.randomness import keyed_generator
from originality.settings.redraw import RedrawSettings
from originality.shapes.detector import Detector
from originality.shapes.elements import Element

SETTINGS = RedrawSettings(count=2, steps=25, scheduler="dpm++", guidance_scale=3.0)

BATCH = 20
"""Number of prompts drawn at once."""


@dataclass(frozen=True)
class Drawn:
    """Scores and images of a list of prompts."""

    exact: float
    """Share of images that show exactly the elements asked for."""
    f1: float
    """Mean F1 of the elements asked for and the elements shown."""
    images: np.ndarray
    """uint8 (n, side, side, 3)."""


def draw_prompts(
    model: LatentDiffusion,
    prompts: Sequence[str],
    seed: int,
    settings: RedrawSettings = SETTINGS,
) -> np.ndarray:
    """Draw one image for each prompt: uint8 (n, side, side, 3)."""
    images = []
    for start in range(0, len(prompts), BATCH):
        batch = prompts[start : start + BATCH]
        noise = torch.stack(
            [
                torch.randn(model.latent_shape, generator=keyed_generator(seed, prompt, start + k))
                for k, prompt in enumerate(batch)
            ]
        )
        images.append(model.generate(model.encode_prompts(batch), noise, settings).checked())
    return np.concatenate(images)


def score_prompts(
    model: LatentDiffusion,
    detector: Detector,
    requested: Sequence[tuple[Element, ...]],
    prompts: Sequence[str],
    seed: int = 0,
) -> Drawn:
    """Draw each prompt and compare the detected elements with those asked for."""
    images = draw_prompts(model, prompts, seed)
    seen = _elements(detector, images)
    f1 = [multiset_f1(a, s) for a, s in zip(requested, seen, strict=True)]
    return Drawn(_exact(requested, seen), float(np.mean(f1)), images)


def exactness(detector: Detector, requested: Sequence[Sequence[Element]], images: np.ndarray) -> float:
    """Share of images, uint8 (n, side, side, 3), that show exactly the elements asked for."""
    return _exact(requested, _elements(detector, images))


def _elements(detector: Detector, images: np.ndarray) -> list[list[Element]]:
    return [[d.element for d in found] for found in detector.detect(images)]


def _exact(requested: Sequence[Sequence[Element]], seen: Sequence[Sequence[Element]]) -> float:
    return float(np.mean([Counter(a) == Counter(s) for a, s in zip(requested, seen, strict=True)]))
