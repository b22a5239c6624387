"""Marks for torch's profiler, put on a sweep from outside: who is at work at each moment."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial, wraps
from typing import Any
from unittest.mock import patch

import torch
from torch import nn
from torch.profiler import record_function

from originality.inversion.lane import Lane
from originality.sweep.sweep import Sweep

SCOPE = "audit: "
"""All names of scopes begin with it, on the profiler's side."""

UNET, UNET_BACK = "UNet", "UNet, backward"
TEXT, TEXT_BACK = "text encoder", "text encoder, backward"
VAE, METRIC = "VAE", "metric and check"
OPTIMISER, DRAWS, SAMPLER = "optimiser", "draws", "sampler"
OURS = "the rest"


def scope(name: str) -> record_function:
    return record_function(SCOPE + name)


def scoped(name: str, work: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(work)
    def call(*args: Any, **kwargs: Any) -> Any:
        with scope(name):
            return work(*args, **kwargs)

    return call


@contextmanager
def scopes(sweep: Sweep) -> Iterator[None]:
    """While open, the profiler sees the scopes in what the sweep does."""
    model = sweep.model
    vae = (model.vae.encoder, model.vae.decoder, model.vae.quant_conv, model.vae.post_quant_conv)
    checks = [check for check in sweep._checks.values() if check is not None]
    with ExitStack() as stack:

        def put_on(owner: Any, method: str, name: str) -> None:
            stack.enter_context(patch.object(owner, method, scoped(name, getattr(owner, method))))

        for module in (part for part in vae if part is not None):
            stack.enter_context(_watched(module, VAE))
        for encoder in model.text.encoders:
            stack.enter_context(_watched(encoder, TEXT))
        stack.enter_context(_watched(model.unet, UNET))
        stack.enter_context(patch.object(torch.autograd, "grad", partial(_backward, torch.autograd.grad)))
        put_on(Lane, "update", OPTIMISER)
        put_on(sweep.inverter, "step_noise", DRAWS)
        put_on(sweep.judge, "noise", DRAWS)
        put_on(sweep.distance, "embed", METRIC)
        put_on(sweep.distance, "between", METRIC)
        for check in checks:
            put_on(check, "score", METRIC)
        stack.enter_context(patch.object(model, "_sampler", partial(_sampler, model._sampler)))
        yield


@contextmanager
def _watched(module: nn.Module, name: str) -> Iterator[None]:
    """The module's forward passes are in the scope."""
    under_way: list[record_function] = []

    def begin(*_: Any) -> None:
        under_way.append(scope(name))
        under_way[-1].__enter__()

    def end(*_: Any) -> None:
        under_way.pop().__exit__(None, None, None)

    handles = module.register_forward_pre_hook(begin), module.register_forward_hook(end, always_call=True)
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _backward(grad: Callable[..., Any], *args: Any) -> Any:
    """Through the UNet from a loss, or through the text encoder from what the UNet's passes said."""
    with scope(TEXT_BACK if len(args) > 2 else UNET_BACK):
        return grad(*args)


def _sampler(make: Callable[..., Any], *args: Any) -> Any:
    with scope(SAMPLER):
        sampler = make(*args)
    sampler.step = scoped(SAMPLER, sampler.step)
    return sampler
