"""The order in which a random sample takes the inputs of a manifest.

Every input has a key: a hash of the seed and of its number in the manifest. A simple sample of N takes the N
smallest keys. So the sample of 1,000 is part of the sample of 2,000 of the same seed, at any size of the
collection, and no version of a library's random generator matters. A stratified sample takes the smallest
keys of each stratum, so it shares inputs with every other sample of the seed, and one that grows re-uses what
was judged before.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

MIN_PER_STRATUM = 2
"""Fewest inputs that a stratified sample takes of each stratum: a variance needs two."""
NO_VALUE = "(none)"
"""Name of the stratum of inputs without a value in the column."""
_GAMMA = np.uint64(0x9E3779B97F4A7C15)
_MIX = ((30, np.uint64(0xBF58476D1CE4E5B9)), (27, np.uint64(0x94D049BB133111EB)))


def keys(seed: int, count: int) -> np.ndarray:
    """The keys of inputs 0 to ``count`` - 1: uint64, uniform, different seeds independent.

    SplitMix64 (Steele, Lea and Flood, OOPSLA 2014) at position number + 1 of the stream that begins at the
    first eight bytes, big-endian, of sha256("sample SEED"). Integer arithmetic modulo 2**64 alone.
    """
    start = np.uint64(int.from_bytes(hashlib.sha256(f"sample {seed}".encode()).digest()[:8], "big"))
    key = np.arange(1, count + 1, dtype=np.uint64) * _GAMMA + start
    for shift, factor in _MIX:
        key = (key ^ (key >> np.uint64(shift))) * factor
    return key ^ (key >> np.uint64(31))


def simple_order(seed: int, count: int) -> np.ndarray:
    """All numbers in the order of a simple sample: int64, ascending by key, ties by number."""
    return np.argsort(keys(seed, count), kind="stable").astype(np.int64)


@dataclass(frozen=True)
class Strata:
    """The strata of a manifest: its inputs by their value in a column."""

    names: tuple[str, ...]
    """Values as text, sorted; NO_VALUE for inputs without one."""
    codes: np.ndarray
    """int64 (inputs,): the stratum of each input."""

    @property
    def sizes(self) -> np.ndarray:
        """Inputs of each stratum: int64, at least 1."""
        return np.bincount(self.codes, minlength=len(self.names))

    @classmethod
    def of(cls, column: pa.ChunkedArray) -> Strata:
        """The strata of a column of any type that can be shown as text."""
        text = column.cast(pa.string()) if not pa.types.is_string(column.type) else column
        encoded = pc.fill_null(text, NO_VALUE).combine_chunks().dictionary_encode()
        if isinstance(encoded, pa.ChunkedArray):
            encoded = encoded.combine_chunks()
        values = encoded.dictionary.to_pylist()
        places = sorted(range(len(values)), key=values.__getitem__)
        rank = np.empty(len(values), np.int64)
        rank[places] = np.arange(len(values))
        codes = rank[encoded.indices.to_numpy(zero_copy_only=False)] if values else np.zeros(0, np.int64)
        return cls(tuple(values[place] for place in places), codes)


def weights_of(strata: Strata, allocation: str, given: Mapping[str, float]) -> np.ndarray:
    """The relative number of inputs that a stratified sample takes of each stratum, all above 0.

    Args:
        strata: of the manifest.
        allocation: "proportional" to the inputs, "equal", or "neyman": as ``given``.
        given: weight by name of a stratum.
    """
    if allocation == "proportional":
        return strata.sizes.astype(float)
    if allocation == "equal":
        return np.ones(len(strata.names))
    return np.array([given[name] for name in strata.names], float)


def ranks(seed: int, codes: np.ndarray) -> np.ndarray:
    """The place of each input within its stratum, from 0, by key: int64."""
    key = keys(seed, len(codes))
    order = np.lexsort((key, codes))
    sizes = np.bincount(codes) if len(codes) else np.zeros(0, np.int64)
    first = np.cumsum(sizes) - sizes
    rank = np.empty(len(codes), np.int64)
    rank[order] = np.arange(len(codes)) - np.repeat(first, sizes)
    return rank


def stratified_order(seed: int, codes: np.ndarray, weights: Sequence[float] | np.ndarray) -> np.ndarray:
    """All numbers in the order of a stratified sample, each prefix of which is one: int64.

    First MIN_PER_STRATUM of each stratum, then by the divisor method of Webster and Sainte-Laguë: input r of
    a stratum with weight w comes at (2 r + 1) / w. Its shares of a sample never fall as the sample grows,
    which no rounding of quotas ensures.
    """
    rank = ranks(seed, codes)
    at = (2 * rank + 1) / np.asarray(weights, float)[codes]
    at = np.where(rank < MIN_PER_STRATUM, rank - MIN_PER_STRATUM, at)
    return np.lexsort((keys(seed, len(codes)), at)).astype(np.int64)
