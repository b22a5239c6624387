"""Settings for audits that take seconds, and their results in a comparable form."""

from __future__ import annotations

import json

from cluster.run.folder import open_run
from tests.support.joined_inputs import inputs

SHORT = (
    *("--set", "inversion.steps=2", "--set", "inversion.batch_size=2", "--set", "redraw.count=2"),
    *("--set", "redraw.steps=2", "--max-tokens", "1", "--max-workers", "1"),
)
"""Flags of a very short audit."""


def verdicts(run: str) -> dict[str, str]:
    """Status, error class and sweep of each image by its path, without times and workers."""
    found = {}
    for row in inputs(open_run(run)):
        sweep = [{k: v for k, v in a.items() if k != "seconds"} for a in row["sweep"] or ()]
        found[row["path"]] = json.dumps([row["status"], row["error_class"], sweep])
    return found
