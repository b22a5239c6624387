"""The detector of elements: which of the 60 elements an image shows, where, and with what confidence.

A small CenterNet (Zhou et al. 2019, "Objects as Points") in plain torch. The grid has a cell every
two pixels. Each cell has four *slots*, one per (size, texture), so that a small element inside a
big one, or an empty one around a full one, has a separate slot. A slot predicts whether a
well-formed element of its size and texture is centred within about two pixels of the cell, its
exact place, shape and colour. The detector was trained to reject malformed elements, so that a
redraw that only half looks like an element does not count.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from originality.shapes.drawing import CANVAS
from originality.shapes.elements import COLOURS, SHAPES, SIZES, TEXTURES, Element

MODEL_FOLDER = Path(__file__).parents[1] / "weights" / "detector"

STRIDE = 2
"""Pixels from one cell of the grid to the next."""

GRID = CANVAS // STRIDE

SLOTS = tuple((size, texture) for size in SIZES for texture in TEXTURES)

OFFSET_UNIT = 4.0
"""Pixels in one unit of the offset output."""

FIELDS = 1 + 2 + len(SHAPES) + len(COLOURS)
"""Numbers per cell and slot: centre logit, offset (x, y), shape logits, colour logits."""

CHUNK = 16
"""Images in a forward pass. Passes are always padded to this size with white images: the numbers of an image
then do not depend on its neighbours, to the last bit."""

SAME_ELEMENT_DISTANCE = {"big": 3.0, "small": 2.5}
"""Pixels between centres under which two detections of one slot are the same element."""


@dataclass(frozen=True)
class Detection:
    """A detected element, its centre in pixels of the 64 x 64 image from the top left."""

    element: Element
    x: float
    y: float
    confidence: float
    """Probability, 0..1, that the element is present, well formed and has all four attributes."""


class _Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = _conv(channels, channels)
        self.second = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels)
        )

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(x + self.second(self.first(x)))


def _conv(inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


class DetectorNet(nn.Module):
    """Images (n, 3, 64, 64), float, ink in 0..1 (0 = white), to (n, 4 slots, FIELDS, 32, 32).

    A U-Net over strides 2, 4 and 8. The finest level distinguishes a small circle from a small hexagon, the
    coarsest sees an entire big element. The input is not downsampled: 2 x 2 pixels become channels.
    """

    def __init__(self, fine: int = 32, width: int = 64, deep: int = 96, blocks: int = 2) -> None:
        super().__init__()

        def residuals(channels: int, count: int) -> nn.Sequential:
            return nn.Sequential(*(_Residual(channels) for _ in range(count)))

        self.fine = nn.Sequential(nn.PixelUnshuffle(STRIDE), _conv(3 * STRIDE**2, fine), _Residual(fine))
        self.middle = nn.Sequential(_conv(fine, width, stride=2), residuals(width, blocks))
        self.deep = nn.Sequential(_conv(width, deep, stride=2), residuals(deep, blocks))
        self.to_middle = nn.Conv2d(deep, width, 1)
        self.middle_again = residuals(width, blocks)
        self.to_fine = nn.Sequential(nn.Conv2d(width, 4 * fine, 1), nn.PixelShuffle(2))
        self.fine_again = residuals(fine, 1)
        self.head = nn.Sequential(_conv(fine, 2 * fine, 1), nn.Conv2d(2 * fine, len(SLOTS) * FIELDS, 1))
        with torch.no_grad():  # at the start, detect nothing
            bias = self.head[1].bias
            assert isinstance(bias, Tensor)
            bias.zero_().view(len(SLOTS), FIELDS)[:, 0] = -5.0

    def forward(self, ink: Tensor) -> Tensor:
        fine = self.fine(ink)
        middle = self.middle(fine)
        middle = middle + functional.interpolate(self.to_middle(self.deep(middle)), scale_factor=2.0)
        fine = fine + self.to_fine(self.middle_again(middle))
        out: Tensor = self.head(self.fine_again(fine))
        return out.unflatten(1, (len(SLOTS), FIELDS))


def to_ink(images: np.ndarray | Tensor) -> Tensor:
    """Convert uint8 (n, h, w, 3) to the network's input, float32 (n, 3, 64, 64), resized if needed."""
    x = torch.as_tensor(images)
    if x.ndim != 4 or x.shape[-1] != 3 or x.dtype != torch.uint8:
        raise ValueError(f"images must be uint8 (n, height, width, 3), not {x.dtype} {tuple(x.shape)}")
    ink = 1 - x.permute(0, 3, 1, 2).float() / 255
    if len(ink) and ink.shape[-2:] != (CANVAS, CANVAS):
        ink = functional.interpolate(
            ink, (CANVAS, CANVAS), mode="bilinear", antialias=True, align_corners=False
        )
    return ink.contiguous()


class Detector:
    """Detects elements in images. Runs on the CPU in fp32."""

    def __init__(self, net: DetectorNet) -> None:
        self.net = net.eval().requires_grad_(False)

    @classmethod
    def load(cls, folder: Path | None = None) -> Detector:
        """Load the detector from a folder (config.json, model.safetensors), by default the shipped one.

        Raises:
            FileNotFoundError: the folder has no detector.
        """
        folder = folder or MODEL_FOLDER
        weights = folder / "model.safetensors"
        if not weights.exists():
            raise FileNotFoundError(
                f"no model.safetensors in {folder}; "
                "train one with: python -m originality.training.element_detector.train"
            )
        config = json.loads((folder / "config.json").read_text())
        net = DetectorNet(config["fine"], config["width"], config["deep"], config["blocks"])
        state = {name: value.float() for name, value in load_file(weights).items()}
        # Not strict: batch norm's count of training batches is not stored, as inference does not use it.
        net.load_state_dict(state, strict=False)
        return cls(net)

    def digest(self) -> str:
        """Short SHA-256 digest of the weights."""
        total = hashlib.sha256()
        for name, weight in sorted(self.net.state_dict().items()):
            total.update(name.encode() + weight.cpu().numpy().tobytes())
        return total.hexdigest()[:16]

    def detect(self, images: np.ndarray | Tensor, confidence: float = 0.9) -> list[list[Detection]]:
        """Detect the elements of each image, the most confident first.

        Args:
            images: uint8 (n, height, width, 3); sizes other than 64 x 64 are resized.
            confidence: least confidence of returned detections, above 0 and at most 1.

        Raises:
            ValueError: the images have a different type or shape, or the confidence is out of range.
        """
        if not 0 < confidence <= 1:
            raise ValueError(f"confidence must be above 0 and at most 1, not {confidence}")
        found: list[list[Detection]] = []
        for ink in to_ink(images).split(CHUNK):
            blank = torch.zeros(CHUNK - len(ink), 3, CANVAS, CANVAS)
            with torch.inference_mode():
                outputs = self._look(torch.cat([ink, blank]))[: len(ink)]
            found += [_read(output, confidence) for output in outputs]
        return found

    def _look(self, ink: Tensor) -> Tensor:
        """The network's output, averaged over two views of the images.

        The second view is mirrored, which changes no element, and shifted by a cell to the right and down, so
        that the network sees the same edges at other phases of its stride and makes different errors.
        """
        moved = functional.pad(ink.flip(-1), (STRIDE, 0, STRIDE, 0))[..., :CANVAS, :CANVAS]
        second = functional.pad(self.net(moved)[..., 1:, 1:], (0, 1, 0, 1)).flip(-1)
        second[:, :, 1].neg_()  # mirroring reverses the offset in x
        return (self.net(ink) + second) / 2


def _read(output: Tensor, least: float) -> list[Detection]:
    """The detections in one image's output (4, FIELDS, 32, 32)."""
    centre = output[:, 0].sigmoid()
    shape = output[:, 3 : 3 + len(SHAPES)].softmax(1).max(1)
    colour = output[:, 3 + len(SHAPES) :].softmax(1).max(1)
    confidence = centre * shape.values * colour.values
    # Several neighbouring cells detect each element: keep the most confident of a neighbourhood.
    peak = functional.max_pool2d(confidence[None], 3, stride=1, padding=1)[0] == confidence
    candidates = []
    for slot, row, column in (peak & (confidence >= least)).nonzero().tolist():
        dx, dy = (output[slot, 1:3, row, column] * OFFSET_UNIT).tolist()
        size, texture = SLOTS[slot]
        element = Element(
            size,
            COLOURS[int(colour.indices[slot, row, column])],
            texture,
            SHAPES[int(shape.indices[slot, row, column])],
        )
        x, y = (column + 0.5) * STRIDE + dx, (row + 0.5) * STRIDE + dy
        candidates.append(Detection(element, x, y, float(confidence[slot, row, column])))
    return _distinct(sorted(candidates, key=lambda d: (-d.confidence, d.x, d.y)))


def _distinct(candidates: Sequence[Detection]) -> list[Detection]:
    """Drop detections at the place of a more confident one of the same size and texture."""
    kept: list[Detection] = []
    for new in candidates:
        size, texture = new.element.size, new.element.texture
        if not any(
            (old.element.size, old.element.texture) == (size, texture)
            and (old.x - new.x) ** 2 + (old.y - new.y) ** 2 < SAME_ELEMENT_DISTANCE[size] ** 2
            for old in kept
        ):
            kept.append(new)
    return kept
