"""Check of the memory plan by running passes of its sizes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from originality.contract.findings import Finding, failed, ok, warning
from originality.cost.memory_plan import MemoryPlan
from originality.doctor.speed import inversion
from originality.model.diffusion import LatentDiffusion
from originality.settings.audit import AuditSettings

CPU_SAMPLES = 2
"""Samples of the trial step on a CPU."""

SLACK = 1.1
"""Factor by which a trial may exceed the planned memory without a warning: a plan leaves a tenth of a GPU
free."""

_WIDER = "use --set model.dtype=bf16 or fp32"


def memory(model: LatentDiffusion, settings: AuditSettings, planned: MemoryPlan) -> Finding:
    """Try the plan. On a GPU, an inversion step and a redraw of the planned sizes are run, and their peak
    memory is compared with the plan. On a CPU, which reports no peaks, a step of few samples is run."""
    if planned.checkpointing:
        model.unet.enable_gradient_checkpointing()
    model.denoising.max_samples, model.decoding.max_samples = planned.denoising, planned.decoding
    on_gpu = model.device.type == "cuda"
    tried = planned.step if on_gpu else min(planned.step, CPU_SAMPLES)
    inverter, lane = inversion(model, settings, tried)
    step = _peak(model.device, lambda: inverter.advance([lane]))
    lane.read_losses()
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
        return failed(f"{planned}; tried: {lane.failure}", _WIDER, **numbers)
    if not on_gpu:
        return ok(f"{planned}; a step of {tried} was tried", **numbers)
    redraw = settings.redraw.model_copy(update={"steps": 2})
    noise = torch.zeros((redraw.count, *model.latent_shape))
    drawing = _peak(model.device, lambda: model.redraw(redraw.prompt, lane.vectors.detach(), noise, redraw))
    numbers["peak_bytes"]["drawing"] = drawing
    halved = any(part.halved for part in (inverter.passes, model.denoising, model.decoding))
    return compared_with_plan(planned, step, drawing, halved, numbers)


def compared_with_plan(
    planned: MemoryPlan, step: int, drawing: int, halved: bool, numbers: dict[str, Any]
) -> Finding:
    """Compare the peaks of a trial on a GPU, in bytes, with the plan."""
    takes = planned.footprint
    of_step = planned.step * (takes.checkpointed if planned.checkpointing else takes.step)
    of_drawing = max(planned.denoising * takes.denoising, planned.decoding * takes.decoding)
    text = f"{planned}; tried: inversion {step / 2**30:.2g} GiB, drawing {drawing / 2**30:.2g} GiB"
    if halved:
        fix = "close other programs on the GPU; an audit works with halved passes, but more slowly"
        return warning(f"{text}; memory ran out", fix, **numbers)
    if step > SLACK * of_step or drawing > SLACK * of_drawing:
        fix = "an audit halves passes that do not fit; please report this with the output of --json"
        return warning(f"{text}: more than planned", fix, **numbers)
    return ok(text, **numbers)


def _peak(device: torch.device, work: Callable[[], object]) -> int:
    """Peak memory in bytes of tensors on the GPU during a call, beyond what was allocated before. 0 on a CPU,
    which does not report it."""
    if device.type != "cuda":
        work()
        return 0
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    work()
    torch.cuda.synchronize(device)
    return torch.cuda.max_memory_allocated(device) - before
