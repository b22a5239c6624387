"""Runs whose items are plain documents and not images: models to train, models to measure.

A run folder as an audit's: ``items/NAME.json`` are its inputs, and ``images/<id>/`` holds what came of each
beside its record. It resumes, is looked at and is put back by the same commands.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Protocol

from cluster import driver
from cluster.heartbeat import Heartbeat
from cluster.identities import image_id_of
from cluster.listing import documents
from cluster.manifest import RUN_FILE, Selection
from cluster.regularly import regularly
from cluster.runfolder import RunFolder, RunMismatch, open_run, plan
from cluster.settings import ClusterSettings
from cluster.store import StoreError, open_store
from cluster.worker import ScorerFactory, Task

_SAVE_SECONDS = 60.0

_ITEMS = ("models", "items", "created_at")
"""What a run's description says of which items it has, and since when."""

BLANK = dict.fromkeys(("name", "error_class", "error_message"))
"""What a record has, beside what the engine adds, also where nobody worked on its item."""


def planned(out: str, items: Mapping[str, Mapping[str, Any]], identity: Mapping[str, Any]) -> RunFolder:
    """The run in a folder, planned now or before.

    Args:
        items: documents by name.
        identity: all that decides what comes of them.

    Raises:
        RunMismatch: the folder holds a run of another identity.
        StoreError: it holds items of no run, which are not this one's.
    """
    store = open_store(out)
    if not store.exists(RUN_FILE):
        wanted = {f"items/{name}.json": document for name, document in items.items()}
        for found in store.list("items"):  # of a start that was cut off before it was planned, say
            if found.path not in wanted:
                where = f"{store.url} holds {found.path}"
                raise StoreError(f"{where}, which is no item of this run; remove it, or use another --out")
        for path, document in wanted.items():
            store.write(path, written(document))
    return plan(f"{store.url}/items", store, identity, listing=documents)


def carry_out(
    run: RunFolder, factory: ScorerFactory, how: ClusterSettings, *, gpu: bool | None, memory: int
) -> None:
    """Does what has no record yet.

    Raises:
        Interrupted, EngineError: as of :func:`cluster.driver.run`.
    """
    leases = run.leases(Selection().numbers(run.manifest))
    if leases.open:
        task = Task(
            run.store.url,
            factory,
            BLANK,
            documents=True,
            memory=memory,
            snapshot_every=how.snapshot_every,
            step_limit=how.step_limit,
        )
        with (
            Heartbeat(run.store, "experiment") as heartbeat,
            regularly(_SAVE_SECONDS, lambda: run.identities.save()),
        ):
            try:
                driver.run(task, leases, how, gpu=gpu, learn=run.identities.learn, beat=heartbeat.tell)
            finally:
                with suppress(StoreError):
                    run.identities.save()
    RunFolder(run.store).clear_snapshots(of_failed=False)


def written(document: Mapping[str, Any]) -> bytes:
    """A document as an item's file: its sha256 is the item's id."""
    return json.dumps(document, indent=1, sort_keys=True).encode()


def made_with(description: Mapping[str, Any]) -> dict[str, Any]:
    """Of a run's description what decides, with an item, what comes of it."""
    return {name: value for name, value in description.items() if name not in _ITEMS}


class Source(Protocol):
    """What came of items before."""

    @property
    def where(self) -> str: ...

    @property
    def description(self) -> Mapping[str, Any]:
        """At least what :func:`made_with` leaves of a run's."""
        ...

    def record(self, image_id: str) -> dict[str, Any] | None:
        """Of an item that came to its end; None where it did not."""
        ...

    def files(self, image_id: str) -> dict[str, bytes]:
        """What came of an item beside its record."""
        ...


class EarlierRun:
    """Another run of a job. Implements :class:`Source`."""

    def __init__(self, uri: str, job: str) -> None:
        """Raises:
        NotFound: there is no such run.
        """
        self.where = uri
        self._run = open_run(uri, job)
        self.description: Mapping[str, Any] = self._run.description

    def record(self, image_id: str) -> dict[str, Any] | None:
        if not self._run.ledger.has_record(image_id):
            return None
        record = self._run.ledger.record(image_id)
        return record if record["status"] == "judged" else None

    def files(self, image_id: str) -> dict[str, bytes]:
        prefix, store = f"images/{image_id}/", self._run.store
        paths = [found.path for found in store.list(prefix.rstrip("/"))]
        return {path.removeprefix(prefix): store.read(path) for path in paths}


def adopt(run: RunFolder, source: Source) -> None:
    """Takes over what there is of the same items.

    Raises:
        RunMismatch: it was made with something else than this run, by more than its items.
    """
    ours, before = made_with(run.description), made_with(source.description)
    differ = [k for k in sorted(ours | before) if ours.get(k) != before.get(k)]
    if differ:
        told = "; ".join(f"{k}: {before.get(k)!r} there, {ours.get(k)!r} here" for k in differ)
        raise RunMismatch(f"{source.where} was made with something else ({told}); leave it out of --before")
    for number in range(len(run.manifest)):
        image_id = image_id_of(run.store.read(f"items/{run.manifest.path(number)}"))
        run.identities.learn(number, image_id)  # so that nobody is hired for what has its record
        if run.ledger.has_record(image_id):
            continue
        record = source.record(image_id)
        if record is not None:
            run.ledger.commit(image_id, record, source.files(image_id))
    run.identities.save()
