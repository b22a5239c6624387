from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from cluster.inputs.read_ahead import ReadAhead

DATA = random.Random(0).randbytes(300_000)


@given(st.lists(st.tuples(st.integers(0, 310_000), st.integers(0, 70_000)), max_size=30))
def test_any_reads_give_the_stored_bytes(reads: list[tuple[int, int]]) -> None:
    def fetch(offset: int, length: int) -> bytes:
        assert length > 0 and offset + length <= len(DATA)
        return DATA[offset : offset + length]

    read = ReadAhead(fetch, len(DATA))
    for offset, length in reads:
        assert read(offset, length) == DATA[offset : offset + length]


def _requests(stride: int, members: int) -> tuple[int, int]:
    """Requests, and bytes fetched, if a header of 512 bytes is read at every stride."""
    fetched = []

    def fetch(offset: int, length: int) -> bytes:
        fetched.append(length)
        return bytes(length)

    read = ReadAhead(fetch, stride * members)
    for number in range(members):
        read(number * stride, 512)
    assert read.requests == len(fetched)
    return read.requests, sum(fetched)


def test_small_members_are_read_through_and_large_ones_skipped() -> None:
    requests, _ = _requests(2_048, 20_000)
    assert requests < 20
    requests, fetched = _requests(10**6, 500)
    assert requests == 500 and fetched < 500 * 17_000
    for stride in (30_000, 70_000, 90_000, 200_000, 3_000_000):
        requests, fetched = _requests(stride, 300)
        assert requests <= 300 and fetched <= 300 * stride
