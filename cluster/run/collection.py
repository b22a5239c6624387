"""A run whose collection lives: it takes in inputs that came, and follows one that moved.

The manifest is written again, while nobody else works on the run. Inputs keep their numbers, so what is
judged stays judged. Interrupted, the same call is made again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from cluster.inputs.changes import Change, grown, moved
from cluster.inputs.manifest import Manifest
from cluster.run.folder import RunFolder
from cluster.run.layout import MANIFEST_FILE, RUN_FILE
from cluster.run.turn import exclusive_turn
from cluster.storage.checksums import json_bytes

Listing = Callable[[], Manifest]
"""Lists the collection as it is now."""
MOVED_FROM = "moved_from"
"""Key of run.json: the places where the collection was before, the oldest first."""
FEW = 50_000
"""A collection of at most so many loose files is listed at each start, to see what came since."""


def refresh(run: RunFolder, listing: Listing, say: Callable[[str], None]) -> tuple[RunFolder, Change]:
    """Take the inputs into a run that the collection has got since it was planned.

    Raises:
        SettingsError: another process works on the run.
        InputError: the collection holds nothing now.
    """
    with exclusive_turn(run, say) as heartbeat:
        run = RunFolder(run.store)
        change = grown(run.manifest, listing())
        if change.changed:
            heartbeat.check()
            run.store.write(MANIFEST_FILE, change.manifest.to_parquet())
    return RunFolder(run.store), change


def follow(
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
        change = moved(run.manifest, listing())
        if change.changed:
            heartbeat.check()
            # run.json follows the manifest: whoever finds the old place in it moves the inputs again, which
            # changes nothing for those that have moved.
            run.store.write(MANIFEST_FILE, change.manifest.to_parquet())
            before = [*run.description.get(MOVED_FROM, ()), run.description["input"]]
            described = {**run.description, "input": place, MOVED_FROM: before}
            run.store.write(RUN_FILE, json_bytes(described, indent=2))
    return RunFolder(run.store), change


def newcomers(run: RunFolder, listing: Listing) -> Change | None:
    """What the collection has got since the run was planned; None if finding out would take long.

    Raises:
        InputError, StoreError: the collection cannot be listed now.
    """
    manifest = run.manifest
    if not manifest.source or manifest.has_containers or len(manifest) > FEW:
        return None
    return grown(manifest, listing())
