"""Runs whose items are plain documents and not images: models to train, models to measure.

A run folder as an audit's: ``items/NAME.json`` are its inputs, and ``images/<id>/`` holds what came of each
beside its record. It resumes, is looked at and is put back by the same commands.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from cluster.driver.session import run_session
from cluster.inputs.identities import image_id_of
from cluster.inputs.listing import documents
from cluster.inputs.manifest import RUN_FILE
from cluster.run.folder import RunFolder, plan
from cluster.settings import ClusterSettings
from cluster.storage.store import NotFound, Store, StoreError, open_store
from cluster.worker.messages import ScorerFactory, Task
from cluster.worker.readers import DocumentReader
from jobs.auditing.damaged import warn_of_damage
from jobs.commandline import process

_ITEMS = ("models", "items", "created_at")
"""What a run's description says of which items it has, and since when."""

BLANK = dict.fromkeys(("name", "error_class", "error_message"))
"""What a record has, beside what the engine adds, also where nobody worked on its item."""


def plan_items(out: str, items: Mapping[str, Mapping[str, Any]], identity: Mapping[str, Any]) -> RunFolder:
    """The run in a folder, planned now or before.

    Args:
        items: documents by name.
        identity: all that decides what comes of them.

    Raises:
        RunMismatch: the folder holds a run of another identity.
        StoreError: it holds items of no run, which are not this one's.
    """
    store = open_store(out)
    wanted = {f"items/{name}.json": written(document) for name, document in items.items()}
    if not store.exists(RUN_FILE):
        for found in store.list("items"):  # of a start that was cut off before it was planned, say
            if found.path not in wanted:
                where = f"{store.url} holds {found.path}"
                raise StoreError(f"{where}, which is no item of this run; remove it, or use another --out")
        for path, data in wanted.items():
            store.write(path, data)
    run = plan(f"{store.url}/items", store, identity, listing=documents)
    for number in range(len(run.manifest)):
        path = f"items/{run.manifest.path(number)}"
        if path in wanted and _differs(store, path, wanted[path]):
            store.write(path, wanted[path])
    return run


def _differs(store: Store, path: str, data: bytes) -> bool:
    """Whether an object is damaged or gone: it would be another item, or none."""
    try:
        return store.read(path) != data
    except NotFound:
        return True


def carry_out(
    run: RunFolder, factory: ScorerFactory, how: ClusterSettings, *, gpu: bool | None, memory: int
) -> None:
    """Does what has no record yet, when nobody else does it.

    Raises:
        EngineError, Unusable: as of :func:`cluster.driver.driver.run`.
        SettingsError, Interrupted, Superseded: as of :func:`cluster.driver.session.run_session`.
    """
    task = Task(
        run.store.url,
        factory,
        BLANK,
        reader=DocumentReader,
        item_noun="items",
        retry_failed=False,
        keep_snapshot_of_failed=True,
        memory=memory,
        snapshot_every=how.snapshot_every,
        step_limit=how.step_limit,
        load_limit=how.load_limit,
    )
    with run_session(run, "experiment", deadline=how.deadline, say=process.notify) as session:
        warn_of_damage(run)
        leases = session.leases()
        if leases.open:
            session.work(task, leases, how, gpu=gpu)
        session.heartbeat.check()
        RunFolder(run.store).clear_snapshots(of_failed=False)


def written(document: Mapping[str, Any]) -> bytes:
    """A document as an item's file."""
    return json.dumps(document, indent=1, sort_keys=True).encode()


def id_of(document: Mapping[str, Any]) -> str:
    """The id of the item that a document is."""
    return image_id_of(written(document))


def made_with(description: Mapping[str, Any]) -> dict[str, Any]:
    """Of a run's description what decides, with an item, what comes of it."""
    return {name: value for name, value in description.items() if name not in _ITEMS}
