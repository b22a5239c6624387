"""Verdicts from the distances that the paper prints."""

from __future__ import annotations

from originality.evaluation.verdict import Attempt, judge, passes

COMMON = (0.31, 0.39, 0.29, 0.28, 0.43)
"""Published DreamSim means of Figure 8: one token, five domains."""
ORIGINAL = {
    "houses": ((0.71, 0.48, 0.56, 0.38, 0.32), 4),
    "art": ((0.63, 0.53, 0.57, 0.52, 0.52), None),
    "sport": ((0.77, 0.36, 0.54, 0.56, 0.43), 2),
    "animals": ((0.60, 0.48, 0.41, 0.33, 0.52), 3),
    "people": ((0.70, 0.60, 0.83, 0.70, 0.39), 5),
}
"""Published DreamSim means of Figure 7, 1..5 tokens, and what a cut-off of 0.45 makes of them."""


def attempt(tokens, distance, editable=True, threshold=0.45, failure=None):
    return Attempt(
        tokens=tokens,
        distance_mean=distance,
        distance_sem=0.01,
        redraws=20,
        editability=1.0,
        editable=editable,
        passed=failure is None and passes(distance, threshold, editable),
        inversion_steps=2000,
        unet_samples=1,
        seconds=1.0,
        failure=failure,
    )


def verdict_of(sweep, most=5):
    return judge("x", sweep, max_tokens=most, model="m", settings_digest="s")
