"""Run a long task as a worker drives it, to its end or until interrupted."""

from __future__ import annotations

import itertools
from typing import Any

from originality.contract.scorer import Finished, Item
from originality.experiments.tasks.long_task import OneAtATime


def finished(scorer: OneAtATime) -> tuple[Finished, int]:
    """The finished item and the number of steps it took."""
    for steps in itertools.count(1):
        for done in scorer.step():
            return done, steps
    raise AssertionError("unreachable")


def cut(scorer: OneAtATime, item: Item[Any], after: int) -> bytes:
    """The snapshot after this many steps, all else discarded."""
    for _ in range(after):
        assert not scorer.step()
    return scorer.snapshot(item.item_id)
