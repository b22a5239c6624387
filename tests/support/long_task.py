"""Work on one item as a worker drives it: to its end, or cut off."""

from __future__ import annotations

import itertools
from typing import Any

from originality.contract.scorer import Finished, Item
from originality.experiments.tasks.long_task import OneAtATime


def finished(scorer: OneAtATime) -> tuple[Finished, int]:
    """What came of it, and in how many steps."""
    for steps in itertools.count(1):
        for done in scorer.step():
            return done, steps
    raise AssertionError("it does not end")


def cut(scorer: OneAtATime, item: Item[Any], after: int) -> bytes:
    """Everything is thrown away but a snapshot of so many steps."""
    for _ in range(after):
        assert not scorer.step()
    return scorer.snapshot(item.item_id)
