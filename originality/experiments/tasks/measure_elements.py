"""What a model draws, element by element (Section 2, Figure 3, Appendices B.2 and D)."""

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
from originality.settings.parts import ModelSettings, RedrawSettings
from originality.shapes.detector import Detection, Detector
from originality.shapes.drawing import CANVAS, RADIUS
from originality.shapes.elements import elements_of
from originality.training.shapes_model.recipe import Frozen

REDRAW = RedrawSettings(steps=25, scheduler="dpm++", guidance_scale=3.0)
"""Of the small models: at diffusers' own 7.5 they draw no shapes any more."""

BATCH = 32
"""Images drawn at once."""

SHEET = (4, 8)
"""Rows and columns of a sheet of samples."""

CROPS = 12
"""Elements on a strip."""

SURE, SEEN = 0.9, 0.5
"""Confidence of an element that counts (Appendix B.1), and of one that is at least to be made out."""

HALF = 16
"""Half of the side of a cut-out element, in pixels."""


class ElementsMeasure(Frozen):
    """How often a model draws some elements, unprompted and prompted."""

    kind: Literal["elements"]
    name: str
    model: str
    """Id of the model's training."""
    wanted: tuple[str, ...]
    """Elements that are looked for, each also asked for by a prompt."""
    images: PositiveInt = 256
    """Drawn for each prompt."""
    redraw: RedrawSettings = REDRAW
    """How; the empty prompt is drawn without guidance, which would be from itself to itself."""
    seed: int = 0


class ElementsMeasuring:
    """Draws prompt after prompt. Implements originality.experiments.tasks.long_task.Work."""

    def __init__(self, plan: ElementsMeasure, folder: Path, device: str) -> None:
        """``folder``: where this machine has the model."""
        self.plan = plan
        settings = ModelSettings(path=plan.model, device=device)  # type: ignore[arg-type]
        self._model = LatentDiffusion(settings, open_model(settings, folder))
        self._detector = Detector.load()
        self._found: list[list[list[Detection]]] = [[] for _ in self.prompts]
        """Of each prompt and image, what is at least made out."""
        self._shown: list[list[np.ndarray]] = [[] for _ in self.prompts]
        self._cut: list[list[np.ndarray]] = [[] for _ in self.strips]

    @property
    def prompts(self) -> tuple[str, ...]:
        return ("", *self.plan.wanted)

    @property
    def strips(self) -> list[tuple[str, str]]:
        """Prompts, and elements that are cut out of their images: each by the empty prompt and by its own."""
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
        """A batch of one prompt."""
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
                {"prompt": prompt, **told(found, self.plan.wanted)}
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
    """Name of the picture of what a prompt draws."""
    return f"drawn-{_hyphened(prompt)}.webp"


def strip_of(element: str, prompted: bool) -> str:
    """Name of the picture of an element, cut out of what its own or the empty prompt draws."""
    return f"cut-{_hyphened(element)}-by-{'its-name' if prompted else 'empty'}.webp"


def _hyphened(prompt: str) -> str:
    return prompt.replace(" ", "-") or "empty"


def told(found: list[list[Detection]], wanted: tuple[str, ...]) -> dict[str, Any]:
    """What the images of one prompt show, as plain values.

    Returns:
        "images"; "shown": of each wanted element, in how many images it surely is; "elements": sure ones, by
        caption; "unsure": elements that are made out and are not sure; "made out": how many of each wanted
        element; "confidence": their mean (None: there are none); "counts": images by number of sure elements.
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
    """The surroundings of an element: uint8 (32, 32, 3), white beyond the image's edge."""
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
