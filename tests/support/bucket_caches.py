"""What a process remembers of the buckets that it read from."""

from __future__ import annotations

from cluster.inputs import bucket_objects

# Private: bucket_objects._root, bucket_objects._readable, because the product never forgets them.


def forget_buckets() -> None:
    """Forget opened buckets, and which of their objects could be read, as in a new process."""
    bucket_objects._root.cache_clear()
    bucket_objects._readable.clear()
