"""Counts of a run by one column of its list."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any

import numpy as np

from cluster.run.folder import RunFolder
from jobs.auditing.results_table import PENDING
from originality.contract.config import SettingsError, nearest

CENSORED = "+"
"""Key of the images that no number of tokens redrew."""


def check_column(run: RunFolder, column: str) -> None:
    """Check that the collection has a column.

    Raises:
        SettingsError: it has none of this name; names the nearest, or all.
    """
    known = run.manifest.extra
    if column not in known:
        rest = nearest(column, known) if known else "; it has no columns beside its images"
        raise SettingsError(f"--by {column}: the collection has no such column{rest}")


def groups_by(run: RunFolder, column: str) -> list[dict[str, Any]]:
    """For each value of a column: its inputs, how many of them are judged, and their min tokens.

    Inputs are counted, so an image that occurs several times counts each time. Largest group first.

    Returns:
        Mappings with the keys ``value`` (None where the list has none), ``inputs``, one for each status that
        occurs, ``min_tokens``: counts by number of tokens, "+" for none, and ``mean_score`` of the judged
        inputs whose row has a score, None without any.

    Raises:
        SettingsError: as of :func:`check_column`.
    """
    check_column(run, column)
    outcomes = {
        row["image_id"]: (row["status"], _tokens(row), row.get("score"))
        for row in run.ledger.rows(["image_id", "status", "min_tokens", "censored", "score"])
    }
    counts: defaultdict[Any, Counter[str]] = defaultdict(Counter)
    tokens: defaultdict[Any, Counter[str]] = defaultdict(Counter)
    scores: defaultdict[Any, list[float]] = defaultdict(list)
    for number, value in enumerate(run.manifest.table[column].to_pylist()):
        status, needed, score = outcomes.get(run.identities[number] or "", (PENDING, None, None))
        counts[value][status] += 1
        if needed is not None:
            tokens[value][needed] += 1
        if score is not None:
            scores[value].append(score)
    ordered = sorted(counts, key=lambda value: (-counts[value].total(), str(value)))
    return [
        {
            "value": value,
            "inputs": counts[value].total(),
            **counts[value],
            "min_tokens": dict(
                sorted(tokens[value].items(), key=lambda item: (item[0] == CENSORED, item[0]))
            ),
            "mean_score": float(np.mean(scores[value])) if scores[value] else None,
        }
        for value in ordered
    ]


def _tokens(row: dict[str, Any]) -> str | None:
    if row["status"] != "judged":
        return None
    return CENSORED if row["censored"] else str(row["min_tokens"])
