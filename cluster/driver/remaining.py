"""How much work a run has left, learnt from its items.

Work is counted in parts of about the same size, of which an item takes one or more, nobody knows how many: an
image's numbers of tokens, say. So the time left is known from the first part on, and does not grow while the
first items are under way.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence


class RemainingWork:
    """Expected parts of work of items in flight and of items that wait."""

    def __init__(self, most: int = 1) -> None:
        """``most``: parts that an item takes at most."""
        self._most = most
        self._took: Counter[int] = Counter()
        """Finished items by the parts that they took, rounded up; 0: rejected, or a copy of another one."""

    def finished(self, parts: float, copies: int = 0) -> None:
        """An item took so many parts of work, and ``copies`` of it none."""
        self._took[math.ceil(parts)] += 1
        self._took[0] += copies

    def parts(self, in_flight: Sequence[float], waiting: int) -> float:
        """Expected parts left, with so many done of each item in flight, and other items waiting."""
        started = sum(self._took.values()) + len(in_flight)
        idle = self._took[0] / started if started else 0.0
        ends = [self._ends_with(part, in_flight) for part in range(1, self._most)]

        def left(done: float) -> float:
            """Of one item. Each further part is taken by those that did not end with one before."""
            first = min(math.floor(done), self._most - 1)
            further, reaches = 1.0, 1.0
            for share in ends[first:]:
                reaches *= 1 - share
                further += reaches
            return max(0.0, further - (done - first))

        return sum(map(left, in_flight)) + waiting * (1 - idle) * left(0.0)

    def _ends_with(self, part: int, in_flight: Sequence[float]) -> float:
        """Share of the items that come through a part and end with it; as if one of three more had, so that
        an image of which nothing is known is expected to take some three numbers of tokens."""
        further = sum(n for parts, n in self._took.items() if parts > part)
        further += sum(1 for done in in_flight if done >= part)
        return (self._took[part] + 1) / (self._took[part] + further + 3)
