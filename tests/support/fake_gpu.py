"""A GPU that does nothing, and a watch over what would make the host wait for a real one.

torch's fake tensors say that they lie on a GPU, and hold no numbers. So whatever needs a number of theirs is
found, and so is a copy from memory that is not pinned, for which the host waits as well. Only the way back
through a network is left out: autograd's engine asks for a GPU's own queues.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from originality.model.diffusion import LatentDiffusion

# Private: aten._unique2, aten._local_scalar_dense and aten._to_copy, because these operators have no other
# name; UntypedStorage._cdata, because a fake storage has no address to recognise it by; torch._subclasses and
# torch.utils._python_dispatch, because fake tensors and a watch over operators are in no public module.

aten = torch.ops.aten
NUMBERS_DECIDE = {aten.nonzero, aten.equal, aten.masked_select, aten.bincount, aten._unique2}
"""Besides ``item``: what these give has a shape, or is a bool, that the host must be told."""


class WaitError(AssertionError):
    """The host would wait for the device."""


class Watch(TorchDispatchMode):
    """While entered, raises where the host would wait."""

    def __init__(self, device: str, pinned: list[torch.UntypedStorage]) -> None:
        """``device``: "cuda", or "cpu" to take that for one that the host would wait for."""
        super().__init__()
        self._device, self._pinned = device, pinned

    def _there(self, tensor: torch.Tensor) -> bool:
        return tensor.device.type == self._device

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs, kind = kwargs or {}, func.overloadpacket
        if kind is aten._local_scalar_dense:
            if self._there(args[0]):
                raise WaitError(str(func))
            return 1.0  # the host's own, which are fake as well
        if kind in NUMBERS_DECIDE and self._there(args[0]):
            raise WaitError(str(func))
        if kind in (aten.index, aten.index_put, aten.index_put_) and any(
            x is not None and self._there(x) and x.dtype == torch.bool for x in args[1]
        ):
            raise WaitError(f"{func} by a mask")
        pins = kwargs.pop("pin_memory", None)
        out = func(*args, **kwargs)
        if pins:
            self._pinned.append(out.untyped_storage())
        if kind is aten.copy_:
            self._copied(func, args[1], args[0], args[2] if len(args) > 2 else kwargs.get("non_blocking"))
        elif kind is aten._to_copy:
            self._copied(func, args[0], out, kwargs.get("non_blocking"))
        return out

    def _copied(
        self, func: Any, source: torch.Tensor, target: torch.Tensor, non_blocking: bool | None
    ) -> None:
        if self._there(source) == self._there(target):
            return
        hosts = target if self._there(source) else source
        if not non_blocking or not any(hosts.untyped_storage()._cdata == s._cdata for s in self._pinned):
            raise WaitError(f"{func}: {tuple(source.shape)} from {source.device} to {target.device}")


class FakeEvent:
    """Of ``torch.cuda``: the host may wait for any but the youngest."""

    youngest: FakeEvent | None = None

    def record(self) -> None:
        FakeEvent.youngest = self

    def synchronize(self) -> None:
        if self is FakeEvent.youngest:
            raise WaitError("for the work that it has just given to the device")


@contextmanager
def fake_gpu(patch: pytest.MonkeyPatch) -> Iterator[Watch]:
    """While open, tensors are fake, and those on "cuda" are made without one."""
    pinned: list[torch.UntypedStorage] = []

    def pin_memory(tensor: torch.Tensor) -> torch.Tensor:
        copy = tensor.clone()
        pinned.append(copy.untyped_storage())
        return copy

    def grad(_outputs: Any, inputs: Sequence[torch.Tensor], _of: Any = None) -> tuple[torch.Tensor, ...]:
        return tuple(torch.empty_like(x) for x in inputs)

    def unique(tensor: torch.Tensor, return_inverse: bool) -> tuple[torch.Tensor, torch.Tensor]:
        if tensor.device.type == "cuda":
            raise WaitError("unique")
        return tensor.clone(), torch.arange(len(tensor))  # the host's own, which is fake as well

    patch.setattr(torch.Tensor, "unique", unique)
    patch.setattr(torch.autograd, "grad", grad)
    patch.setattr(torch.Tensor, "pin_memory", pin_memory)
    patch.setattr(torch.cuda, "Event", FakeEvent)
    with FakeTensorMode(allow_non_fake_inputs=True):
        yield Watch("cuda", pinned)


def moved(model: LatentDiffusion) -> LatentDiffusion:
    """The model itself, its weights now fake and on the GPU; to be called while one is open."""

    def fake(value: torch.Tensor) -> torch.Tensor:
        return torch.empty(value.shape, dtype=value.dtype, device="cuda")

    for network in (model.unet, model.vae, *model.text.encoders):
        for module in network.modules():
            for name, weight in list(module.named_parameters(recurse=False, remove_duplicate=False)):
                setattr(module, name, torch.nn.Parameter(fake(weight), requires_grad=False))
            for name, held in list(module.named_buffers(recurse=False, remove_duplicate=False)):
                setattr(module, name, fake(held))
    for name, value in vars(model).items():
        if isinstance(value, torch.Tensor):
            setattr(model, name, fake(value))
    model.device = torch.device("cuda")
    return model
