"""The memory plan, tried."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from originality.contract.findings import Finding, failed, ok, warning
from originality.cost.memory_plan import MemoryPlan
from originality.doctor.speed import inversion
from originality.model.diffusion import LatentDiffusion
from originality.settings.audit import AuditSettings

FEW = 2
"""Samples of the trial step on a CPU."""

SLACK = 1.1
"""By how much a trial may take more than was planned without a word: a plan leaves a tenth of a GPU free."""

_NARROW = "use --set model.dtype=bf16 or fp32"


def memory(model: LatentDiffusion, settings: AuditSettings, planned: MemoryPlan) -> Finding:
    """Follow the plan: on a GPU with a step and a drawing at its size, whose peaks are compared with it; on a
    CPU, which tells no peaks, with a step of a few samples."""
    if planned.checkpointing:
        model.unet.enable_gradient_checkpointing()
    model.denoising.max_samples, model.decoding.max_samples = planned.denoising, planned.decoding
    on_gpu = model.device.type == "cuda"
    tried = planned.step if on_gpu else min(planned.step, FEW)
    inverter, lane = inversion(model, settings, tried)
    step = _peak(model.device, lambda: inverter.advance([lane]))
    lane.settle()
    numbers: dict[str, Any] = {
        "room_bytes": planned.room,
        "lanes": planned.lanes,
        "samples_a_pass": {
            "step": planned.step,
            "denoising": planned.denoising,
            "decoding": planned.decoding,
        },
        "gradient_checkpointing": planned.checkpointing,
        "samples_tried": tried,
        "peak_bytes": {"step": step},
    }
    if lane.failure:
        return failed(f"{planned}; tried: {lane.failure}", _NARROW, **numbers)
    if not on_gpu:
        return ok(f"{planned}; a step of {tried} was tried", **numbers)
    redraw = settings.redraw.model_copy(update={"steps": 2})
    noise = torch.zeros((redraw.count, *model.latent_shape))
    drawing = _peak(model.device, lambda: model.redraw(redraw.prompt, lane.vectors.detach(), noise, redraw))
    numbers["peak_bytes"]["drawing"] = drawing
    halved = any(part.halved for part in (inverter.passes, model.denoising, model.decoding))
    return _compared(planned, step, drawing, halved, numbers)


def _compared(planned: MemoryPlan, step: int, drawing: int, halved: bool, numbers: dict[str, Any]) -> Finding:
    """What was tried on a GPU against what was planned, in bytes."""
    takes = planned.footprint
    of_step = planned.step * (takes.checkpointed if planned.checkpointing else takes.step)
    of_drawing = max(planned.denoising * takes.denoising, planned.decoding * takes.decoding)
    told = f"{planned}; tried: inversion {step / 2**30:.2g} GiB, drawing {drawing / 2**30:.2g} GiB"
    if halved:
        fix = "free the GPU of other programs; an audit goes on in halved passes, slower"
        return warning(f"{told}; memory ran out", fix, **numbers)
    if step > SLACK * of_step or drawing > SLACK * of_drawing:
        fix = "an audit halves passes that do not fit; report this with what --json says"
        return warning(f"{told}: more than planned", fix, **numbers)
    return ok(told, **numbers)


def _peak(device: torch.device, work: Callable[[], object]) -> int:
    """Most bytes that a GPU's tensors took beyond those before; 0 on a CPU, which does not tell."""
    if device.type != "cuda":
        work()
        return 0
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    work()
    torch.cuda.synchronize(device)
    return torch.cuda.max_memory_allocated(device) - before
