"""Random numbers that depend on what they are used for, and on nothing else.

Every random tensor comes from a generator keyed by (seed, image, number of tokens, step, ...). It is made on
the CPU and then moved to the device: the same key gives the same numbers whatever the batch neighbours, the
worker, the device or the number of restarts.
"""

from __future__ import annotations

import hashlib

import torch


def keyed_generator(*key: str | int) -> torch.Generator:
    """A CPU generator seeded by the key alone."""
    digest = hashlib.sha256(repr(key).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)
