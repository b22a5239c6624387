"""When the state of an image in flight is kept, so that a death costs little of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import Any

from cluster.worker.record_writer import RecordWriter
from originality.contract.faults import is_machine_fault, line_of
from originality.contract.scorer import Scorer, Unusable

_REST = 20.0
"""Times what a snapshot takes, so that they take no more than a twentieth of the time."""


class SnapshotSchedule:
    """Takes them: whenever something is finished that should not be done twice, and by the clock."""

    def __init__(self, writer: RecordWriter, every: float, note: Callable[[str], None]) -> None:
        """``every``: seconds between two of an image; ``note``: tells people one line."""
        self._writer = writer
        self._every = every
        self._note = note
        self._rest = 0.0
        """Seconds between two by the clock, at least."""
        self._stages: dict[str, int] = {}
        self._taken_at: dict[str, float] = {}
        self._noted: set[str] = set()

    def begin(self, scorer: Scorer[Any], image_id: str) -> None:
        """An image was admitted, and needs none yet."""
        self._stages[image_id] = scorer.stage(image_id)
        self._taken_at[image_id] = time.monotonic()

    def end(self, image_id: str) -> None:
        """An image is no longer in flight."""
        self._stages.pop(image_id, None)
        self._taken_at.pop(image_id, None)

    def due(self, scorer: Scorer[Any], image_ids: Iterable[str]) -> list[str]:
        """Images that need one now."""
        return [image_id for image_id in image_ids if self._is_due(scorer, image_id)]

    def _is_due(self, scorer: Scorer[Any], image_id: str) -> bool:
        stage = scorer.stage(image_id)
        if stage != self._stages[image_id]:
            self._stages[image_id] = stage
            return True
        return time.monotonic() - self._taken_at[image_id] >= max(self._every, self._rest)

    def take(self, scorer: Scorer[Any], image_id: str, watched: AbstractContextManager[None]) -> None:
        """Takes one, ``watched`` meanwhile. Where the scorer cannot, the image goes on without, and it is
        tried again when the next one is due: that costs work only if the worker dies.

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
                f"no snapshot of {image_id} could be taken, it goes on without: {line_of(error)}", error
            )
        else:
            self._writer.keep(image_id, snapshot)
        self._taken_at[image_id] = time.monotonic()
        self._rest = _REST * (time.monotonic() - started)

    def _note_once(self, line: str, error: Exception) -> None:
        """Each kind of error once, as it may come with every step."""
        if type(error).__name__ not in self._noted:
            self._noted.add(type(error).__name__)
            self._note(line)
