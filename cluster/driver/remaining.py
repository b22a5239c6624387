"""Estimates how much work a run has left, from the items finished so far.

Work is counted in parts of about the same size. An item takes one or more of them, and how many is known only
when it is finished: an audit's parts are the numbers of tokens that it tries on an image. Counted so, the
time left can be estimated from the first part on, and does not grow while the first items are in progress.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence


class RemainingWork:
    """Expected parts of work of items in flight and of items that wait."""

    def __init__(self, most: int = 1) -> None:
        """``most`` is the largest number of parts that an item takes."""
        self._most = most
        self._took: Counter[int] = Counter()
        """Finished items by the parts that they took, rounded up; 0 for rejected ones and for duplicates."""

    def finished(self, parts: float, copies: int = 0) -> None:
        """Count an item that took so many parts of work, and ``copies`` of it that took none."""
        self._took[math.ceil(parts)] += 1
        self._took[0] += copies

    def parts(self, in_flight: Sequence[float], waiting: int) -> float:
        """Return the expected number of parts left.

        Args:
            in_flight: parts done of each item in flight.
            waiting: number of other items.
        """
        started = sum(self._took.values()) + len(in_flight)
        idle = self._took[0] / started if started else 0.0
        ends = [self._ends_with(part, in_flight) for part in range(1, self._most)]

        def left(done: float) -> float:
            """Expected parts left of one item. A further part is reached only by the share of items that did
            not end with an earlier one."""
            first = min(math.floor(done), self._most - 1)
            further, reaches = 1.0, 1.0
            for share in ends[first:]:
                reaches *= 1 - share
                further += reaches
            return max(0.0, further - (done - first))

        return sum(map(left, in_flight)) + waiting * (1 - idle) * left(0.0)

    def _ends_with(self, part: int, in_flight: Sequence[float]) -> float:
        """Share of the items which reach the end of a part that finish with it.

        Estimated as if three more items had reached it and one of them had finished, so that before anything
        is known an image is expected to take about three numbers of tokens."""
        further = sum(n for parts, n in self._took.items() if parts > part)
        further += sum(1 for done in in_flight if done >= part)
        return (self._took[part] + 1) / (self._took[part] + further + 3)
