"""What tests look at: every input of a run with the row of its image."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from cluster.run.folder import RunFolder


def inputs(run: RunFolder) -> Iterator[dict[str, Any]]:
    """One row an input, in the manifest's order: what is known of it, and the columns of its image's row."""
    rows = {row["image_id"]: row for row in run.ledger.rows()}
    for number in range(len(run.manifest)):
        yield {**run.about(number), **rows.get(run.identities[number], {})}
