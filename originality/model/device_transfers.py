"""Copies between host and device for which the host does not wait."""

from __future__ import annotations

import torch
from torch import Tensor


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """A copy of a host tensor on the device; the host does not wait for it.

    Only copies from pinned memory are asynchronous on CUDA.
    """
    return (tensor.pin_memory() if device.type == "cuda" else tensor).to(device, non_blocking=True)


class HostCopy:
    """A copy of a device tensor on the host. The host waits when the first row is read, not before."""

    def __init__(self, numbers: Tensor) -> None:
        """Start the copy.

        Args:
            numbers: of any shape; later changes to it do not reach the copy.
        """
        on_gpu = numbers.device.type == "cuda"
        self._copy = torch.empty_like(numbers, device="cpu", pin_memory=on_gpu)
        self._copy.copy_(numbers, non_blocking=True)
        self._arrived = torch.cuda.Event() if on_gpu else None
        if self._arrived:
            self._arrived.record()

    def __getitem__(self, row: int) -> list[float]:
        """One row of the copy; waits until the copy is complete."""
        if self._arrived:
            self._arrived.synchronize()
        numbers: list[float] = self._copy[row].tolist()
        return numbers
