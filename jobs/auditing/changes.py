"""A collection that changes after its run was planned: report new inputs, add them, or follow a move."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from cluster.inputs.listing import scan
from cluster.inputs.manifest import InputError
from cluster.inputs.table_options import TableOptions
from cluster.run.collection import added_inputs, refresh, relocate
from cluster.run.folder import RunFolder, open_run
from cluster.storage.store import NotFound, StoreError, absolute
from originality.contract.config import SettingsError

_log = logging.getLogger(__name__)

Collection = str | Sequence[str]
"""An input as a user names it, or several."""


def place_of(source: Collection) -> str | list[str]:
    """A collection as run.json names it: with absolute paths, and a list only of several."""
    if isinstance(source, str):
        return absolute(source)
    return absolute(source[0]) if len(source) == 1 else [absolute(uri) for uri in source]


@dataclass(frozen=True)
class Changes:
    """Changes of the collection that a start of a run takes into account."""

    refresh: bool = False
    """Add the inputs that are new since the run was planned."""
    moved_from: str | None = None
    """The collection was there when the run was planned."""

    def relocate(self, output: str, source: Collection, options: TableOptions) -> None:
        """Point the run at the place where its collection is now, if it moved.

        Raises:
            SettingsError: there is no such run, its collection was elsewhere, or nothing of it is found.
        """
        if self.moved_from is None:
            return
        try:
            run = open_run(output, "audit")
        except NotFound as error:
            raise SettingsError(f"--moved-from: {output} holds no run; leave the flag out") from error
        before, now = run.description.get("input"), place_of(source)
        if before == now:
            _log.info("%s is where the run has its collection already", now)
            return
        if before != absolute(self.moved_from):
            raise SettingsError(f"--moved-from {self.moved_from}: the collection of {output} was in {before}")
        _, change = relocate(run, now, partial(scan, source, options), _log.warning)
        if not change.changed:
            raise SettingsError(
                f"--moved-from: no input of the run is in {now} by the same name with as many bytes; nothing "
                "was changed"
            )
        _log.info("%d inputs of the run are now in %s", change.changed, now)
        if change.absent:
            _log.warning(
                "%d inputs are not there by the same name with as many bytes; they stay where they were",
                change.absent,
            )

    def renewed(self, run: RunFolder, source: Collection, options: TableOptions) -> RunFolder:
        """The run with the inputs that are new since it was planned; without ``refresh``, a remark on them.

        Raises:
            SettingsError: another process works on the run.
        """
        if run.new:
            return run
        listing = partial(scan, source, options)
        if self.refresh:
            run, change = refresh(run, listing, _log.warning)
            _log.info("added %d inputs that are new since the run was planned", change.changed)
            return run
        # No reason to fail: what is judged needs no listing, and what is pending is read later.
        with suppress(InputError, StoreError):
            if (found := added_inputs(run, listing)) and found.changed:
                _log.warning(
                    "%d inputs are not in this run, as they are new since it was planned; add --refresh to "
                    "judge them too",
                    found.changed,
                )
        return run
