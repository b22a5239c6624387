"""Plans how many samples each pass of a model holds on a device, from the memory that passes need."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from originality.cost.memory_footprint import Footprint, footprint
from originality.model.diffusion import LatentDiffusion
from originality.settings.inversion import InversionSettings
from originality.settings.redraw import RedrawSettings

SHARE = 0.9
"""Share of a GPU's memory that a plan may use. The rest is for the libraries' own buffers."""

CPU_ROOM = 4 * 2**30
"""Bytes for the passes of a worker on a CPU, which shares its memory with other programs."""

MIN_SAMPLES = 4
"""If fewer samples fit in a pass, gradient checkpointing is turned on. Fewer do not keep a GPU busy, which
costs more than computing parts of the UNet twice."""

MOST_LANES = 8
"""Largest number of lanes that ``inversion.lanes`` "auto" chooses."""


@dataclass(frozen=True)
class MemoryPlan:
    """Sizes of a model's passes on one device, in samples."""

    room: int
    """Bytes available for passes, in addition to the weights."""
    footprint: Footprint
    lanes: int
    step: int
    """Samples of an inversion pass, of lanes x batch size in a step."""
    denoising: int
    decoding: int
    checkpointing: bool
    """Whether gradient checkpointing is used in inversion steps."""

    def __str__(self) -> str:
        each = self.footprint.checkpointed if self.checkpointing else self.footprint.step
        parts = (
            ("inversion", self.step, each),
            ("denoising", self.denoising, self.footprint.denoising),
            ("decoding", self.decoding, self.footprint.decoding),
        )
        sizes = ", ".join(f"{name} {n} ({n * each / 2**30:.2g} GiB)" for name, n, each in parts)
        twice = "; with gradient checkpointing" if self.checkpointing else ""
        return f"samples a pass in {self.room / 2**30:.3g} GiB: {sizes}; lanes {self.lanes}{twice}"


def plan(model: LatentDiffusion, inversion: InversionSettings, redraw: RedrawSettings) -> MemoryPlan:
    """Plan the passes of a loaded model on its device.

    The plan depends on model and device only, not on the memory that other programs use at the moment.
    Results depend on the size of passes in their last bits, so equal machines must use equal plans.
    """
    return pass_sizes(footprint(model), room(model.device), model.checkpointing, inversion, redraw)


def pass_sizes(
    needed: Footprint,
    room: int,
    checkpointing: str,
    inversion: InversionSettings,
    redraw: RedrawSettings,
) -> MemoryPlan:
    """Plan passes as large as the room allows, of about equal size and at least one sample."""
    checkpointed = checkpointing == "on"
    if checkpointing == "auto":
        checkpointed = room // needed.step < min(MIN_SAMPLES, inversion.batch_size)
    fitting = room // (needed.checkpointed if checkpointed else needed.step)
    wanted = inversion.lanes
    automatic = min(max(1, fitting // inversion.batch_size), MOST_LANES)
    lanes = automatic if wanted == "auto" else wanted
    guided = redraw.pass_size * redraw.unet_samples
    return MemoryPlan(
        room,
        needed,
        lanes,
        _step(lanes, inversion.batch_size, fitting),
        _even(guided, room // needed.denoising),
        _even(redraw.pass_size, room // needed.decoding),
        checkpointed,
    )


def _step(lanes: int, batch_size: int, fitting: int) -> int:
    """Samples of an inversion pass. It holds complete lanes, or a part of one lane if none fits
    completely."""
    if fitting < batch_size:
        return _even(batch_size, fitting)
    return _even(lanes, fitting // batch_size) * batch_size


def _even(samples: int, fitting: int) -> int:
    """Size of a pass if the samples are split evenly over as few passes as possible."""
    passes = -(-samples // max(1, fitting))
    return -(-samples // passes)


def room(device: torch.device) -> int:
    """Bytes available for passes. Call it after all weights are loaded."""
    if device.type != "cuda":
        return CPU_ROOM
    total: int = torch.cuda.get_device_properties(device).total_memory
    return int(total * SHARE) - torch.cuda.memory_allocated(device)
