"""Early end of training: the last cycle of steps hardly lowered the loss."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import NormalDist

import numpy as np


def settled(losses: Sequence[float], cycle: int, tolerance: float, confidence: float = 0.95) -> bool:
    """Whether the last cycle lowered the loss by next to nothing of the total so far (our rule, no paper's).

    Step s uses the same noise as step s - cycle, so the two losses differ by the learned word alone, and the
    large spread of losses between timesteps cancels. With the gains g = losses[s - cycle] - losses[s] of the
    last ``cycle`` steps, and z the normal quantile of ``confidence``, training has settled when

        mean(g) + z * std(g) / sqrt(cycle) < ``tolerance`` * (mean(first cycle) - mean(last cycle)),

    or when the right side is not positive: the loss is no lower than at first. At least three cycles are
    needed.

    Args:
        losses: of all steps in order. A loss that is not finite, as of a step skipped in half precision,
            excludes its pairs.
        confidence: of the bound at one look; looking at the same gains many times lowers it.

    Raises:
        ValueError: ``cycle`` is under 2, the steps that a standard error needs.
    """
    if cycle < 2:
        raise ValueError(f"cycle {cycle} must be at least 2")
    if len(losses) < 3 * cycle:
        return False
    first, before, last = np.asarray(
        [losses[:cycle], losses[-2 * cycle : -cycle], losses[-cycle:]], np.float64
    )
    gains, total_gains = _differences(before, last), _differences(first, last)
    if len(gains) < 2 or not len(total_gains):
        return False
    gained = total_gains.mean()
    bound = gains.mean() + NormalDist().inv_cdf(confidence) * gains.std(ddof=1) / np.sqrt(len(gains))
    return bool(gained <= 0 or bound < tolerance * gained)


def _differences(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """``before - after``, of the pairs of which both are finite."""
    both = np.isfinite(before) & np.isfinite(after)
    return before[both] - after[both]
