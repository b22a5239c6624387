from __future__ import annotations

from collections import Counter

import pyarrow as pa

from cluster.inputs.container_listings import SCHEMA, ContainerListing
from cluster.inputs.kept_listings import KeptListings
from cluster.inputs.locations import Container
from cluster.run.layout import SHARD_LISTINGS
from cluster.storage.store import open_store

SHARD = Container("s3://b/a.tar", 1000, "1")


def test_a_listing_is_stored_for_one_version_of_a_shard() -> None:
    store = open_store("memory://")
    kept = KeptListings(store)
    table = pa.Table.from_pylist([{"uri": "s3://b/a.tar#1.png", "bytes": 3, "offset": 512}], SCHEMA)
    listing = ContainerListing(table, Counter({".npy": 2}))
    assert kept.load(SHARD) is None
    kept.save(SHARD, listing)
    assert kept.load(SHARD) == KeptListings(store).load(SHARD) == listing
    for other in (("s3://b/b.tar", 1000, "1"), ("s3://b/a.tar", 1001, "1"), ("s3://b/a.tar", 1000, None)):
        assert kept.load(Container(*other)) is None
    store.write("progress/else", b"x")
    kept.remove()
    assert [found.path for found in store.list()] == ["progress/else"]


def test_damaged_and_foreign_listings_are_ignored() -> None:
    store = open_store("memory://")
    kept = KeptListings(store)
    kept.save(SHARD, ContainerListing(SCHEMA.empty_table()))
    (path,) = (found.path for found in store.list(SHARD_LISTINGS))
    whole = store.read(path)
    for data in (b"", b"x", whole[:-9], whole[:50] + b"x" + whole[51:]):
        store.write(path, data)
        assert kept.load(SHARD) is None


def test_listings_of_others_are_left_if_none_was_used() -> None:
    store = open_store("memory://")
    KeptListings(store).save(SHARD, ContainerListing(SCHEMA.empty_table()))
    KeptListings(store).remove()
    assert KeptListings(store).load(SHARD) is not None
