"""Counts the memory of a model's passes from its architecture, without computing any numbers.

UNet, VAE and text encoders are built a second time on PyTorch's ``meta`` device, which tracks shapes only,
and run there with one sample. The largest total size of tensors that exist at the same time, in forward and
backward pass, is the footprint. Attention is counted as fused kernels store it: queries, keys, values and
output. Sliced attention is run as it is, since a step keeps the attention weights of all slices for the
backward pass.
"""

from __future__ import annotations

import copy
import functools
import weakref
from dataclasses import dataclass
from typing import Any

import torch
from diffusers.models.attention_processor import AttnProcessor2_0
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

from originality.model.attention import PROCESSORS
from originality.model.diffusion import LatentDiffusion
from originality.model.meta_model import META, Architecture
from originality.model.prompt_embeddings import TextEncoders


@dataclass(frozen=True)
class Footprint:
    """Bytes that one sample of each kind of pass needs, in addition to the weights. n samples need n times as
    much."""

    step: int
    """Inversion step: forward pass, and backward pass to the token vectors."""
    checkpointed: int
    """The same with gradient checkpointing."""
    denoising: int
    """Denoising step of a redraw, UNet only."""
    decoding: int
    """VAE decoder."""


_counted: dict[tuple[str, ...], Footprint] = {}


def footprint(model: LatentDiffusion) -> Footprint:
    """Footprint of a model. Counting takes a few seconds for Stable Diffusion, so the result is cached for
    the process, by architecture, precisions and attention."""
    architecture = Architecture.of_model(model).key()
    key = (architecture, str(model.dtype), str(model.vae_dtype), str(model.attention.name == "sliced"))
    if key not in _counted:
        shape = _Shape(model)
        _counted[key] = Footprint(
            step=shape.step(),
            checkpointed=shape.step(checkpointing=True),
            denoising=shape.denoising(),
            decoding=shape.decoding(),
        )
    return _counted[key]


class _Shape:
    """A copy of a model on the meta device that runs the model's own code."""

    def __init__(self, model: LatentDiffusion) -> None:
        self.model = copy.copy(model)
        parts = Architecture.of_model(model).built()
        self.model.unet, self.model.vae = parts.unet, parts.vae
        for part, dtype in ((self.model.unet, model.dtype), (self.model.vae, model.vae_dtype)):
            # diffusers' own ``to`` would warn about precisions, which do not matter for shapes.
            torch.nn.Module.to(part, dtype)
            sliced = model.attention.name == "sliced"
            part.set_attn_processor(PROCESSORS["sliced"]() if sliced else _AttentionOfShapes())
        self.model.text = TextEncoders(model.text.tokenizers, parts.encoders)
        self.model.device = META

    def step(self, checkpointing: bool = False) -> int:
        """Bytes of an inversion step with one token, forward and backward pass."""
        model = self.model
        prompts = model.text.tokenise(["{}"], 1).to_device(META)
        t = torch.zeros(1, dtype=torch.long, device=META)
        if checkpointing:
            model.unet.enable_gradient_checkpointing()
        with LiveTensors() as live:
            noisy = torch.empty((1, *model.latent_shape), device=META)
            vectors = torch.empty((1, 1, sum(model.text.widths)), device=META, requires_grad=True)
            predicted = model.predict(noisy, t, model.text.encode(prompts, vectors))
            torch.autograd.grad(predicted.square().mean(), [vectors])
        model.unet.disable_gradient_checkpointing()
        return live.peak

    @torch.no_grad()
    def denoising(self) -> int:
        """Bytes of a denoising step."""
        model = self.model
        words = model.text.encode(model.text.tokenise([""], 0).to_device(META), None).to(model.dtype)
        with LiveTensors() as live:
            noisy = torch.empty((1, *model.latent_shape), device=META, dtype=model.dtype)
            model.unet_pass(noisy, torch.zeros((), dtype=torch.long, device=META), words)
        return live.peak

    @torch.no_grad()
    def decoding(self) -> int:
        """Bytes of a pass through the VAE decoder."""
        with LiveTensors() as live:
            shape = (1, *self.model.latent_shape)
            latents = torch.empty(shape, device=META, dtype=self.model.vae_dtype)
            self.model.vae.decode(latents).sample.float()
        return live.peak


class LiveTensors(TorchDispatchMode):
    """Counts the bytes of tensors created while the context is open, and their peak."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._known: dict[int, weakref.finalize[Any, Any]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        given = {t.untyped_storage()._cdata for t in tree_flatten((args, kwargs))[0] if isinstance(t, Tensor)}
        for tensor in tree_flatten(out)[0]:
            if isinstance(tensor, Tensor):
                self._add(tensor.untyped_storage(), given)
        return out

    def _add(self, storage: torch.UntypedStorage, given: set[int]) -> None:
        key = storage._cdata
        if key in given or key in self._known:  # a view, or a result written in place
            return
        size = storage.nbytes()
        self.now += size
        self.peak = max(self.peak, self.now)
        self._known[key] = weakref.finalize(storage, self._remove, key, size)

    def _remove(self, key: int, size: int) -> None:
        self.now -= size
        del self._known[key]


class _AttentionOfShapes(AttnProcessor2_0):  # type: ignore[misc]
    """diffusers' attention with the shapes of a fused kernel."""

    @functools.wraps(AttnProcessor2_0.__call__)  # diffusers inspects its signature
    def __call__(self, *args: Any, **kwargs: Any) -> Tensor:
        with _FusedKernels():
            out: Tensor = super().__call__(*args, **kwargs)
        return out


class _FusedKernels(TorchFunctionMode):
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.nn.functional.scaled_dot_product_attention:
            return _Fused.apply(*args[:3])
        return func(*args, **(kwargs or {}))


class _Fused(torch.autograd.Function):
    """Output, and tensors kept for the backward pass, of a fused attention kernel. Queries, keys and values
    have the shape (n, heads, length, width)."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        out = q.new_empty((*q.shape[:-1], v.shape[-1]))
        ctx.save_for_backward(q, k, v, out)
        return out

    @staticmethod
    def backward(ctx: Any, *_grads: Any) -> Any:
        return tuple(torch.empty_like(t) for t in ctx.saved_tensors[:3])
