"""Several collections as one: the manifests of inputs that are named together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import takewhile

import numpy as np
import pyarrow as pa

from cluster.inputs import locations
from cluster.inputs.manifest import SCHEMA, Manifest
from cluster.inputs.typed_rows import joined


def combined(manifests: Sequence[Manifest]) -> Manifest:
    """The inputs of all manifests, in their order; one that several name counts where it comes first."""
    if len(manifests) == 1:
        return manifests[0]
    table = stacked([manifest.table for manifest in manifests])
    uris = table["uri"].to_pylist()
    first = {uri: place for place, uri in reversed(list(enumerate(uris)))}
    # A list may name an image twice, with other columns; only what a later collection repeats is dropped.
    ends = np.cumsum([len(manifest) for manifest in manifests])
    of = np.searchsorted(ends, np.arange(len(uris)), side="right")
    kept = [place for place, uri in enumerate(uris) if of[first[uri]] == of[place]]
    kinds: Counter[str] = Counter()
    for manifest in manifests:
        kinds.update(manifest.skipped_kinds)
    return Manifest(
        common_folder([manifest.source for manifest in manifests]),
        table.take(pa.array(kept, pa.int64())),
        sum(manifest.skipped for manifest in manifests),
        dict(kinds.most_common()),
    )


def stacked(tables: Sequence[pa.Table]) -> pa.Table:
    """Tables of manifests one below the other, with the columns of all."""
    schema = SCHEMA
    for part in (locations.SCHEMA, locations.CELL_SCHEMA):
        for field in part:
            if any(field.name in table.column_names for table in tables):
                schema = schema.append(field)
    return joined(tables, schema)


def common_folder(folders: Sequence[str]) -> str:
    """The deepest folder or prefix that holds all of these; empty if they have none in common."""
    parts = [folder.split("/") for folder in folders]
    first, last = min(parts), max(parts)
    same = [a for a, b in takewhile(lambda pair: pair[0] == pair[1], zip(first, last, strict=False))]
    return "/".join(same) if same[1:] != [""] else ""
