"""Files with one bit different, as disks and memories give them back now and then."""

from __future__ import annotations

import random
from collections.abc import Iterator

FLIPS = 300
"""By lot, of each file; beside its first and last bits."""
_ENDS = 48


def flipped(data: bytes, seed: int) -> Iterator[bytes]:
    """The same with one bit different: each of the first and of the last, and others by lot."""
    chosen = random.Random(seed)
    ends = [*range(_ENDS), *range(len(data) * 8 - _ENDS, len(data) * 8)]
    for bit in (*ends, *(chosen.randrange(len(data) * 8) for _ in range(FLIPS))):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        yield bytes(damaged)
