from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.leases import MOST_DEATHS, Leases
from cluster.manifest import Entry


def leases_of(count: int) -> Leases:
    return Leases((Entry(f"u/{i}", f"id{i}", 1), str(i)) for i in range(count))


@settings(deadline=None)
@given(st.integers(0, 12), st.sets(st.integers(0, 11)), st.integers(1, 5), st.randoms())
def test_killers_alone_are_condemned(count: int, killers: set[int], most: int, luck: random.Random) -> None:
    """A worker dies when it works on a killer. All others are settled, each once."""
    leases = leases_of(count)
    deadly = {f"id{i}" for i in killers if i < count}
    settled: list[str] = []
    condemned: list[str] = []
    worker = 0
    while leases.open:
        leases.grant(f"w{worker}", most)
        held = [lease.image_id for lease in leases.held(f"w{worker}")]
        assert 0 < len(held) <= most
        touched = luck.choice(held)
        if touched in deadly:
            gone = leases.suspect(f"w{worker}", held)
            condemned += [lease.image_id for lease in gone]
            assert all(lease.attempt == MOST_DEATHS for lease in gone)
            worker += 1
        else:
            leases.settle(f"w{worker}", touched)
            settled.append(touched)
    assert sorted(condemned) == sorted(deadly)
    assert sorted(settled) == sorted({f"id{i}" for i in range(count)} - deadly)


def test_a_suspect_is_leased_alone() -> None:
    leases = leases_of(3)
    leases.grant("a", 2)
    leases.suspect("a", ["id0", "id1"])
    assert [lease.image_id for lease in leases.grant("b", 2)] == ["id2"]
    assert leases.grant("b", 2) == []
    leases.settle("b", "id2")
    (alone,) = leases.grant("b", 2)
    assert (alone.image_id, alone.attempt) == ("id0", 2)
    assert leases.grant("b", 2) == []
