"""Out of memory: what goes through the model at once is halved until it fits."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor

T = TypeVar("T")


class Passes:
    """How many samples one pass of some work may hold: all of them, until memory runs out."""

    def __init__(self) -> None:
        self.max_samples: int | None = None
        """Samples a pass as planned, or after memory ran out; None: all."""
        self.halved = False
        """Whether memory ran out."""

    def run(self, samples: int, work: Callable[[int], T]) -> T:
        """``work(most)``, which lets at most ``most`` of its samples into one pass.

        When it runs out of memory it is done again from its start, with half as many, or once more with a
        single one when all that other passes left unused is given back; so it must change nothing before it
        returns. What was found to fit holds for later calls.

        Raises:
            torch.OutOfMemoryError: a single sample is too much.
        """
        last_try = False
        while True:
            most = min(samples, self.max_samples or samples)
            try:
                return work(most)
            except torch.OutOfMemoryError:
                if last_try:
                    raise
            # Only here, outside of the handler, is the traceback gone that held the failed try's tensors.
            last_try = most <= 1
            self.max_samples, self.halved = max(1, most // 2), True
            torch.cuda.empty_cache()


def padded_indices(samples: int, most: int, device: torch.device | None = None) -> Tensor:
    """Numbers of samples for passes of exactly ``most`` each, int64: the first ones come again at the end."""
    return torch.arange(-(-samples // most) * most, device=device) % samples
