"""One image in full: every number of tokens that was tried, and its pictures. Read from the run folder."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from cluster.run.folder import RunFolder
from cluster.run.ledger import Ledger
from cluster.run.record import artefacts_of
from cluster.storage.store import Damaged, NotFound, Refused
from jobs.auditing.report_data import verdict_of
from originality.evaluation.redraw_sheet import COLUMNS

PICTURES = ("query.webp", "redraws.webp")
"""Pictures of an image, within its folder."""
_FOLDER = re.compile(r"images/[0-9A-Za-z_-]+(/[0-9A-Za-z_-]+)?")
"""Folders that a verdict may name: those below images/, whatever a damaged or foreign record says."""
_PICTURE_BYTES = 64 * 2**20
"""Largest picture that is shown."""


class SheetReader:
    """Reads the verdicts and pictures of one run."""

    def __init__(self, run: RunFolder) -> None:
        self._run = run
        self._ledger: Ledger = run.ledger

    def about(self) -> dict[str, Any]:
        """Where the run is, what its verdicts are about, and the rule by which a number of tokens passes."""
        settings = self._run.description.get("settings") or {}
        return {
            "url": self._run.store.url,
            "model": _setting(settings, "model", "path"),
            "metric": _setting(settings, "distance", "metric"),
            "threshold": _setting(settings, "distance", "threshold"),
            "check": _setting(settings, "in_distribution", "check"),
            "check_threshold": _setting(settings, "in_distribution", "threshold"),
            "prompt": _setting(settings, "redraw", "prompt"),
            "domain": settings.get("domain"),
            "max_tokens": settings.get("max_tokens"),
            "tiles": COLUMNS,
        }

    def verdict(self, image_id: str) -> dict[str, Any] | None:
        """The verdict on an image with its sweep, as JSON values; None if it has none, or it is damaged."""
        try:
            record = self._ledger.record(image_id)
        except (NotFound, Damaged):  # a run that was copied without its records still has them in parts
            record = next(self._ledger.rows(of=pa.array([image_id], pa.string())), {})
        if not record:
            return None
        try:
            return verdict_of(record).row()
        except (ValueError, LookupError, TypeError, AttributeError):
            return None

    def picture(self, image_id: str, artefacts: str | None, name: str) -> bytes | None:
        """A picture of an image; None if there is none.

        Args:
            image_id: of the image.
            artefacts: the folder that its verdict names.
            name: one of PICTURES.
        """
        folder = artefacts_of({"image_id": image_id, "artefacts": artefacts})
        if name not in PICTURES or not _FOLDER.fullmatch(folder):
            return None
        try:
            data = self._run.store.read(f"{folder}/{name}", _check_size)
        except (NotFound, Refused, Damaged):
            return None
        return data if data[:4] == b"RIFF" and data[8:12] == b"WEBP" else None


def _check_size(size: int) -> None:
    """Refuse what is too large for a picture.

    Raises:
        Refused: it is.
    """
    if size > _PICTURE_BYTES:
        raise Refused("larger than any picture of a run")


def _setting(settings: Mapping[str, Any], part: str, name: str) -> Any:
    inner = settings.get(part)
    return inner.get(name) if isinstance(inner, Mapping) else None
