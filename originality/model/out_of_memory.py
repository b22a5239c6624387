"""Recovery from running out of memory: the samples of a pass are halved until it fits."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor

T = TypeVar("T")


class Passes:
    """The number of samples that a pass of one kind of work may hold: all, until memory runs out."""

    def __init__(self) -> None:
        self.max_samples: int | None = None
        """Samples a pass may hold: as planned, or as found after memory ran out; None for all."""
        self.halved = False
        """Whether memory ran out."""

    def run(self, samples: int, work: Callable[[int], T]) -> T:
        """Call ``work(max_samples)``, which puts at most that many samples into one pass.

        When it runs out of memory it is called again from its start with half as many; a single sample is
        tried twice, the second time after the memory that torch caches was released. So ``work`` must have no
        effect before it returns. The number that fits is remembered for later calls.

        Raises:
            torch.OutOfMemoryError: a single sample does not fit.
        """
        last_try = False
        while True:
            max_samples = min(samples, self.max_samples or samples)
            try:
                return work(max_samples)
            except torch.OutOfMemoryError:
                if last_try:
                    raise
            # This is outside of the handler on purpose: inside it, the error's traceback still holds the
            # failed call's tensors, and emptying the cache would not release their memory.
            last_try = max_samples <= 1
            self.max_samples, self.halved = max(1, max_samples // 2), True
            torch.cuda.empty_cache()


def padded_indices(samples: int, size: int, device: torch.device | None = None) -> Tensor:
    """Indices of samples, int64, for passes of exactly ``size``: a short last pass repeats the first ones.

    Passes of one shape give a sample the same bits whatever samples are beside it.
    """
    return torch.arange(-(-samples // size) * size, device=device) % samples
