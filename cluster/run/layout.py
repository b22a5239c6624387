"""Where each file of a run folder is: the only place where these paths are spelled."""

from __future__ import annotations


def record_path(image_id: str, retry: int = 0) -> str:
    """Spread over 256 prefixes, as stores limit the writes to each. ``retry``: the last that took the image
    back."""
    return f"records/{image_id[-2:]}/{image_id}{f'.{retry}' if retry else ''}.json"


def snapshot_path(image_id: str) -> str:
    return f"progress/{image_id}.snapshot"
