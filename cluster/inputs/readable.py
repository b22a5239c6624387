"""Checks that a collection can be read at all: a few of its objects are tried before work begins."""

from __future__ import annotations

import pyarrow.compute as pc

from cluster.inputs.manifest import Manifest
from cluster.inputs.sources import remember_readable, try_to_read
from cluster.storage.store import NotFound, Refused, StoreError, Unaddressable

_TRIES = 5
"""Objects tried in each bucket, until one can be read."""
_MOST_BUCKETS = 100


def check_readable(manifest: Manifest) -> dict[str, str]:
    """Check that the buckets of a collection exist, and that the credentials may not only list their objects
    but also read them. Problems of single objects show when they are read.

    Returns:
        By bucket, the key of an object that can be read.

    Raises:
        StoreError: a bucket cannot be read; with the fix.
    """
    uris = manifest.files
    found_in = pc.extract_regex(uris, r"^(?P<bucket>(?:s3|gs|az)://[^/]+)/")
    buckets = pc.struct_field(found_in, "bucket")
    found: dict[str, str] = {}
    for bucket in pc.unique(buckets.drop_null()).to_pylist()[:_MOST_BUCKETS]:
        inside = uris.filter(pc.fill_null(pc.equal(buckets, bucket), False))
        step = max(1, len(inside) // _TRIES)
        key = _first_readable(inside[::step].to_pylist()[:_TRIES])
        if key is not None:
            found[bucket] = key
    remember_readable(found)
    return found


def _first_readable(uris: list[str]) -> str | None:
    """The key of the first object that can be read.

    None if one is missing, which shows as well that the store answers.

    Raises:
        StoreError: none can be read, or the whole bucket is refused.
    """
    refusal: StoreError | None = None
    for uri in uris:
        try:
            return try_to_read(uri)
        except Refused as error:
            if error.refuses_all:
                raise
            refusal = refusal or error
        except (NotFound, Unaddressable):
            return None
    if refusal is not None:
        raise refusal
    return None
