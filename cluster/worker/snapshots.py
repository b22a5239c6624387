"""Decides when the state of an image in flight is saved, so that a worker's death costs little of it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import Any

from cluster.worker.record_writer import RecordWriter
from originality.contract.faults import is_machine_fault, line_of
from originality.contract.scorer import Scorer, Unusable

_log = logging.getLogger(__name__)

_REST = 20.0
"""Time between two snapshots by the clock, in multiples of what one takes, so that snapshots take at most
about a twentieth of the time."""


class SnapshotSchedule:
    """Takes snapshots: whenever something is finished that should not be done twice, and by the clock."""

    def __init__(self, writer: RecordWriter, every: float, note: Callable[[str], None]) -> None:
        """
        Args:
            writer: saves the snapshots.
            every: seconds between two snapshots of an image.
            note: called with one line for people.
        """
        self._writer = writer
        self._every = every
        self._note = note
        self._rest = 0.0
        """Least seconds between two snapshots by the clock."""
        self._stages: dict[str, int] = {}
        self._taken_at: dict[str, float] = {}
        self._noted: set[str] = set()

    def begin(self, scorer: Scorer[Any], image_id: str) -> None:
        """Start the schedule of an image that was just admitted."""
        self._stages[image_id] = scorer.stage(image_id)
        self._taken_at[image_id] = time.monotonic()

    def end(self, image_id: str) -> None:
        """End the schedule of an image that is no longer in flight."""
        self._stages.pop(image_id, None)
        self._taken_at.pop(image_id, None)

    def due(self, scorer: Scorer[Any], image_ids: Iterable[str]) -> list[str]:
        """Return the images of which a snapshot is due."""
        return [image_id for image_id in image_ids if self._is_due(scorer, image_id)]

    def _is_due(self, scorer: Scorer[Any], image_id: str) -> bool:
        stage = scorer.stage(image_id)
        if stage != self._stages[image_id]:
            self._stages[image_id] = stage
            return True
        return time.monotonic() - self._taken_at[image_id] >= max(self._every, self._rest)

    def take(self, scorer: Scorer[Any], image_id: str, watched: AbstractContextManager[None]) -> None:
        """Take a snapshot of an image, inside the context ``watched``.

        If the scorer cannot give one, the image continues without it, and the next one is tried when it is
        due: a missing snapshot costs work only if the worker dies.

        Raises:
            Exception: an error of the machine, or of the settings.
        """
        started = time.monotonic()
        try:
            with watched:
                snapshot = scorer.snapshot(image_id)
        except Unusable:
            raise
        except Exception as error:
            if is_machine_fault(error):
                raise
            self._note_once(
                f"could not take a snapshot of {image_id}, continuing without: {line_of(error)}", error
            )
        else:
            self._writer.save_snapshot(image_id, snapshot)
        self._taken_at[image_id] = time.monotonic()
        self._rest = _REST * (time.monotonic() - started)

    def _note_once(self, line: str, error: Exception) -> None:
        """Report each kind of error once, as it may come with every step."""
        if type(error).__name__ not in self._noted:
            self._noted.add(type(error).__name__)
            _log.warning("%s", line, exc_info=error)
            self._note(line)
