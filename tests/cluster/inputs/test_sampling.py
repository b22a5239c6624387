from __future__ import annotations

import hashlib
from itertools import chain

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.inputs.manifest import SCHEMA, InputError, Manifest, Selection
from cluster.inputs.sampling import NO_VALUE, Strata, keys, ranks, simple_order, stratified_order

WORD = 2**64 - 1


def key_by_hand(seed: int, number: int) -> int:
    """The key of an input as the documentation defines it, in Python's integers."""
    start = int.from_bytes(hashlib.sha256(f"sample {seed}".encode()).digest()[:8], "big")
    key = (start + (number + 1) * 0x9E3779B97F4A7C15) & WORD
    key = ((key ^ (key >> 30)) * 0xBF58476D1CE4E5B9) & WORD
    key = ((key ^ (key >> 27)) * 0x94D049BB133111EB) & WORD
    return key ^ (key >> 31)


def manifest(labels: list[str | None]) -> Manifest:
    uris = [str(number) for number in range(len(labels))]
    table = pa.table([uris, pa.nulls(len(labels), pa.int64())], SCHEMA)
    return Manifest("", table.append_column("artist", pa.array(labels, pa.string())))


@given(st.integers(-(2**70), 2**70), st.integers(0, 40))
def test_keys_are_those_of_the_documentation(seed: int, count: int) -> None:
    assert keys(seed, count).tolist() == [key_by_hand(seed, number) for number in range(count)]


def test_the_order_never_changes() -> None:
    """A sample that grows must find the inputs that an earlier version took."""
    assert simple_order(0, 12).tolist() == [5, 6, 4, 9, 8, 2, 1, 0, 7, 3, 10, 11]


@pytest.mark.long
def test_samples_are_nested_at_three_million() -> None:
    order = simple_order(7, 3_000_000)
    assert len(np.unique(order)) == 3_000_000
    table = pa.table(
        [pa.array(["x"]).take(pa.array(np.zeros(3_000_000, int))), pa.nulls(3_000_000, pa.int64())], SCHEMA
    )
    inputs = Manifest("", table)
    small = Selection(sample=1000, seed=7).numbers(inputs)
    large = Selection(sample=2000, seed=7).numbers(inputs)
    assert np.array_equal(large[:1000], small) and np.array_equal(order[:2000], large)


def test_a_sample_is_uniform() -> None:
    """Of 4,000 seeds, each of 20 inputs is in a sample of 5 about a quarter of the time, each pair 5/95."""
    taken = np.zeros((4000, 20))
    for seed in range(4000):
        taken[seed, simple_order(seed, 20)[:5]] = 1
    # Standard errors 0.0068 and 0.0035; the seeds are fixed, so chance cannot fail this.
    assert np.abs(taken.mean(0) - 0.25).max() < 0.03
    pairs = taken.T @ taken / 4000
    assert np.abs(pairs[~np.eye(20, dtype=bool)] - 20 / 380).max() < 0.018


@given(
    st.lists(st.sampled_from("aaabbcd"), min_size=1, max_size=60),
    st.integers(0, 5),
    st.integers(1, 60),
    st.sampled_from(["proportional", "equal", "neyman"]),
    st.lists(st.floats(0.01, 100), min_size=4, max_size=4),
)
def test_stratified_samples_are_nested_and_take_two_of_each(
    labels: list[str], seed: int, size: int, allocation: str, weights: list[float]
) -> None:
    inputs = manifest(list(labels))
    given = tuple(zip("abcd", weights, strict=True))
    needed = sum(min(2, labels.count(name)) for name in set(labels))

    def sample(size: int) -> list[int]:
        chosen = Selection(sample=size, seed=seed, by="artist", allocation=allocation, weights=given)
        return chosen.numbers(inputs).tolist()

    if size < needed:
        with pytest.raises(InputError, match=f"need {needed} inputs"):
            sample(size)
        return
    smaller, larger = sample(size), sample(size + 7)
    assert larger[: len(smaller)] == smaller and len(smaller) == min(size, len(labels)) == len(set(smaller))
    taken = [labels[number] for number in smaller]
    assert all(taken.count(name) >= min(2, labels.count(name)) for name in set(labels))
    simple = simple_order(seed, len(labels)).tolist()
    for name in set(labels):  # of each stratum, the first of a simple sample
        of_simple = [number for number in simple if labels[number] == name]
        assert {n for n in smaller if labels[n] == name} == set(of_simple[: taken.count(name)])


def test_allocations() -> None:
    inputs = manifest(["a"] * 700 + ["b"] * 200 + ["c"] * 100)

    def counts(size: int, allocation: str, weights: tuple[tuple[str, float], ...] = ()) -> list[int]:
        chosen = Selection(sample=size, by="artist", allocation=allocation, weights=weights)
        labels = inputs.table["artist"].take(pa.array(chosen.numbers(inputs))).to_pylist()
        return [labels.count(name) for name in "abc"]

    assert counts(100, "proportional") == [70, 20, 10]
    assert counts(99, "equal") == [33, 33, 33]
    assert counts(600, "equal") == [300, 200, 100]
    assert counts(100, "neyman", (("a", 1.0), ("b", 1.0), ("c", 2.0))) == [25, 25, 50]


def test_strata_of_any_type_of_text() -> None:
    for column in (
        pa.array(["b", None, "a", "b"]),
        pa.array(["b", None, "a", "b"]).dictionary_encode(),
        pa.array(["b", None, "a", "b"], pa.large_string()),
    ):
        strata = Strata.of(pa.chunked_array([column]))
        assert strata.names == (NO_VALUE, "a", "b") and strata.codes.tolist() == [2, 0, 1, 2]
    assert Strata.of(pa.chunked_array([pa.array([3, 1, 3])])).names == ("1", "3")
    assert Strata.of(pa.chunked_array([], pa.string())).names == ()


def test_a_column_that_is_not_there_is_named() -> None:
    with pytest.raises(InputError, match="artist"):
        Selection(sample=2, by="licence").numbers(manifest(["a", "b"]))
    nested = manifest(["a"])
    nested = Manifest("", nested.table.append_column("tags", pa.array([[["x"]]])))
    with pytest.raises(InputError, match="tags"):
        Selection(sample=2, by="tags").numbers(nested)


def test_shards_and_limits_share_a_sample() -> None:
    inputs = manifest(["a"] * 50)
    whole = Selection(sample=20, seed=1).numbers(inputs).tolist()
    parts = [Selection(sample=20, seed=1, shard=(i, 3)).numbers(inputs).tolist() for i in (1, 2, 3)]
    assert sorted(chain.from_iterable(parts)) == sorted(whole)
    assert Selection(sample=20, seed=1, limit=6).numbers(inputs).tolist() == whole[:6]


def test_ranks_and_the_order_of_nothing() -> None:
    assert ranks(0, np.zeros(0, np.int64)).tolist() == []
    assert stratified_order(0, np.zeros(0, np.int64), np.zeros(0)).tolist() == []
