"""Shortens the engine's time limits, so that a schedule exceeds each of them within seconds.

The product does not know of this: a process of a schedule sets them in its own memory, after its modules are
loaded.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType

SILENCE = 6.0
"""Seconds after which a worker that does not answer counts as dead."""
STALE = 4.0
"""Seconds after which a driver, or the holder of a lock, without a heartbeat counts as dead."""
REQUEST = 5.0
"""Seconds after which a request that has not ended is cancelled."""

LIMITS: dict[str, dict[str, float]] = {
    "cluster.driver.dispatch": {"SILENCE_SECONDS": SILENCE},
    "cluster.storage.heartbeat": {"EVERY_SECONDS": 0.5, "STALE_SECONDS": STALE},
    "cluster.storage.lock": {"STALE_SECONDS": STALE, "RENEW_SECONDS": 0.4, "PAUSE_SECONDS": 0.2},
    "cluster.storage.turns": {"CONFIRM_SECONDS": 2.0},
    "cluster.storage.requests": {"REQUEST_SECONDS": REQUEST},
    "cluster.ray_runtime.ray_health": {"ANSWER_SECONDS": 20.0, "GONE_SECONDS": 10.0, "LOOK_SECONDS": 2.0},
    "cluster.run.ledger": {"PART_ROWS": 5},
    "cluster.run.turn": {"LOOK_SECONDS": 0.3},
    "cluster.driver.session": {"SAVE_SECONDS": 1.0, "COMPACT_SECONDS": 1.0},
}
"""By module and name: the value. With parts of a few rows, a run of some images has as many parts as one of
millions."""


def shorten(*packages: str) -> None:
    """Sets the limits of these packages ("cluster", "jobs"), also in modules that have imported a name.

    Raises:
        AttributeError: a limit was renamed.
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
    """All loaded modules of the product."""
    return [module for name, module in sys.modules.items() if name.partition(".")[0] in ("cluster", "jobs")]
