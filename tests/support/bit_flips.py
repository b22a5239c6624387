"""Files with one bit flipped, as disks and memories return them now and then."""

from __future__ import annotations

import random
from collections.abc import Iterator

FLIPS = 300
"""Random bits for each file, besides its first and last ones."""
_ENDS = 48


def flipped(data: bytes, seed: int) -> Iterator[bytes]:
    """The data with one bit flipped: each of the first and last bits, and some at random."""
    chosen = random.Random(seed)
    ends = [*range(_ENDS), *range(len(data) * 8 - _ENDS, len(data) * 8)]
    for bit in (*ends, *(chosen.randrange(len(data) * 8) for _ in range(FLIPS))):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        yield bytes(damaged)
