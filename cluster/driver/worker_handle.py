"""A worker as the driver sees it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import ray

from cluster.worker.worker import Orders, Report

MAX_FAILURES = 5
"""Images in a row that one worker gives back as failed, after which it gets no more while there are others,
and is taken for broken when these judge theirs."""


@dataclass
class WorkerHandle:
    """One worker. Times are of the pool's clock, but those of pay and pace."""

    name: str
    actor: Any
    capacity: int = 0
    """Images it takes at once; 0 until its scorer is built."""
    doing: str = ""
    parts: Sequence[float] = ()
    """Parts of work done on each item that it has in flight."""
    worked: float = 0.0
    """Parts of work that it has done."""
    orders: Orders = field(default_factory=Orders)
    """To be given with the next call."""
    answer: ray.ObjectRef[Report] | None = None
    """Of the call that is on its way."""
    asked_at: float = 0.0
    heard_at: float = 0.0
    answered: bool = False
    """Whether it ever did: before that it may wait for a machine."""
    hired_at: float = 0.0
    placed_at: float | None = None
    """When it was first seen to have a machine, though it has not answered."""
    rests_until: float = 0.0
    """Time of the next call, so that a busy worker is not asked without end."""
    rate: float = 0.0
    """Images that it settles in a second, smoothed."""
    node: str | None = None
    address: str = ""
    """Of its machine, which keeps it when Ray loses it and it joins anew under another id."""
    price: float = 0.0
    """US dollars an hour, from ``paid_from`` on."""
    paid_from: float = 0.0
    """Monotonic time: a machine is paid for while the driver sleeps, too."""
    duplicates: int = 0
    leaving: bool = False
    failed: bool = False
    """Whether it leaves because its machine failed."""
    judged: int = 0
    """Images that it judged: whether it has shown that its machine works."""
    failures: int = 0
    """Images that it gave back as failed since the last that it judged."""
    others_judged: int = 0
    """Images that the run had judged when the first of these failed."""

    @property
    def may_be_broken(self) -> bool:
        return self.failures >= MAX_FAILURES
