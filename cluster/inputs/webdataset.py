"""A WebDataset: tar files whose members are the images, listed by their headers, in parallel and in order.

One request an image reads its bytes later; listing takes about as many, fewer if images are small. Shards are
read by ranges: a store that has none is refused.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from cluster.inputs.container_listings import list_containers, manifest_of
from cluster.inputs.kept_listings import KeptListings
from cluster.inputs.manifest import InputError, Manifest
from cluster.inputs.shards import list_shard

SHARD = r"(?i)[^/]\.tar$"
"""Recognises shards by their extension."""
_COMPRESSED = re.compile(r"(?i)\.(?:tar\.(?:gz|bz2|xz|zst|lz4|br|z)|tgz|tbz2?|txz|tzst)$")


def check_compression(shown_as: str, uri: str) -> None:
    """Refuse a compressed tar: no part of it can be read without all that is before.

    Raises:
        InputError: it is one, by its name.
    """
    if _COMPRESSED.search(uri):
        raise InputError(
            f"{shown_as} is a compressed tar, of which no single image can be read; decompress it to .tar "
            "(gunzip, bunzip2, unxz or zstd -d): images are compressed already"
        )


def read_shards(
    shown_as: str,
    source: str,
    uris: Sequence[str],
    kept: KeptListings | None = None,
    skipped: Mapping[str, int] = {},
) -> Manifest:
    """The images of shards, in the order of the shards and of their members.

    Args:
        shown_as: the input as the user named it, for messages.
        source: the folder or prefix of all shards.
        kept: keeps the listing of each shard until all are listed.
        skipped: the number of files that were skipped beside the shards, by kind.

    Raises:
        InputError: no shard has an image.
        Outage, Refused, MachineFault: a store or disk fails.
    """
    found = list_containers(uris, list_shard, kept)
    manifest = manifest_of(source, found, skipped)
    if not pc.any(pc.is_valid(manifest.table["offset"])).as_py():
        raise _without_images(shown_as, manifest.table, Counter(manifest.skipped_kinds))
    return manifest


def _without_images(shown_as: str, table: pa.Table, kinds: Counter[str]) -> InputError:
    problems = table["problem"].drop_null()
    if len(problems):
        return InputError(f"{shown_as} contains no image that can be read: {problems[0]}")
    if table.num_rows:
        return InputError(f"{shown_as} does not exist; give a folder of images or of .tar files")
    skipped = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common(8))
    return InputError(
        f"{shown_as}: no member is an image by its extension" + f"; skipped {skipped}" * bool(skipped)
    )
