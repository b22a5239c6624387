"""The manifest: a collection listed once and frozen.

Listing reads no image. The identity of an image (the sha256 of its bytes) is determined by the workers, which
read the bytes; see :mod:`cluster.inputs.identities`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from cluster.inputs import locations
from cluster.inputs.locations import Location, location_of
from cluster.inputs.sampling import MIN_PER_STRATUM, Strata, simple_order, stratified_order, weights_of
from cluster.storage.checksums import checked_parquet, parquet_bytes
from originality.contract.redaction import Masked

SCHEMA = pa.schema([("uri", pa.string()), ("bytes", pa.int64())])
WORD = pa.field("word", pa.string())
"""An optional column of lists and manifests: a word for each input. Null for an input without one."""
LISTED_AS = "listed_as"
"""Column of manifests of lists: the uri as the list has it, which may be relative. Null for a row without
one."""

OWN_NAMES = frozenset(
    {
        *SCHEMA.names,
        *locations.SCHEMA.names,
        *locations.CELL_SCHEMA.names,
        *(LISTED_AS, "number", "image_id"),
    }
)
"""Names of columns that a run's own tables have. A list's column of such a name gets the prefix ``list_``, a
field of JSON beside an image the prefix ``json.``."""

ALLOCATIONS = ("proportional", "equal", "neyman")
"""How a stratified sample may be divided among its strata."""

_KINDS_SHOWN = 8
"""Kinds of skipped files that are shown."""


class InputError(Masked, ValueError):
    """A collection with nothing to judge; the message is one line with the fix."""


@dataclass(frozen=True)
class Manifest:
    """The inputs of a run, by number. Those of a folder are sorted by uri; a list keeps its order."""

    source: str
    """The folder or prefix with which all uris begin; empty for a list."""
    table: pa.Table
    """Columns of SCHEMA; those of :data:`cluster.inputs.locations.SCHEMA` if inputs are in containers; and
    those that a list adds: LISTED_AS, WORD and its other columns. Bytes are null if unknown, as in a list."""
    skipped: int = 0
    """Number of files that were skipped (hidden, in a run folder, or not images by their extension), and of
    folders that vanished while they were listed."""
    skipped_kinds: Mapping[str, int] = field(default_factory=dict)
    """The number of each kind, most frequent first: ".txt", "hidden", "vanished". Empty in manifests of
    earlier versions."""

    def __len__(self) -> int:
        return self.table.num_rows

    def uri(self, number: int) -> str:
        """The uri of an input."""
        return str(self.table["uri"][number])

    def size(self, number: int) -> int | None:
        """Bytes of an input; None if the listing did not have them."""
        return self.table["bytes"][number].as_py()

    def location(self, number: int) -> Location | None:
        """Where the bytes of an input are; None if it is a separate file."""
        if not self.has_containers:
            return None
        row = {name: self.table[name][number].as_py() for name in self._location_columns}
        return location_of(row, self.size(number))

    @property
    def has_containers(self) -> bool:
        """Whether inputs may be in containers."""
        return "container" in self.table.column_names

    @property
    def _location_columns(self) -> list[str]:
        names = (*locations.SCHEMA.names, *locations.CELL_SCHEMA.names)
        return [name for name in names if name in self.table.column_names] if self.has_containers else []

    @property
    def files(self) -> pa.ChunkedArray:
        """By number, the uri of the file in which an input is: its own, or its container's."""
        uris = self.table["uri"]
        return pc.coalesce(self.table["container"].cast(pa.string()), uris) if self.has_containers else uris

    def columns(self, number: int) -> dict[str, Any]:
        """The values of the columns that a list adds, for one input, by column; without those that are
        null."""
        return {name: value for name in self.extra if (value := self.table[name][number].as_py()) is not None}

    @property
    def extra(self) -> list[str]:
        """Names of the columns that a list has beside its uris, and a WebDataset beside its images."""
        own = [*SCHEMA.names, LISTED_AS, *self._location_columns]
        return [name for name in self.table.column_names if name not in own]

    def listed(self, numbers: np.ndarray) -> pa.Table:
        """What is said of some inputs: LISTED_AS and the columns of :attr:`extra`, if there are any."""
        names = [name for name in self.table.column_names if name in (LISTED_AS, *self.extra)]
        return self.table.select(names).take(pa.array(numbers, pa.int64()))

    def missing(self, column: str) -> int:
        """How many inputs have no value in a column."""
        return self.table[column].null_count if column in self.extra else len(self)

    def strata(self, column: str) -> Strata:
        """The inputs by their values in a column.

        Raises:
            InputError: the collection has no such column, or its values cannot be shown as text.
        """
        if column not in self.extra:
            known = f"known: {', '.join(self.extra)}" if self.extra else "this collection has none"
            raise InputError(f"--by {column}: no such column ({known}); columns come from a list")
        try:
            return Strata.of(self.table[column])
        except (pa.ArrowException, NotImplementedError) as error:
            kind = self.table[column].type
            raise InputError(
                f"--by {column}: cannot group by values of type {kind}; choose another"
            ) from error

    def path(self, number: int) -> str:
        """The uri of an input, relative to the source."""
        return self.uri(number).removeprefix(f"{self.source}/" if self.source else "")

    @property
    def skipped_text(self) -> str:
        """For display: "skipped 12 files: 8 .txt, 3 .json, 1 .mov"."""
        files = f"skipped {self.skipped} file{'s' if self.skipped != 1 else ''}"
        return f"{files}: {self.kinds_text}" if self.skipped_kinds else files

    @property
    def kinds_text(self) -> str:
        """The kinds of skipped files alone, the most frequent first."""
        kinds = list(self.skipped_kinds.items())
        parts = [f"{count} {kind}" for kind, count in kinds[:_KINDS_SHOWN]]
        if rest := sum(count for _, count in kinds[_KINDS_SHOWN:]):
            parts.append(f"{rest} of {len(kinds) - _KINDS_SHOWN} other kinds")
        return ", ".join(parts)

    def to_parquet(self) -> bytes:
        """Encode the manifest as Parquet with a checksum."""
        kinds = json.dumps(dict(self.skipped_kinds))
        meta = {"source": self.source, "skipped": str(self.skipped), "skipped_kinds": kinds}
        return parquet_bytes(self.table.replace_schema_metadata(meta))

    @classmethod
    def from_parquet(cls, data: bytes) -> Manifest:
        """Decode a manifest.

        Raises:
            ValueError: it is damaged.
        """
        table = pq.read_table(checked_parquet(data))
        meta: dict[bytes, bytes] = table.schema.metadata
        kinds = json.loads(meta.get(b"skipped_kinds", b"{}"))
        return cls(meta[b"source"].decode(), table, int(meta[b"skipped"]), kinds)


@dataclass(frozen=True)
class Selection:
    """The inputs of a manifest that one start of the run works on."""

    limit: int | None = None
    """At most so many, the first of those selected."""
    sample: int | None = None
    """Only so many, drawn at random without replacement (:mod:`cluster.inputs.sampling`)."""
    seed: int = 0
    shard: tuple[int, int] = (1, 1)
    """(i, n): every n-th input from the i-th on, i = 1..n, so that n starts may share the work. Of a sample,
    every n-th of the sample."""
    by: str | None = None
    """The column whose values are the sample's strata; None: a simple sample."""
    allocation: str = "proportional"
    """How a stratified sample is divided among the strata: a name of ALLOCATIONS."""
    weights: tuple[tuple[str, float], ...] = ()
    """Stratum and relative number of inputs, for the allocation "neyman"."""

    def numbers(self, manifest: Manifest) -> np.ndarray:
        """Numbers of the selected inputs: int64, in the order of work.

        Without a sample they are ascending. Those of a sample come in the order in which it grows, so that
        an interrupted one is a smaller random sample.

        Raises:
            InputError: the sample cannot be stratified so.
        """
        number, of = self.shard
        if self.sample is None:
            chosen = np.arange(number - 1, len(manifest), of)
        else:
            chosen = self.sampled(manifest)[number - 1 :: of]
        return chosen[: self.limit]

    def sampled(self, manifest: Manifest) -> np.ndarray:
        """Numbers of the whole sample, of all shards and without limit, in the order in which it grows.

        Raises:
            InputError: the manifest lacks the column, or the sample is too small for its strata.
        """
        if self.by is None:
            return simple_order(self.seed, len(manifest))[: self.sample]
        strata = manifest.strata(self.by)
        needed = int(np.minimum(strata.sizes, MIN_PER_STRATUM).sum())
        if self.sample is not None and self.sample < needed:
            raise InputError(
                f"--sample {self.sample} --by {self.by}: {len(strata.names)} strata need {needed} inputs or "
                "more; enlarge the sample or choose a column with fewer values"
            )
        weights = weights_of(strata, self.allocation, dict(self.weights))
        return stratified_order(self.seed, strata.codes, weights)[: self.sample]
