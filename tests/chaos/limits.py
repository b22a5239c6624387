"""The engine's bounds, shortened, so that a schedule goes past each of them in seconds. The product knows
nothing of this: a process of a schedule sets them in its own memory, once its modules are loaded."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType

SILENCE = 6.0
"""Seconds after which a worker that does not answer is given up."""
STALE = 4.0
"""Seconds after which a driver, or the holder of a lock, that shows no sign of life is taken for dead."""
REQUEST = 5.0
"""Seconds after which a request is broken off that has not come to an end."""

LIMITS: dict[str, dict[str, float]] = {
    "cluster.driver.dispatch": {"SILENCE_SECONDS": SILENCE},
    "cluster.storage.heartbeat": {"EVERY_SECONDS": 0.5, "STALE_SECONDS": STALE},
    "cluster.storage.lock": {"STALE_SECONDS": STALE, "_KEEP_SECONDS": 0.4, "_PAUSE_SECONDS": 0.2},
    "cluster.storage.turns": {"CONFIRM_SECONDS": 2.0},
    "cluster.storage.store": {"_REQUEST_SECONDS": REQUEST},
    "cluster.ray_runtime.ray_health": {"ANSWER_SECONDS": 20.0, "_GONE_SECONDS": 10.0, "_LOOK_SECONDS": 2.0},
    "cluster.run.ledger": {"_PART_ROWS": 5},
    "cluster.run.turn": {"_LOOK_SECONDS": 0.3},
    "cluster.driver.session": {"_SAVE_SECONDS": 1.0, "_COMPACT_SECONDS": 1.0},
}
"""Module, name, value. Parts of a few rows make a run of some images as full of them as one of millions."""


def shorten(*packages: str) -> None:
    """Sets the bounds of these packages ("cluster", "jobs"), also where another module has taken over a name.

    Raises:
        AttributeError: a bound is called something else by now.
    """
    for name, values in LIMITS.items():
        if name.partition(".")[0] not in packages:
            continue
        module = importlib.import_module(name)
        for attribute, value in values.items():
            usual = getattr(module, attribute)
            for other in {module, *(m for m in ours() if vars(m).get(attribute) is usual)}:
                setattr(other, attribute, value)


def ours() -> list[ModuleType]:
    """Every module of the product that is loaded."""
    return [module for name, module in sys.modules.items() if name.partition(".")[0] in ("cluster", "jobs")]
