"""Which implementation computes attention: chosen, tried out, installed and verified.

diffusers has two ways to switch, and one of them silently does nothing to a UNet2DConditionModel. So the
processors that the attention layers hold in the end are compared with the chosen one.
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
    """The implementation that computes attention, and why it was chosen."""

    name: str
    why: str

    def __str__(self) -> str:
        return f"{self.name} ({self.why})"


class FlashAttnProcessor(AttnProcessor2_0):  # type: ignore[misc]
    """PyTorch's attention by its flash kernel alone: an error where that kernel does not apply."""

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
    """Install the attention that is wanted in the UNet's layers.

    The VAE gets PyTorch's own attention, or sliced: its only layer has a head of 512 and the VAE's
    precision, with which nothing was tried.

    Raises:
        SettingsError: it is unavailable here, or diffusers did not install it.
    """
    choice = choose(wanted, head_widths(unet), device, dtype)
    unet.set_attn_processor(PROCESSORS[choice.name]())
    vae.set_attn_processor(PROCESSORS["sliced" if choice.name == "sliced" else "sdpa"]())
    found = installed(unet)
    if found != {type(PROCESSORS[choice.name]()).__name__}:
        raise SettingsError(
            f"model.attention {choice.name!r} was installed, but the UNet's layers hold {', '.join(found)}; "
            "use model.attention=sdpa"
        )
    return choice


def installed(unet: Any) -> set[str]:
    """Class names of the processors that the attention layers hold."""
    return {type(processor).__name__ for processor in unet.attn_processors.values()}


def head_widths(unet: Any) -> list[int]:
    """Widths of a head in the UNet's attention layers: kernels differ in which widths they support."""
    return sorted({m.inner_dim // m.heads for m in unet.modules() if isinstance(m, Attention)})


def choose(wanted: Wanted, widths: list[int], device: torch.device, dtype: torch.dtype) -> Choice:
    """Choose what to install on a device.

    Raises:
        SettingsError: what the settings name is unavailable here.
    """
    if wanted in ("sdpa", "sliced"):
        return Choice(wanted, "as set")
    missing = why_unavailable("flash" if wanted == "flash" else "xformers", widths, device, dtype)
    if wanted == "auto":
        return Choice("sdpa", missing) if missing else Choice("xformers", "installed, and works here")
    if missing:
        raise SettingsError(f"model.attention {wanted!r} is unavailable: {missing}; use model.attention=sdpa")
    return Choice(wanted, "as set")


def why_unavailable(name: str, widths: list[int], device: torch.device, dtype: torch.dtype) -> str | None:
    """Why xformers or flash attention is unavailable; None if a trial of it succeeded."""
    if device.type != "cuda":
        return f"{name} has no kernels for the {device.type.upper()}"
    if name == "xformers" and importlib.util.find_spec("xformers") is None:
        return f"xformers is not installed (pip install --no-deps {WHEEL})"
    if name == "flash" and dtype == torch.float32:
        return "flash attention computes in fp16 or bf16, and model.dtype is fp32"
    trial = {"xformers": try_xformers, "flash": _try_flash}[name]
    for width in widths:
        try:
            trial(width, device, dtype)
        except Exception as error:  # a library that does not fit torch or the GPU raises any class of error
            if is_machine_fault(error) and not still_computes(device):
                raise
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            version = importlib.metadata.version("xformers" if name == "xformers" else "torch")
            return f"{name} of version {version} fails on heads of {width}: {reason}"
    return None


def still_computes(device: torch.device) -> bool:
    """Whether the device works after a failed trial.

    If it does, the kernel was not built for this GPU. If it does not, the GPU or its memory failed: that is a
    fault of the machine, and tells nothing about attention.
    """
    try:
        return bool(torch.ones(8, device=device).sum().item() == 8)
    except RuntimeError:
        return False


def try_xformers(width: int, device: torch.device, dtype: torch.dtype) -> None:
    """Run xformers' attention forward and backward on heads of this width; raises if it does not work."""
    import xformers.ops

    compiled = importlib.util.find_spec("xformers._C")
    if compiled is not None and compiled.origin is not None:
        ctypes.CDLL(
            compiled.origin
        )  # xformers itself ignores a failure here, and its later error names no cause
    q = torch.zeros((2, 64, width), device=device, dtype=dtype, requires_grad=True)
    xformers.ops.memory_efficient_attention(q, q, q).sum().backward()


def _try_flash(width: int, device: torch.device, dtype: torch.dtype) -> None:
    q = torch.zeros((1, 2, 64, width), device=device, dtype=dtype, requires_grad=True)
    with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
        torch.nn.functional.scaled_dot_product_attention(q, q, q).sum().backward()
