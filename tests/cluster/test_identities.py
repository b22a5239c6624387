from __future__ import annotations

import io

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import cluster.identities
from cluster.identities import Identities, image_id_of, unread_id
from cluster.manifest import SCHEMA, Manifest
from cluster.store import open_store

INPUTS = 12
MANIFEST = Manifest("/in", pa.table([[f"/in/{i}.png" for i in range(INPUTS)], [1] * INPUTS], SCHEMA))
FACTS = st.tuples(st.integers(0, INPUTS - 1), st.integers(-1, 3), st.booleans())


@settings(deadline=None)
@given(st.lists(FACTS, max_size=30), st.integers(1, 4))
def test_what_was_learnt_last_is_known_by_whoever_comes_later(
    facts: list[tuple[int, int, bool]], rows: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cluster.identities, "_PART_ROWS", rows)
        store = open_store("memory://")
        writers = 0
        now = Identities(store, MANIFEST, "00")
        known: dict[int, str] = {}
        for number, image, another_comes in facts:
            image_id = unread_id(MANIFEST.uri(number)) if image < 0 else image_id_of(bytes([image]))
            now.learn(number, image_id)
            known[number] = image_id
            if another_comes:
                now.save()
                writers += 1
                now = Identities(store, MANIFEST, f"{writers:02}")
        now.save()
        later = Identities(store, MANIFEST)
        assert {n: later[n] for n in range(INPUTS) if later[n]} == known
        assert later.image_ids().to_pylist() == [known.get(n) for n in range(INPUTS)]


def test_a_part_has_what_a_query_joins_by() -> None:
    store = open_store("memory://")
    identities = Identities(store, MANIFEST, "first")
    identities.learn(3, image_id_of(b"x"))
    identities.save()
    (found,) = store.list("inputs")
    table = pq.read_table(io.BytesIO(store.read(found.path)))
    assert table.to_pylist() == [{"number": 3, "uri": "/in/3.png", "image_id": image_id_of(b"x")}]
