"""Listings of containers, kept in the run folder while a run is planned: a plan that was killed resumes with
the containers that are not listed yet."""

from __future__ import annotations

import hashlib
from contextlib import suppress

import pyarrow.parquet as pq

from cluster.inputs.container_listings import ContainerListing
from cluster.inputs.locations import Container
from cluster.run.layout import SHARD_LISTINGS, shard_listing_path
from cluster.storage.checksums import checked_parquet, parquet_bytes
from cluster.storage.damage import damage_errors
from cluster.storage.store import Damaged, NotFound, Store

_VERSION = 1
"""Raised with every change of what a listing contains."""


class KeptListings:
    """The listings of one run folder, by container, size, version and the settings that decide what they
    contain. Threads may share it."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._used = False

    def load(self, container: Container, how: str = "") -> ContainerListing | None:
        """The listing of a container; None if there is none, or it is damaged."""
        path = _path(container, how)
        with suppress(NotFound, Damaged), damage_errors(self._store, path):
            return ContainerListing.from_table(pq.read_table(checked_parquet(self._store.read(path))))
        return None

    def save(self, container: Container, listing: ContainerListing, how: str = "") -> None:
        """Keep the listing of a container."""
        self._used = True
        self._store.write(_path(container, how), parquet_bytes(listing.to_table()))

    def remove(self) -> None:
        """Remove all listings: the manifest has what they have, or the plan was refused."""
        if self._used:
            for found in list(self._store.list(SHARD_LISTINGS)):
                self._store.delete(found.path)


def _path(container: Container, how: str) -> str:
    named = "\n".join((str(_VERSION), container.uri, str(container.size), str(container.version), how))
    return shard_listing_path(hashlib.sha256(named.encode()).hexdigest())
