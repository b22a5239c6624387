"""Measure how often a model draws each element (Section 2, Figure 3, Appendices B.2 and D)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from pydantic import PositiveInt

from originality.evaluation.redraw_sheet import webp
from originality.model.device import device_name
from originality.model.diffusion import LatentDiffusion
from originality.model.model_folder import open_model
from originality.model.randomness import keyed_generator
from originality.settings.parts import ModelSettings
from originality.settings.redraw import RedrawSettings
from originality.shapes.detector import Detection, Detector
from originality.shapes.drawing import CANVAS, RADIUS
from originality.shapes.elements import elements_of
from originality.training.shapes_model.recipe import Frozen

REDRAW = RedrawSettings(steps=25, scheduler="dpm++", guidance_scale=3.0)
"""Redraw settings of the small models; at diffusers' default guidance scale, 7.5, they draw no shapes."""

BATCH = 32
"""Images drawn at once."""

SHEET = (4, 8)
"""Rows and columns of a sheet of samples."""

CROPS = 12
"""Number of cut-out elements in a strip."""

SURE, SEEN = 0.9, 0.5
"""Confidence from which a detection counts (Appendix B.1), and from which it is recorded at all."""

HALF = 16
"""Half of the side of a cut-out element, in pixels."""


class ElementsMeasure(Frozen):
    """A measurement of how often a model draws some elements, unprompted and prompted."""

    kind: Literal["elements"]
    name: str
    model: str
    """Id of the model's training."""
    wanted: tuple[str, ...]
    """Elements to look for; each is also the prompt of further images."""
    images: PositiveInt = 256
    """Images drawn for each prompt."""
    redraw: RedrawSettings = REDRAW
    """How images are drawn. The empty prompt is drawn without guidance, as guidance contrasts with it."""
    seed: int = 0


class ElementsMeasuring:
    """Draws prompt after prompt. Implements originality.experiments.tasks.long_task.Work."""

    def __init__(self, plan: ElementsMeasure, folder: Path, device: str) -> None:
        """Args:
        folder: the model's folder on this machine.
        """
        self.plan = plan
        settings = ModelSettings(path=plan.model, device=device)  # type: ignore[arg-type]
        self._model = LatentDiffusion(settings, open_model(settings, folder))
        self._detector = Detector.load()
        self._found: list[list[list[Detection]]] = [[] for _ in self.prompts]
        """Detections of confidence SEEN or more, by prompt and image."""
        self._shown: list[list[np.ndarray]] = [[] for _ in self.prompts]
        self._cut: list[list[np.ndarray]] = [[] for _ in self.strips]

    @property
    def prompts(self) -> tuple[str, ...]:
        """The empty prompt and one prompt for each element that is asked for."""
        return ("", *self.plan.wanted)

    @property
    def strips(self) -> list[tuple[str, str]]:
        """Prompts and the element to cut out of their images, for the empty prompt and for its own."""
        return [*(("", name) for name in self.plan.wanted), *((name, name) for name in self.plan.wanted)]

    @property
    def phase(self) -> int:
        """Batches drawn."""
        return sum(-(-len(found) // BATCH) for found in self._found)

    def __str__(self) -> str:
        drawn = sum(map(len, self._found))
        return f"{self.plan.name}: {drawn}/{self.plan.images * len(self.prompts)} images drawn"

    @property
    def done(self) -> bool:
        return all(len(found) == self.plan.images for found in self._found)

    def advance(self) -> None:
        """Draw a batch of one prompt."""
        k = next(k for k, found in enumerate(self._found) if len(found) < self.plan.images)
        prompt, first = self.prompts[k], len(self._found[k])
        numbers = range(first, min(first + BATCH, self.plan.images))
        noise = [
            torch.randn(self._model.latent_shape, generator=keyed_generator(self.plan.seed, prompt, n))
            for n in numbers
        ]
        how = self.plan.redraw if prompt else self.plan.redraw.model_copy(update={"guidance_scale": 1.0})
        words = self._model.encode_prompts([prompt]).repeat_prompt(len(numbers))
        images = self._model.generate(words, torch.stack(noise), how).checked()
        found = self._detector.detect(images, SEEN)
        self._found[k] += found
        self._shown[k] += list(images[: max(0, SHEET[0] * SHEET[1] - first)])
        for image, seen in zip(images, found, strict=True):
            for one in seen:
                strip = (prompt, str(one.element))
                if one.confidence >= SURE and strip in self.strips:
                    cut = self._cut[self.strips.index(strip)]
                    cut += [cut_out(image, one)] if len(cut) < CROPS else []

    def state(self) -> dict[str, Any]:
        found = [
            [[(str(d.element), d.x, d.y, d.confidence) for d in image] for image in images]
            for images in self._found
        ]
        return {"found": found, "shown": _tensors(self._shown), "cut": _tensors(self._cut)}

    def load(self, kept: Mapping[str, Any]) -> None:
        self._found = [
            [[Detection(elements_of(e)[0], x, y, c) for e, x, y, c in image] for image in images]
            for images in kept["found"]
        ]
        self._shown = [[image.numpy() for image in images] for images in kept["shown"]]
        self._cut = [[image.numpy() for image in images] for images in kept["cut"]]

    def record(self) -> dict[str, Any]:
        return {
            "name": self.plan.name,
            "model": self.plan.model,
            "device": device_name(self._model.device),
            "model_digest": self._model.digest,
            "judge_digest": self._detector.digest(),
            "measure": self.plan.model_dump(mode="json"),
            "prompts": [
                {"prompt": prompt, **summarise_detections(found, self.plan.wanted)}
                for prompt, found in zip(self.prompts, self._found, strict=True)
            ],
        }

    def files(self) -> dict[str, bytes]:
        files = {
            sheet_of(prompt): webp(grid(shown, SHEET[1]))
            for prompt, shown in zip(self.prompts, self._shown, strict=True)
        }
        for (prompt, element), cut in zip(self.strips, self._cut, strict=True):
            if cut:
                files[strip_of(element, bool(prompt))] = webp(grid(cut, CROPS))
        return files


def sheet_of(prompt: str) -> str:
    """File name of a prompt's sheet of samples."""
    return f"drawn-{_hyphened(prompt)}.webp"


def strip_of(element: str, prompted: bool) -> str:
    """File name of the strip of an element, cut out of images of its own or of the empty prompt."""
    return f"cut-{_hyphened(element)}-by-{'its-name' if prompted else 'empty'}.webp"


def _hyphened(prompt: str) -> str:
    return prompt.replace(" ", "-") or "empty"


def summarise_detections(found: list[list[Detection]], wanted: tuple[str, ...]) -> dict[str, Any]:
    """Summary of the detections in one prompt's images, as plain values.

    Returns:
        "images", their number; "shown", the number of images with each wanted element, at confidence SURE;
        "elements", the number of SURE detections of each element; "unsure", the number of other detections;
        "made out", the number of all detections of each wanted element, and "confidence", their mean (None
        if there are none); "counts", the number of images by their number of SURE detections.
    """
    sure = [[d for d in image if d.confidence >= SURE] for image in found]
    elements = Counter(str(d.element) for image in sure for d in image)
    made_out = {
        name: [d.confidence for image in found for d in image if str(d.element) == name] for name in wanted
    }
    return {
        "images": len(found),
        "shown": {name: sum(any(str(d.element) == name for d in image) for image in sure) for name in wanted},
        "elements": dict(sorted(elements.items())),
        "unsure": sum(map(len, found)) - elements.total(),
        "made out": {n: len(c) for n, c in made_out.items()},
        "confidence": {n: round(float(np.mean(c)), 4) if c else None for n, c in made_out.items()},
        "counts": {str(n): k for n, k in sorted(Counter(map(len, sure)).items())},
    }


def cut_out(image: np.ndarray, found: Detection) -> np.ndarray:
    """A square around a detected element: uint8 (32, 32, 3) at 64 pixels, white beyond the image's edge."""
    assert RADIUS["big"] * 1.16 < HALF
    scale = image.shape[0] / CANVAS
    half = round(HALF * scale)
    page = np.pad(image, ((half, half), (half, half), (0, 0)), constant_values=255)
    x, y = round(found.x * scale), round(found.y * scale)
    return page[y : y + 2 * half, x : x + 2 * half]


def grid(images: list[np.ndarray], columns: int, gap: int = 2) -> Image.Image:
    """Images of one size (side, side, 3) in rows, with thin grey lines between."""
    side = images[0].shape[0]
    rows = -(-len(images) // columns)
    size = (columns * (side + gap) + gap, rows * (side + gap) + gap)
    page = Image.new("RGB", size, (200, 200, 200))
    for k, image in enumerate(images):
        row, column = divmod(k, columns)
        page.paste(Image.fromarray(image), (gap + column * (side + gap), gap + row * (side + gap)))
    return page


def _tensors(images: list[list[np.ndarray]]) -> list[list[torch.Tensor]]:
    return [[torch.from_numpy(np.ascontiguousarray(image)) for image in of] for of in images]
