"""Tensors on their way between host and device, for which neither waits."""

from __future__ import annotations

import torch
from torch import Tensor


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """A host's tensor on the device, for which the host does not wait."""
    return (tensor.pin_memory() if device.type == "cuda" else tensor).to(device, non_blocking=True)


class HostCopy:
    """Numbers of the device on their way to the host, which meanwhile goes on."""

    def __init__(self, numbers: Tensor) -> None:
        """``numbers``: of any shape."""
        on_gpu = numbers.device.type == "cuda"
        self._held = torch.empty_like(numbers, device="cpu", pin_memory=on_gpu)
        self._held.copy_(numbers, non_blocking=True)
        self._arrived = torch.cuda.Event() if on_gpu else None
        if self._arrived:
            self._arrived.record()

    def __getitem__(self, row: int) -> list[float]:
        """A row; the host waits until it is there."""
        if self._arrived:
            self._arrived.synchronize()
        numbers: list[float] = self._held[row].tolist()
        return numbers
