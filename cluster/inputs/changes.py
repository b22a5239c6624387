"""Changes of a collection since a run was planned: inputs that were added, and inputs that moved.

Pure functions of two manifests. Inputs keep their numbers, by which everything else of a run names them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cluster.inputs import locations
from cluster.inputs.combined import stacked
from cluster.inputs.manifest import SCHEMA, Manifest


@dataclass(frozen=True)
class Change:
    """A manifest after a change."""

    manifest: Manifest
    changed: int
    """Inputs that were added, or that have a new uri."""
    absent: int
    """Inputs of the manifest that the collection does not have now. They stay as they were."""


def with_added_inputs(old: Manifest, now: Manifest) -> Change:
    """The manifest with the inputs that the collection has now and did not have before, at its end."""
    new = pc.invert(pc.is_in(now.table["uri"], old.table["uri"].combine_chunks()))
    gone = pc.invert(pc.is_in(old.table["uri"], now.table["uri"].combine_chunks()))
    added = now.table.filter(new)
    table = stacked([old.table, added]) if added.num_rows else old.table
    manifest = replace(old, table=table, skipped=now.skipped, skipped_kinds=now.skipped_kinds)
    return Change(manifest, added.num_rows, pc.sum(gone).as_py() or 0)


def with_moved_inputs(old: Manifest, now: Manifest) -> Change:
    """The manifest whose inputs are where the collection is now: by their names relative to its folder, where
    the bytes are as many as before. Columns that a list added stay."""
    names = _relative(now)
    place = pc.index_in(_relative(old), names).to_numpy(zero_copy_only=False)
    found = ~np.isnan(place) if place.dtype.kind == "f" else np.ones(len(old), bool)
    place = np.where(found, place, 0).astype(np.int64)
    there = now.table.take(pa.array(place))
    before, after = old.table["bytes"], there["bytes"]
    unknown = pc.or_(pc.is_null(before), pc.is_null(after))
    same = pc.or_(unknown, pc.fill_null(pc.equal(before, after), False)).to_numpy()
    follows = pa.array(found & same)
    own = [*SCHEMA.names, *locations.SCHEMA.names, *locations.CELL_SCHEMA.names]
    table = old.table
    for name in table.column_names:
        if name in own and name in there.column_names:
            column = pc.if_else(follows, there[name].cast(table[name].type), table[name])
            table = table.set_column(table.column_names.index(name), table.schema.field(name), column)
    count = int((found & same).sum())
    return Change(replace(old, source=now.source, table=table), count, len(old) - count)


def _relative(manifest: Manifest) -> pa.Array:
    """By number, the uri relative to the manifest's folder."""
    uris = manifest.table["uri"].combine_chunks()
    return pc.replace_substring_regex(uris, f"^{_quoted(manifest.source)}/", "") if manifest.source else uris


def _quoted(text: str) -> str:
    r"""Quoted for RE2, Arrow's regular expressions. Python's quoting escapes spaces, which RE2 refuses."""
    return r"\Q" + text.replace(r"\E", r"\E\\E\Q") + r"\E"
