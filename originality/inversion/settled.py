"""When training may end early: its last cycles brought too little."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import NormalDist

import numpy as np


def settled(losses: Sequence[float], cycle: int, tolerance: float, confidence: float = 0.95) -> bool:
    """Ours: the last cycle brought next to nothing of what the inversion brought so far.

    Step s has the draws of step s - cycle, so the two losses differ by the word alone, and a step's own loss
    is all that it takes. With the gains g = losses[s - cycle] - losses[s] of the last ``cycle`` steps, and z
    the normal quantile of ``confidence``, training has settled when

        mean(g) + z * std(g) / sqrt(cycle) < ``tolerance`` * (mean(first cycle) - mean(last cycle)),

    or when the right side is not positive: no better than at first. Three cycles at least must be there.

    Args:
        losses: of the steps in their order, none left out. One that is not finite, as of a step that half
            precision skipped, leaves its pairs out.
        confidence: of the bound at one look; many looks at the same gains have less of it.

    Raises:
        ValueError: a cycle has fewer than the two steps that a standard error needs.
    """
    if cycle < 2:
        raise ValueError(f"cycle {cycle} must be at least 2")
    if len(losses) < 3 * cycle:
        return False
    first, before, last = np.asarray(
        [losses[:cycle], losses[-2 * cycle : -cycle], losses[-cycle:]], np.float64
    )
    gains, all_gains = _less(before, last), _less(first, last)
    if len(gains) < 2 or not len(all_gains):
        return False
    gained = all_gains.mean()
    bound = gains.mean() + NormalDist().inv_cdf(confidence) * gains.std(ddof=1) / np.sqrt(len(gains))
    return bool(gained <= 0 or bound < tolerance * gained)


def _less(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """The differences of pairs whose numbers are both finite."""
    both = np.isfinite(before) & np.isfinite(after)
    return before[both] - after[both]
