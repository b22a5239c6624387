"""How the work of a model is cut into passes: a plan for a device, from what the passes take."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from originality.cost.memory_footprint import Footprint, footprint
from originality.model.diffusion import LatentDiffusion
from originality.settings.inversion import InversionSettings
from originality.settings.parts import RedrawSettings

SHARE = 0.9
"""Of a GPU's memory that a plan may fill: the rest is for what libraries keep for themselves."""

CPU_ROOM = 4 * 2**30
"""Bytes for a worker's passes on a CPU, whose memory its neighbours want too."""

FEW = 4
"""Samples that keep a GPU busy: where fewer fit, parts of the UNet are computed twice instead."""

MOST_LANES = 8


@dataclass(frozen=True)
class MemoryPlan:
    """How the work of a model is cut into passes on one device. Numbers are samples."""

    room: int
    """Bytes for passes, beside the weights."""
    footprint: Footprint
    lanes: int
    step: int
    """Of lanes x batch size, those in one pass."""
    denoising: int
    decoding: int
    checkpointing: bool

    def __str__(self) -> str:
        each = self.footprint.checkpointed if self.checkpointing else self.footprint.step
        parts = (
            ("inversion", self.step, each),
            ("denoising", self.denoising, self.footprint.denoising),
            ("decoding", self.decoding, self.footprint.decoding),
        )
        told = ", ".join(f"{name} {n} ({n * each / 2**30:.2g} GiB)" for name, n, each in parts)
        twice = "; parts of the UNet computed twice" if self.checkpointing else ""
        return f"samples a pass in {self.room / 2**30:.3g} GiB: {told}; lanes {self.lanes}{twice}"


def plan(model: LatentDiffusion, inversion: InversionSettings, redraw: RedrawSettings) -> MemoryPlan:
    """The plan for a loaded model on its device: a function of both, whatever else runs there."""
    return divided(footprint(model), room(model.device), model.checkpointing, inversion, redraw)


def divided(
    takes: Footprint,
    room: int,
    checkpointing: str,
    inversion: InversionSettings,
    redraw: RedrawSettings,
) -> MemoryPlan:
    """Passes as large as the room, of equal size, of at least one sample."""
    twice = checkpointing == "on"
    if checkpointing == "auto":
        twice = room // takes.step < min(FEW, inversion.batch_size)
    fitting = room // (takes.checkpointed if twice else takes.step)
    wanted = inversion.lanes
    roomy = min(max(1, fitting // inversion.batch_size), MOST_LANES)
    lanes = roomy if wanted == "auto" else wanted
    guided = redraw.pass_size * redraw.unet_samples
    return MemoryPlan(
        room,
        takes,
        lanes,
        _step(lanes, inversion.batch_size, fitting),
        _even(guided, room // takes.denoising),
        _even(redraw.pass_size, room // takes.decoding),
        twice,
    )


def _step(lanes: int, batch_size: int, fitting: int) -> int:
    """Samples of an inversion's pass, which holds whole lanes or a part of one."""
    if fitting < batch_size:
        return _even(batch_size, fitting)
    return _even(lanes, fitting // batch_size) * batch_size


def _even(samples: int, fitting: int) -> int:
    """The size of a pass where as few as possible, all about as large, do the samples."""
    passes = -(-samples // max(1, fitting))
    return -(-samples // passes)


def room(device: torch.device) -> int:
    """Bytes for passes; call it when all weights are loaded."""
    if device.type != "cuda":
        return CPU_ROOM
    total: int = torch.cuda.get_device_properties(device).total_memory
    return int(total * SHARE) - torch.cuda.memory_allocated(device)
