"""Who computes attention: chosen, tried, installed, and looked at afterwards.

diffusers has two ways to switch, and one of them does nothing to a UNet2DConditionModel without a word. So
what counts here is which processors its attention layers hold in the end.
"""

from __future__ import annotations

import ctypes
import functools
import importlib.metadata
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from diffusers.models.attention_processor import (
    Attention,
    AttnProcessor2_0,
    SlicedAttnProcessor,
    XFormersAttnProcessor,
)
from torch.nn.attention import SDPBackend, sdpa_kernel

from originality.contract.config import SettingsError
from originality.contract.faults import is_machine_fault

WHEEL = "https://download.pytorch.org/whl/cu130/xformers-0.0.35-py39-none-manylinux_2_28_x86_64.whl"
"""xformers for CUDA 13, as the pinned torch is: PyPI's wheel of that version is for CUDA 12."""

Wanted = Literal["auto", "xformers", "sdpa", "flash", "sliced"]


@dataclass(frozen=True)
class Choice:
    """Who computes attention, and why."""

    name: str
    why: str

    def __str__(self) -> str:
        return f"{self.name} ({self.why})"


class FlashAttnProcessor(AttnProcessor2_0):  # type: ignore[misc]
    """PyTorch's attention by its flash kernel, or an error."""

    @functools.wraps(AttnProcessor2_0.__call__)  # diffusers reads which arguments it takes
    def __call__(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
            return super().__call__(*args, **kwargs)


PROCESSORS: dict[str, Callable[[], Any]] = {
    "xformers": XFormersAttnProcessor,
    "sdpa": AttnProcessor2_0,
    "flash": FlashAttnProcessor,
    "sliced": lambda: SlicedAttnProcessor(slice_size=1),
}


def install(wanted: Wanted, unet: Any, vae: Any, device: torch.device, dtype: torch.dtype) -> Choice:
    """Give the UNet's attention layers the processor that is wanted. The VAE's single layer has a head of 512
    and its own precision, for which no trial was made: it is PyTorch's own, or sliced.

    Raises:
        SettingsError: it cannot be had here, or diffusers did not install it.
    """
    choice = choose(wanted, head_widths(unet), device, dtype)
    unet.set_attn_processor(PROCESSORS[choice.name]())
    vae.set_attn_processor(PROCESSORS["sliced" if choice.name == "sliced" else "sdpa"]())
    found = installed(unet)
    if found != {type(PROCESSORS[choice.name]()).__name__}:
        raise SettingsError(
            f"model.attention {choice.name!r} was switched on, yet the UNet's layers hold "
            f"{', '.join(found)}; use model.attention=sdpa"
        )
    return choice


def installed(unet: Any) -> set[str]:
    """Names of the processors that the attention layers hold."""
    return {type(processor).__name__ for processor in unet.attn_processors.values()}


def head_widths(unet: Any) -> list[int]:
    """Numbers of a head in the UNet's attention layers: kernels differ in which they take."""
    return sorted({m.inner_dim // m.heads for m in unet.modules() if isinstance(m, Attention)})


def choose(wanted: Wanted, widths: list[int], device: torch.device, dtype: torch.dtype) -> Choice:
    """What to install on a device, where "auto" says why.

    Raises:
        SettingsError: what is wanted is not to be had here.
    """
    if wanted in ("sdpa", "sliced"):
        return Choice(wanted, "as set")
    missing = _missing("flash" if wanted == "flash" else "xformers", widths, device, dtype)
    if wanted == "auto":
        return Choice("sdpa", missing) if missing else Choice("xformers", "installed, and works here")
    if missing:
        raise SettingsError(f"model.attention {wanted!r} cannot be had: {missing}; use model.attention=sdpa")
    return Choice(wanted, "as set")


def _missing(name: str, widths: list[int], device: torch.device, dtype: torch.dtype) -> str | None:
    """Why xformers or flash cannot be had; None where a trial went well."""
    if device.type != "cuda":
        return f"{name} has no kernels for the {device.type.upper()}"
    if name == "xformers" and importlib.util.find_spec("xformers") is None:
        return f"xformers is not installed (pip install --no-deps {WHEEL})"
    if name == "flash" and dtype == torch.float32:
        return "flash attention computes in fp16 or bf16, and model.dtype is fp32"
    trial = {"xformers": _try_xformers, "flash": _try_flash}[name]
    for width in widths:
        try:
            trial(width, device, dtype)
        except Exception as error:  # of a library that does not fit torch or the GPU: any class there is
            if is_machine_fault(error) and not _still_computes(device):
                raise
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            version = importlib.metadata.version("xformers" if name == "xformers" else "torch")
            return f"{name} of version {version} fails on heads of {width}: {reason}"
    return None


def _still_computes(device: torch.device) -> bool:
    """Whether the device works after a failed trial. A kernel that was not built for this card fails alone;
    an error that sticks to the process, or full memory, is the machine's and says nothing of attention."""
    try:
        return bool(torch.ones(8, device=device).sum().item() == 8)
    except RuntimeError:
        return False


def _try_xformers(width: int, device: torch.device, dtype: torch.dtype) -> None:
    import xformers.ops

    compiled = importlib.util.find_spec("xformers._C")
    if compiled is not None and compiled.origin is not None:
        ctypes.CDLL(compiled.origin)  # xformers itself goes on without it, and does not say what was missing
    q = torch.zeros((2, 64, width), device=device, dtype=dtype, requires_grad=True)
    xformers.ops.memory_efficient_attention(q, q, q).sum().backward()


def _try_flash(width: int, device: torch.device, dtype: torch.dtype) -> None:
    q = torch.zeros((1, 2, 64, width), device=device, dtype=dtype, requires_grad=True)
    with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
        torch.nn.functional.scaled_dot_product_attention(q, q, q).sum().backward()
