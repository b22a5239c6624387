"""Collections of known truth: what each image would need, and what it may be grouped and predicted by."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

SIZE = 4_000
"""Inputs of each collection."""
STRATA = (2_000, 1_000, 600, 300, 100)
"""Inputs of each stratum."""
MOST = 5
"""Most tokens; a score of MOST + 1 is never."""
ENDS = (1.0, MOST + 1.0)
_CODES = np.repeat(np.arange(len(STRATA)), STRATA)


@dataclass(frozen=True)
class Population:
    """A collection."""

    name: str
    says: str
    """What it is, for the page."""
    scores: np.ndarray
    """float64 (SIZE,), from 1 to MOST + 1."""
    counted: np.ndarray
    """bool (SIZE,): whether the input can be judged."""
    strata: np.ndarray
    """int64 (SIZE,)."""
    proxies: dict[str, np.ndarray]
    """float64 (SIZE,) each: "good" has a correlation of about 0.9, "fair" of 0.5, "worthless" of 0."""

    @property
    def never(self) -> np.ndarray:
        """bool (SIZE,): no number of tokens redraws it."""
        return self.scores > MOST + 0.5


def populations() -> list[Population]:
    """All collections, always the same."""
    return [
        _population(number, name, says, scores)
        for number, (name, (says, scores)) in enumerate(_KINDS.items())
    ]


def _population(
    number: int, name: str, says: str, scores: Callable[[np.random.Generator], np.ndarray]
) -> Population:
    rng = np.random.default_rng((17, number))
    values = np.clip(scores(rng), *ENDS)
    spread, noise = values.std(), rng.normal(size=SIZE)
    proxies = {
        "good": values + 0.5 * spread * noise,
        "fair": values + 1.7 * spread * noise,
        "worthless": noise,
    }
    # Fewer inputs of later strata can be judged, so those that can are no simple part of the collection.
    counted = rng.random(SIZE) > (0.05 + 0.1 * _CODES if name == "rejecting" else -1)
    return Population(name, says, values, counted, _CODES, proxies)


def _broad(rng: np.random.Generator) -> np.ndarray:
    """All scores occur."""
    return rng.choice(6, SIZE, p=[0.2, 0.2, 0.15, 0.15, 0.1, 0.2]) + 1 + rng.normal(0, 0.2, SIZE)


def _known(rng: np.random.Generator) -> np.ndarray:
    return 1 + rng.exponential(0.15, SIZE) + 4.5 * (rng.random(SIZE) < 0.03)


def _rare(rng: np.random.Generator) -> np.ndarray:
    return np.where(rng.permutation(SIZE) < SIZE // 200, 6.0, 1.0)


def _original(rng: np.random.Generator) -> np.ndarray:
    return np.where(rng.random(SIZE) < 0.7, 6.0, rng.uniform(1, 5.4, SIZE))


def _grouped(rng: np.random.Generator) -> np.ndarray:
    """Strata differ much more than images within them."""
    return 1 + 1.2 * _CODES + rng.normal(0, 0.5, SIZE)


_KINDS: dict[str, tuple[str, Callable[[np.random.Generator], np.ndarray]]] = {
    "broad": ("all numbers of tokens occur", _broad),
    "known": ("almost all need one token, 3 % are original", _known),
    "rare": ("all need one token but 0.5 %, which are never redrawn", _rare),
    "original": ("70 % are never redrawn", _original),
    "grouped": ("strata differ much more than images within them", _grouped),
    "rejecting": ("as broad; 5 to 45 % of the strata's inputs are rejected", _broad),
}
