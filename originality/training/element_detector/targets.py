"""Targets of the detector's network for training images, and its loss."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from originality.shapes.detector import FIELDS, GRID, OFFSET_UNIT, SLOTS, STRIDE
from originality.shapes.drawing import CANVAS, Placed
from originality.shapes.elements import COLOURS, SHAPES
from originality.training.element_detector.images import Truth

NEAR = 2.2
"""Distance in pixels from a centre within which a cell must detect the element."""

AROUND = 4.5
"""Distance in pixels from a centre within which a cell may detect the element or not."""

MALFORMED_WEIGHT = 3.0
"""Weight of not detecting anything at a malformed element."""

_CELLS = (np.arange(GRID) + 0.5) * STRIDE


@dataclass(frozen=True)
class Targets:
    """Targets of a batch; each array is (n, slots, 32, 32)."""

    centre: Tensor
    weight: Tensor
    """Weight of the centre's loss: 0 where both answers are right."""
    named: Tensor
    """bool: cells that must predict shape, colour and the offset to the centre."""
    shape: Tensor
    colour: Tensor
    dx: Tensor
    dy: Tensor


def targets(truths: Sequence[Truth], flips: Sequence[bool]) -> Targets:
    """Targets of a batch of images, some of them mirrored left to right."""
    n = len(truths)
    arrays = np.zeros((7, n, len(SLOTS), GRID, GRID), np.float32)
    centre, weight, named, shape, colour, to_x, to_y = arrays
    weight[:] = 1
    nearest = np.full(centre.shape, np.inf)
    for i, (truth, flip) in enumerate(zip(truths, flips, strict=True)):

        def gaps(p: Placed, flip: bool = flip) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
            dx = (CANVAS - p.x if flip else p.x) - _CELLS[None, :]
            dy = p.y - _CELLS[:, None]
            return np.hypot(dx, dy), *np.broadcast_arrays(dx, dy)

        for p in truth.malformed:
            distance, _, _ = gaps(p)
            weight[i][:, distance < AROUND] = MALFORMED_WEIGHT
        for p, seen in zip(truth.placed, truth.seen, strict=True):
            if seen < 0.1:
                continue
            distance, dx, dy = gaps(p)
            s = SLOTS.index((p.element.size, p.element.texture))
            around = (distance < AROUND) & (centre[i, s] == 0)
            weight[i, s][around] = 0
            near = (distance < NEAR) & (distance < nearest[i, s])
            nearest[i, s][near] = distance[near]
            named[i, s][near] = 1
            shape[i, s][near] = SHAPES.index(p.element.shape)
            colour[i, s][near] = COLOURS.index(p.element.colour)
            to_x[i, s][near], to_y[i, s][near] = dx[near], dy[near]
            if seen >= 0.5:
                centre[i, s][near] = 1
                weight[i, s][near] = 1
    c, w, m, k, q, x, y = torch.from_numpy(arrays)
    return Targets(c, w, m.bool(), k.long(), q.long(), x, y)


def loss_of(outputs: Tensor, target: Targets) -> Tensor:
    """Sum of the centre, shape, colour and offset losses, each a mean over the cells near elements."""
    o = outputs.movedim(2, -1)
    centre = functional.binary_cross_entropy_with_logits(
        o[..., 0], target.centre, target.weight, reduction="sum"
    ) / target.centre.sum().clamp(min=1)
    m = target.named
    own = o[m]
    place = torch.stack([target.dx[m], target.dy[m]], -1) / OFFSET_UNIT
    names = functional.cross_entropy(own[:, 3 : 3 + len(SHAPES)], target.shape[m])
    colours = functional.cross_entropy(own[:, 3 + len(SHAPES) : FIELDS], target.colour[m])
    return centre + names + colours + functional.smooth_l1_loss(own[:, 1:3], place, beta=0.1)
