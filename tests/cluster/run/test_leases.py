from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from cluster.run.leases import MAX_DEATHS, Lease, Leases


def leases_of(count: int) -> Leases:
    return Leases((Lease(i, f"u/{i}", 1) for i in range(count)), count)


@given(
    st.lists(st.integers(0, 6), max_size=12),
    st.sets(st.integers(0, 6)),
    st.integers(1, 5),
    st.integers(1, 3),
    st.randoms(),
)
def test_every_input_ends_once_and_only_images_that_kill_fail(
    images: list[int], killers: set[int], most: int, workers: int, luck: random.Random
) -> None:
    """``images`` are the images that the inputs turn out to be. A worker dies when it works on a killer; some
    are taken away for no fault of theirs."""
    leases = leases_of(len(images))
    settled: list[int] = []
    condemned: list[int] = []
    pool = [f"w{i}" for i in range(workers)]
    hired = workers
    while leases.open:
        assert leases.open == len(images) - len(settled) - len(condemned)
        name = luck.choice(pool)
        leases.grant(name, most)
        held = leases.held(name)
        assert len(held) <= most
        busy = [lease for w in pool for lease in leases.held(w)]
        assert busy
        known = [lease.image_id for lease in busy if lease.image_id]
        assert len(known) == len(set(known))  # no image is in two hands
        if not held:
            continue
        lease = luck.choice(held)
        event = luck.random()
        if lease.image_id is None:
            leases.identify(name, lease.number, str(images[lease.number]))
        elif event < 0.05:
            images[lease.number] = luck.randrange(7)  # the file was changed, and is read again
            leases.identify(name, lease.number, str(images[lease.number]))
        elif event < 0.08:
            settled += leases.settle(name, lease.number, "unread")  # or it is gone
        elif event < 0.1:
            leases.give_back(name)
        elif images[lease.number] in killers:
            gone = leases.suspect(name, [one.number for one in held], "boom")
            assert all(len(one.causes) == MAX_DEATHS for one, _ in gone)
            condemned += [number for _, numbers in gone for number in numbers]
            pool[pool.index(name)] = f"w{hired}"
            hired += 1
        else:
            settled += leases.settle(name, lease.number, lease.image_id)
    assert sorted(settled + condemned) == list(range(len(images)))
    assert {images[i] for i in condemned} <= killers


def test_a_suspect_is_leased_by_itself() -> None:
    leases = leases_of(3)
    leases.grant("a", 2)
    leases.suspect("a", [0, 1], "boom")
    assert [lease.number for lease in leases.grant("b", 2)] == [2]
    assert leases.grant("b", 2) == []
    leases.settle("b", 2, "z")
    (alone,) = leases.grant("b", 2)
    assert (alone.number, alone.attempt) == (0, 2)
    assert leases.grant("b", 2) == []


def test_the_same_image_is_parked_and_settled_with_the_first() -> None:
    leases = leases_of(3)
    leases.grant("a", 1)
    leases.grant("b", 2)
    assert leases.identify("a", 0, "x")
    assert not leases.identify("b", 1, "x")
    assert leases.identify("b", 2, "y")
    assert leases.open == 3 and leases.queued == 0
    leases.suspect("a", [0], "boom")
    (again,) = leases.grant("c", 1)
    assert (again.number, again.image_id, again.attempt) == (0, "x", 2)
    assert leases.settle("c", 0, "x") == [0, 1]
    assert leases.open == 1


def test_returned_inputs_come_first() -> None:
    leases = leases_of(4)
    leases.grant("a", 2)
    leases.give_back("a")
    assert {lease.number for lease in leases.grant("b", 2)} == {0, 1}


def test_an_image_that_is_known_is_claimed_when_it_is_leased() -> None:
    leases = Leases([Lease(0, "u/0", 1, "x"), Lease(1, "u/1", 1, "x"), Lease(2, "u/2", 1)], 3)
    assert [lease.number for lease in leases.grant("a", 3)] == [0, 2]
    assert not leases.identify("a", 2, "x")
    assert leases.settle("a", 0, "x") == [0, 1, 2]
    assert leases.open == 0


def test_duplicates_separate_if_one_has_changed_or_is_gone() -> None:
    def twins() -> Leases:
        leases = Leases([Lease(0, "u/0", 1, "x"), Lease(1, "u/1", 1, "x")], 2)
        assert [lease.number for lease in leases.grant("a", 2)] == [0]
        return leases

    leases = twins()
    assert leases.identify("a", 0, "y")
    assert [lease.number for lease in leases.grant("b", 1)] == [1]
    assert leases.settle("a", 0, "y") == [0]
    assert leases.settle("b", 1, "x") == [1] and leases.open == 0
    leases = twins()
    assert leases.settle("a", 0, "unread-0") == [0]
    assert [lease.number for lease in leases.grant("a", 1)] == [1]
