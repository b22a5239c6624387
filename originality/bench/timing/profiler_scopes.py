"""Named scopes for torch's profiler, put on one sweep: which part of the method each moment belongs to."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from torch import nn
from torch.profiler import record_function

from originality.model.diffusion import LatentDiffusion
from originality.settings.redraw import RedrawSettings
from originality.sweep.sweep import Sweep

SCOPE = "audit: "
"""Prefix of the scopes' names in the profiler's events, which tells them from torch's own."""

UNET, UNET_BACK = "UNet", "UNet, backward"
TEXT, TEXT_BACK = "text encoder", "text encoder, backward"
VAE, METRIC = "VAE", "metric and check"
OPTIMISER, DRAWS, SAMPLER = "optimiser", "draws", "sampler"
OURS = "the rest"
"""Around each profiled call: what is in no other scope."""


def scope(name: str) -> record_function:
    """A scope of the profiler, as a context manager."""
    return record_function(SCOPE + name)


def scoped(name: str, work: Callable[..., Any]) -> Callable[..., Any]:
    """The same function, its calls in a scope."""

    @wraps(work)
    def call(*args: Any, **kwargs: Any) -> Any:
        with scope(name):
            return work(*args, **kwargs)

    return call


def mark_scopes(sweep: Sweep) -> None:
    """Mark the parts of a sweep's work for the profiler.

    The marks stay on the sweep: give one that was made for profiling. The backward passes and the optimiser
    are marked where they are called, in originality.inversion, as no object of the sweep is called for them.
    """
    model = sweep.model
    vae = (model.vae.encoder, model.vae.decoder, model.vae.quant_conv, model.vae.post_quant_conv)
    for module in (part for part in vae if part is not None):
        _mark_forward(module, VAE)
    for encoder in model.text.encoders:
        _mark_forward(encoder, TEXT)
    _mark_forward(model.unet, UNET)
    _mark_method(sweep.inverter, "step_noise", DRAWS)
    _mark_method(sweep.judge, "noise", DRAWS)
    _mark_method(sweep.distance, "embed", METRIC)
    _mark_method(sweep.distance, "between", METRIC)
    for check in sweep.checks.values():
        if check is not None:
            _mark_method(check, "score", METRIC)
    _mark_sampler(model)


def _mark_method(owner: Any, method: str, name: str) -> None:
    """Wrap a method of this one object, and not of its class: other sweeps run unmarked."""
    setattr(owner, method, scoped(name, getattr(owner, method)))


def _mark_forward(module: nn.Module, name: str) -> None:
    """Mark a module's forward passes."""
    open_scopes: list[record_function] = []

    def begin(*_: Any) -> None:
        open_scopes.append(scope(name))
        open_scopes[-1].__enter__()

    def end(*_: Any) -> None:
        open_scopes.pop().__exit__(None, None, None)

    module.register_forward_pre_hook(begin)
    module.register_forward_hook(end, always_call=True)


def _mark_sampler(model: LatentDiffusion) -> None:
    """Mark the making of samplers and, as each call makes a new one, the steps of every sampler made."""
    make = model.sampler

    def marked(settings: RedrawSettings) -> Any:
        with scope(SAMPLER):
            sampler: Any = make(settings)
        sampler.step = scoped(SAMPLER, sampler.step)
        return sampler

    setattr(model, "sampler", marked)  # noqa: B010 (mypy allows no assignment to a method)
