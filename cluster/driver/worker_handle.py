"""What the driver knows of one worker."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import ray

from cluster.worker.messages import Orders, Report

MAX_FAILURES = 5
"""Images in a row that one worker returns as failed, after which it gets no more while there are others. When
these judge their images meanwhile, the worker counts as broken."""


@dataclass
class WorkerHandle:
    """One worker.

    Times are seconds of the pool's :class:`~cluster.ray_runtime.observer_clock.ObserverClock`, so that a
    driver that was suspended does not hold its own silence against workers. ``paid_from`` and ``reported_at``
    are monotonic seconds instead: a machine costs money, and its pace is real, whether the driver listens or
    not.
    """

    name: str
    actor: Any
    capacity: int = 0
    """Images that it takes at once; 0 until its scorer is built."""
    doing: str = ""
    """What it does now, for people."""
    parts: Sequence[float] = ()
    """Parts of work done on each item in flight (see :class:`originality.contract.scorer.Scorer`)."""
    worked: float = 0.0
    """Parts of work that it has done since it started."""
    orders: Orders = field(default_factory=Orders)
    """To be sent with the next call."""
    answer: ray.ObjectRef[Report] | None = None
    """Reference to the answer of the call under way; None between two calls."""
    called_at: float = 0.0
    """When that call was made."""
    reported_at: float = 0.0
    """When its last report came."""
    answered: bool = False
    """Whether it ever answered; until then it may still wait for a machine."""
    hired_at: float = 0.0
    placed_at: float | None = None
    """When Ray was first seen to have placed it on a machine; None while it waits for one."""
    next_call_at: float = 0.0
    """Time of the next call: a worker that always has news would otherwise be called without pause."""
    rate: float = 0.0
    """Images that it settles in a second, smoothed."""
    node: str | None = None
    """Ray's id of its machine."""
    address: str = ""
    """Address of its machine, which stays the same when Ray loses the machine and it joins again under
    another id."""
    price: float = 0.0
    """US dollars an hour, from ``paid_from`` on."""
    paid_from: float = 0.0
    """Monotonic time of its first answer."""
    duplicates: int = 0
    """Records that it wrote too late, as the image had one."""
    leaving: bool = False
    """Whether it takes no more inputs, as its machine is about to be taken away or has failed."""
    failed: bool = False
    """Whether it leaves because its machine failed."""
    judged: int = 0
    """Images that it judged. One is enough to show that its machine works."""
    failures: int = 0
    """Images that it returned as failed since the last that it judged."""
    others_judged: int = 0
    """Images that the run had judged when the first of these failed."""

    @property
    def may_be_broken(self) -> bool:
        """Whether so many images failed in a row here that the worker itself is in doubt."""
        return self.failures >= MAX_FAILURES
