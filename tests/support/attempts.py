"""Attempts as an audit records them, from what was seen of a word."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from originality.evaluation.verdict import Attempt


def attempt_of(
    tokens: int, seen: Sequence[float], near: bool, shown: Sequence[bool] | None, kept: bool | None
) -> Attempt:
    """An attempt with these distances of redraws and hits of edit images, and what they decided."""
    return Attempt(
        tokens=tokens,
        distance_mean=float(np.mean(seen)),
        distance_sem=float(np.std(seen, ddof=1) / np.sqrt(len(seen))) if len(seen) > 1 else None,
        redraws=len(seen),
        editability=None if shown is None else float(np.mean(shown)),
        editable=kept,
        passed=near and kept is not False,
        inversion_steps=1,
        unet_samples=1,
        seconds=1.0,
        distances=tuple(seen),
        edit_hits=None if shown is None else tuple(shown),
    )
