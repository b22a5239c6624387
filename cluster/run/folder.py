"""A run folder: the one place that holds everything of a run, local or in a bucket.

``run.json`` holds the settings and ``manifest.parquet`` the inputs. Both are created once and never changed,
so that every process that works on the run, or resumes it, does the same work.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from itertools import count
from types import MappingProxyType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cluster.inputs.identities import UNREAD, Identities
from cluster.inputs.kept_listings import KeptListings
from cluster.inputs.listing import scan
from cluster.inputs.manifest import Manifest
from cluster.inputs.table_options import DEFAULTS, TableOptions
from cluster.run.layout import (
    IMAGES,
    INPUTS,
    MANIFEST_FILE,
    PROGRESS,
    RECORDS,
    RUN_FILE,
    SAMPLES,
    SHARD_LISTINGS,
    SUMMARY_FILE,
    VERDICTS,
    snapshot_image_id,
)
from cluster.run.leases import Lease, Leases
from cluster.run.ledger import Ledger
from cluster.storage.checksums import json_bytes, read_json
from cluster.storage.damage import A_FOLDER, Damage, damage_errors, damaged_object
from cluster.storage.store import Damaged, NotFound, Store, StoreError, open_store
from originality.contract.config import leaves
from originality.contract.redaction import Masked

LAYOUT = 2
"""Version of the run folder's layout; a folder with a different one is refused."""

NOTED = ("created_at", "sample", "moved_from")
"""Keys of run.json that decide no verdict: when the run was planned, for which random sample, and where its
collection was before."""


class RunMismatch(Masked, ValueError):  # noqa: N818 - a refusal
    """A resume with settings that differ from the run's; the message is one line that names each."""


@dataclass(frozen=True)
class RunFolder:
    """A planned run."""

    store: Store
    new: bool = False
    """Whether this process planned it."""
    damage: Damage = field(default_factory=Damage, compare=False)
    """Damaged files that readers of the folder have skipped."""

    @property
    def ledger(self) -> Ledger:
        """Records of the run, and the tables made of them."""
        return Ledger(self.store, self.damage)

    @cached_property
    def description(self) -> dict[str, Any]:
        """The contents of run.json: what the job passed to :func:`plan`, and ``created_at``.

        Raises:
            Damaged: it is damaged, and cannot be recreated.
        """
        return read_json(self.store, RUN_FILE)

    @cached_property
    def manifest(self) -> Manifest:
        """The inputs of the run.

        Raises:
            Damaged: it is damaged, and cannot be recreated.
        """
        with damage_errors(self.store, MANIFEST_FILE):
            return Manifest.from_parquet(self.store.read(MANIFEST_FILE))

    @cached_property
    def identities(self) -> Identities:
        """Which image each input is, as far as known. What this process learns is saved in files of its
        own."""
        return Identities(self.store, self.manifest, self.damage)

    def check(self) -> None:
        """Check what cannot be recreated: run.json and the manifest, if they are there.

        Raises:
            Damaged: one of them is damaged.
            StoreError: one of them is lost, and the run has results already.
        """
        try:
            if self.description.get("layout") == LAYOUT:
                _ = self.manifest
        except NotFound as lost:
            if self._begun():
                where = f"{self.store.url} holds records but no"
                name = RUN_FILE if not self.store.exists(RUN_FILE) else MANIFEST_FILE
                raise StoreError(f"{where} {name}; restore it, or use a different --out") from lost

    def _begun(self) -> bool:
        """Whether there is anything by the numbers of a manifest, or by a description's settings."""
        return any(next(self.store.list(folder), None) for folder in (RECORDS, INPUTS))

    def mend(self) -> None:
        """Remove what is damaged, so that it is made again: images whose record was damaged are judged
        again, and inputs whose identity was in a damaged part are read again."""
        self.identities.remove_damaged()
        self.ledger.mend()

    def leases(self, numbers: np.ndarray) -> Leases:
        """Leases for those of the inputs whose image has no record yet."""
        all_ids = self.identities.image_ids()
        read_before = pc.any(pc.invert(pc.starts_with(all_ids, UNREAD))).as_py() or False
        ids = all_ids.take(pa.array(numbers))
        done = pc.fill_null(pc.is_in(ids, self.ledger.recorded()), False)
        todo = numbers[~done.to_numpy(zero_copy_only=False)]
        return Leases((self._lease(int(number)) for number in todo), len(todo), read_before)

    def _lease(self, number: int) -> Lease:
        image_id = self.identities[number]
        if image_id and image_id.startswith(UNREAD):
            image_id = None
        manifest = self.manifest
        uri, size = manifest.uri(number), manifest.size(number)
        return Lease(
            number, uri, size, image_id, manifest.columns(number), location=manifest.location(number)
        )

    def clear_snapshots(self, of_failed: bool = True) -> None:
        """Remove those of images that have their record: a worker that was cut off may leave one. And what
        a process may leave that was killed as it ended its plan. ``of_failed``: also those of images that
        failed, with which a retry would go on."""
        for found in list(self.store.list(PROGRESS)):
            if found.path.startswith(f"{SHARD_LISTINGS}/"):
                self.store.delete(found.path)
                continue
            image_id = snapshot_image_id(found.path)
            if image_id is None or not self.ledger.has_record(image_id):
                continue
            if of_failed or self.ledger.outcome(image_id)["status"] != "failed":
                self.store.delete(found.path)

    @property
    def empty(self) -> bool:
        """Whether nothing came of it yet."""
        if any(next(self.store.list(folder), None) for folder in (RECORDS, VERDICTS, IMAGES)):
            return False
        return all(snapshot_image_id(found.path) is None for found in self.store.list(PROGRESS))

    def withdraw(self) -> None:
        """Take the plan back, so that it binds nobody: for a run that was refused before it began."""
        for found in [*self.store.list(INPUTS), *self.store.list(SAMPLES)]:
            self.store.delete(found.path)
        self.store.delete(
            MANIFEST_FILE
        )  # before run.json: alone it would be taken for the next run's manifest
        self.store.delete(RUN_FILE)

    def about(self, number: int) -> dict[str, Any]:
        """What is known of an input without its record, as a row."""
        return {
            "number": number,
            "uri": self.manifest.uri(number),
            "path": self.manifest.path(number),
            "bytes": self.manifest.size(number),
            "image_id": self.identities[number],
            "status": "pending",
        }

    def summary(self) -> dict[str, Any]:
        """The summary written last; empty if there is none, or it is damaged."""
        try:
            return read_json(self.store, SUMMARY_FILE)
        except NotFound:
            return {}
        except Damaged as damaged:
            self.damage.note(damaged, "the next start of the run writes it again")
            return {}

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        """Write it, unless a folder is in its place, which is noted: the rows do not need it."""
        if self.store.is_folder(SUMMARY_FILE):
            barred = damaged_object(self.store, SUMMARY_FILE, A_FOLDER)
            self.damage.note(barred, "remove it; the next start of the run writes the summary")
            return
        self.store.write(SUMMARY_FILE, json_bytes(summary, indent=2))


def open_run(uri: str, job: str | None = None) -> RunFolder:
    """Open the run at a URI.

    Args:
        uri: of the run folder.
        job: the job that the run must be of; None: any.

    Raises:
        NotFound: there is no run.
        StoreError: it is a run of a different job, or of a different version.
        Damaged: run.json or the manifest is damaged.
    """
    run = RunFolder(open_store(uri, create=False))
    run.check()
    if not run.store.exists(RUN_FILE) or not run.store.exists(MANIFEST_FILE):
        raise NotFound(f"{uri} holds no run; give the --out of an audit or of an experiment's part")
    if run.description.get("layout") != LAYOUT:
        raise StoreError(
            f"{uri} was written by a different version of Originality; open it with that version"
        )
    if job is not None and (own := run.description.get("job", "audit")) != job:
        raise StoreError(f"{uri} is a run of the job {own!r}; give the --out of one of {job!r}")
    return run


def plan(
    input_uri: str | Sequence[str],
    store: Store,
    identity: Mapping[str, Any],
    check: Callable[[Manifest], None] = lambda _: None,
    later: Mapping[str, Any] = MappingProxyType({}),
    listing: Callable[[Any], Manifest] | None = None,
    ignored: Collection[str] = (),
    table_options: TableOptions = DEFAULTS,
    noted: Mapping[str, Any] = MappingProxyType({}),
) -> RunFolder:
    """Plan a run in a folder, or resume the run that is there.

    The inputs are listed, not read. A resumed run keeps the inputs that were listed when it was planned;
    files that were added later belong to a new run.

    Args:
        input_uri: of the collection, or of several.
        store: of the run folder.
        identity: everything that decides the results (settings, digests, code version), as plain JSON values.
        check: raises if a collection that is planned for the first time cannot be judged; called before
            anything is written.
        later: values of keys that identities of older versions did not have.
        listing: lists inputs that are not images; None: the images of a collection.
        ignored: as of :func:`resume`.
        table_options: how a list or table is read.
        noted: plain JSON values of NOTED that a new run's run.json has beside the identity.

    Raises:
        InputError: there is nothing to judge; nothing was written.
        StoreError: the store cannot create an object only once.
        RunMismatch: the folder holds a run with a different identity.
        Damaged: it holds a run whose run.json or manifest is damaged.
    """
    run = RunFolder(store)
    run.check()
    identity = {**identity, "layout": LAYOUT}
    if store.exists(RUN_FILE):
        resume(run, identity, later, ignored)
        if store.exists(MANIFEST_FILE):
            return run
    kept = KeptListings(store)
    try:
        manifest = listing(input_uri) if listing else scan(input_uri, table_options, kept)
        check(manifest)
    except ValueError:  # the user has to change the input or the settings
        kept.remove()
        raise
    store.check_create()
    created = {**identity, **noted, "created_at": datetime.now(UTC).isoformat()}
    # Created once: of two processes that plan the same folder at the same time, the one that comes second
    # must check that the other's run is the same. The manifest follows run.json, so whoever finds run.json
    # alone lists the collection again.
    new = store.create(RUN_FILE, json_bytes(created, indent=2))
    if not new:
        resume(run, identity, later, ignored)
    store.create(MANIFEST_FILE, manifest.to_parquet())
    kept.remove()
    return RunFolder(store, new)


def resume(
    run: RunFolder,
    identity: Mapping[str, Any],
    later: Mapping[str, Any] = MappingProxyType({}),
    ignored: Collection[str] = (),
) -> None:
    """Check that a run is resumed with the identity that it was planned with.

    Args:
        run: the run.
        identity: of the resume.
        later: as of :func:`plan`.
        ignored: dotted paths of values that may differ, as long as no other value does.

    Raises:
        RunMismatch: naming each key that differs, old -> new.
    """
    old = {key: value for key, value in run.description.items() if key not in NOTED}
    before = {**dict(leaves(later)), **dict(leaves(old))}
    now = dict(leaves(json.loads(json.dumps({k: v for k, v in identity.items() if k not in NOTED}))))
    differ = [key for key in sorted(before | now) if before.get(key) != now.get(key)]
    if not set(differ) <= set(ignored):
        changes = "; ".join(f"{k}: {before.get(k)!r} -> {now.get(k)!r}" for k in differ)
        raise RunMismatch(
            f"{run.store.url} holds a run with other settings ({changes}); "
            "use the same settings, or a different --out (of an audit also: --force-new, for a folder beside "
            f"it{', or --moved-from, for a collection that moved' if 'input' in differ else ''})"
        )


def beside(uri: str) -> Iterator[str]:
    """Yield names of folders beside one, without end: "runs/mine-2", "runs/mine-3", ..."""
    base = uri.rstrip("/")
    return (f"{base}-{number}" for number in count(2))
