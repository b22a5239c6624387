"""Changes of a run's collection after planning: add new inputs, or continue where the collection moved to.

The manifest is written again, while nobody else works on the run. Inputs keep their numbers, so what is
judged stays judged. Interrupted, the same call is made again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from cluster.inputs.changes import Change, with_added_inputs, with_moved_inputs
from cluster.inputs.manifest import Manifest
from cluster.run.folder import RunFolder
from cluster.run.layout import MANIFEST_FILE, RUN_FILE
from cluster.run.turn import exclusive_turn
from cluster.storage.checksums import json_bytes

Listing = Callable[[], Manifest]
"""Lists the collection as it is now."""
MOVED_FROM = "moved_from"
"""Key of run.json: the places where the collection was before, the oldest first."""
MAX_FILES_TO_RELIST = 50_000
"""A collection of at most so many loose files is listed at each start, to report new ones."""


def refresh(run: RunFolder, listing: Listing, say: Callable[[str], None]) -> tuple[RunFolder, Change]:
    """Add the inputs to a run that are new in the collection since it was planned.

    Raises:
        SettingsError: another process works on the run.
        InputError: the collection holds nothing now.
    """
    with exclusive_turn(run, say) as heartbeat:
        run = RunFolder(run.store)
        change = with_added_inputs(run.manifest, listing())
        if change.changed:
            heartbeat.check()
            run.store.write(MANIFEST_FILE, change.manifest.to_parquet())
    return RunFolder(run.store), change


def relocate(
    run: RunFolder, place: str | Sequence[str], listing: Listing, say: Callable[[str], None]
) -> tuple[RunFolder, Change]:
    """Let a run continue where its collection is now.

    Args:
        place: of the collection now, as run.json names it.

    Raises:
        SettingsError, InputError: as of :func:`refresh`.
    """
    with exclusive_turn(run, say) as heartbeat:
        run = RunFolder(run.store)
        change = with_moved_inputs(run.manifest, listing())
        if change.changed:
            heartbeat.check()
            # run.json follows the manifest: whoever finds the old place in it moves the inputs again, which
            # changes nothing for those that have moved.
            run.store.write(MANIFEST_FILE, change.manifest.to_parquet())
            before = [*run.description.get(MOVED_FROM, ()), run.description["input"]]
            described = {**run.description, "input": place, MOVED_FROM: before}
            run.store.write(RUN_FILE, json_bytes(described, indent=2))
    return RunFolder(run.store), change


def added_inputs(run: RunFolder, listing: Listing) -> Change | None:
    """The inputs that are new since the run was planned; None if finding out would take long.

    Raises:
        InputError, StoreError: the collection cannot be listed now.
    """
    manifest = run.manifest
    if not manifest.source or manifest.has_containers or len(manifest) > MAX_FILES_TO_RELIST:
        return None
    return with_added_inputs(manifest, listing())
