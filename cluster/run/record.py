"""What a record holds beside the scorer's own fields."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from cluster.run.layout import artefacts_folder
from originality.contract.redaction import masked

STATUSES = ("judged", "rejected", "failed")
"""Statuses of a record."""
ARTEFACTS = "artefacts"
"""The record's field that names the folder of its artefacts."""


def artefacts_of(record: Mapping[str, Any]) -> str:
    """The folder of what came of an image beside its record; in runs of older versions one for all
    attempts."""
    return str(record.get(ARTEFACTS) or artefacts_folder(record["image_id"]))


def sign(
    fields: Mapping[str, Any], *, blank: Mapping[str, Any], attempts: int, worker: str
) -> dict[str, Any]:
    """Complete a scorer's fields to a record.

    Args:
        fields: from the scorer.
        blank: defaults for fields that are missing.
        attempts: number of this attempt, from 1.
        worker: who judged the image.

    Returns:
        The record, with the engine's own fields, and with secrets masked in its error message.
    """
    signature = {"attempts": attempts, "worker": worker, "finished_at": now()}
    record = {**blank, **fields, **signature}
    if isinstance(message := record.get("error_message"), str):
        record["error_message"] = masked(message)
    return record


def now() -> str:
    """The time as ISO 8601 text, in UTC."""
    return datetime.now(UTC).isoformat()
