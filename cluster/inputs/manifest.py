"""What is to be done: the collection listed once and frozen.

Listing reads no image. Which image an input is (the sha256 of its bytes) is learnt where the bytes are
read, by the workers; see :mod:`cluster.inputs.identities`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cluster.storage.checksums import checked_parquet, parquet_bytes
from originality.contract.redaction import Masked

SCHEMA = pa.schema([("uri", pa.string()), ("bytes", pa.int64())])
WORD = pa.field("word", pa.string())
"""A further column of manifests and lists, where a list has it: what it says of an input beside its uri. Null
where it says nothing."""

MANIFEST_FILE = "manifest.parquet"
RUN_FILE = "run.json"
"""Marks a run folder: the pictures in one are an audit's own, and no input of another."""

_KINDS_SHOWN = 8
"""Kinds of skipped files that are named."""


class InputError(Masked, ValueError):
    """A collection with nothing to judge; the message is one line and says the fix."""


@dataclass(frozen=True)
class Manifest:
    """The inputs of a run, by number. Those of a folder are sorted by uri; a list keeps its order."""

    source: str
    """What the uris of a folder or prefix begin with; empty for a list."""
    table: pa.Table
    """SCHEMA, and further columns where a list has them (WORD); bytes are null where a list does not say."""
    skipped: int = 0
    """Files that were left out: their extension is no image's, or they are hidden or in a run folder; and
    folders that vanished while they were listed."""
    skipped_kinds: Mapping[str, int] = field(default_factory=dict)
    """How many of which kind, most frequent first: ".txt", "hidden", "vanished"; empty in manifests of older
    versions."""

    def __len__(self) -> int:
        return self.table.num_rows

    def uri(self, number: int) -> str:
        return str(self.table["uri"][number])

    def size(self, number: int) -> int | None:
        """Bytes, where the listing told."""
        return self.table["bytes"][number].as_py()

    def columns(self, number: int) -> dict[str, Any]:
        """What a list says of the input beside its uri, by column; a column that is null is left out."""
        return {name: value for name in self.extra if (value := self.table[name][number].as_py()) is not None}

    @property
    def extra(self) -> list[str]:
        """Names of the columns beside those that every manifest has."""
        return [name for name in self.table.column_names if name not in SCHEMA.names]

    def missing(self, column: str) -> int:
        """How many inputs have no value in a column."""
        return self.table[column].null_count if column in self.extra else len(self)

    def path(self, number: int) -> str:
        """The input's uri, without what all have in common."""
        return self.uri(number).removeprefix(f"{self.source}/" if self.source else "")

    @property
    def skipped_text(self) -> str:
        """For people: "skipped 12 files: 8 .txt, 3 .json, 1 .mov"."""
        files = f"skipped {self.skipped} file{'s' if self.skipped != 1 else ''}"
        return f"{files}: {self.kinds_text}" if self.skipped_kinds else files

    @property
    def kinds_text(self) -> str:
        """The kinds alone, the most frequent first."""
        kinds = list(self.skipped_kinds.items())
        parts = [f"{count} {kind}" for kind, count in kinds[:_KINDS_SHOWN]]
        if rest := sum(count for _, count in kinds[_KINDS_SHOWN:]):
            parts.append(f"{rest} of {len(kinds) - _KINDS_SHOWN} other kinds")
        return ", ".join(parts)

    def to_parquet(self) -> bytes:
        kinds = json.dumps(dict(self.skipped_kinds))
        meta = {"source": self.source, "skipped": str(self.skipped), "skipped_kinds": kinds}
        return parquet_bytes(self.table.replace_schema_metadata(meta))

    @classmethod
    def from_parquet(cls, data: bytes) -> Manifest:
        """Raises:
        ValueError: it is damaged.
        """
        table = pq.read_table(checked_parquet(data))
        meta: dict[bytes, bytes] = table.schema.metadata
        kinds = json.loads(meta.get(b"skipped_kinds", b"{}"))
        return cls(meta[b"source"].decode(), table, int(meta[b"skipped"]), kinds)


@dataclass(frozen=True)
class Selection:
    """Which inputs of a manifest are worked on this time."""

    limit: int | None = None
    """Only the first so many."""
    sample: int | None = None
    """Only so many, drawn at random."""
    seed: int = 0
    shard: tuple[int, int] = (1, 1)
    """(i, n): every n-th input from the i-th on, i = 1..n, so that n people may share the work."""

    def numbers(self, manifest: Manifest) -> np.ndarray:
        """int64, ascending."""
        number, of = self.shard
        chosen = np.arange(number - 1, len(manifest), of)
        if self.sample is not None and self.sample < len(chosen):
            chosen = np.sort(np.random.default_rng(self.seed).choice(chosen, self.sample, replace=False))
        return chosen[: self.limit]
