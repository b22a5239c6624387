"""Runs whose items are documents instead of images: models to train, models to measure.

The run folder is like an audit's: ``items/NAME.json`` are its inputs, ``images/<id>/`` holds the artefacts of
each. The same commands resume it, show its status and put failed items back.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from typing import Any

from cluster.driver.session import run_session
from cluster.inputs.identities import image_id_of
from cluster.inputs.listing import documents
from cluster.run.folder import RunFolder, plan
from cluster.run.layout import ITEMS, RUN_FILE, item_path
from cluster.settings import ClusterSettings
from cluster.storage.store import NotFound, Store, StoreError, open_store
from cluster.worker.messages import ScorerFactory, Task
from cluster.worker.readers import DocumentReader
from jobs.auditing.damaged import warn_of_damage

_log = logging.getLogger(__name__)

_ITEMS = ("models", "items", "created_at")
"""Keys of a run's description that name its items and its age, and so do not decide what an item gives."""

BLANK = dict.fromkeys(("name", "error_class", "error_message"))
"""Columns that every record has, beside those of the engine, even if no worker reached its item."""


def plan_items(out: str, items: Mapping[str, Mapping[str, Any]], identity: Mapping[str, Any]) -> RunFolder:
    """Plan a run of documents, or open it if it was planned before.

    Items of the run that are damaged or missing are written again.

    Args:
        items: documents by name.
        identity: everything that decides their results.

    Raises:
        RunMismatch: the folder holds a run with a different identity.
        StoreError: it holds no run, but items that are not this run's.
    """
    store = open_store(out)
    wanted = {item_path(f"{name}.json"): written(document) for name, document in items.items()}
    if not store.exists(RUN_FILE):
        for found in store.list(ITEMS):  # left, for example, by a start that was killed before it planned
            if found.path not in wanted:
                raise StoreError(
                    f"{store.url} holds {found.path}, which is not an item of this run; remove it, or choose "
                    "a different --out"
                )
        for path, data in wanted.items():
            store.write(path, data)
    run = plan(f"{store.url}/{ITEMS}", store, identity, listing=documents)
    for number in range(len(run.manifest)):
        path = item_path(run.manifest.path(number))
        if path in wanted and _differs(store, path, wanted[path]):
            store.write(path, wanted[path])
    return run


def _differs(store: Store, path: str, data: bytes) -> bool:
    """Whether an object is damaged or missing. As it is, it would be a different item, or none."""
    try:
        return store.read(path) != data
    except NotFound:
        return True


def carry_out(
    run: RunFolder, factory: ScorerFactory, how: ClusterSettings, *, gpu: bool | None, memory: int
) -> None:
    """Work on the items that have no record yet, after waiting for other processes that work on the run.

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
    with run_session(run, "experiment", deadline=how.deadline, say=_log.warning) as session:
        warn_of_damage(run)
        leases = session.leases()
        if leases.open:
            session.work(task, leases, how, gpu=gpu)
        session.heartbeat.check()
        RunFolder(run.store).clear_snapshots(of_failed=False)


def written(document: Mapping[str, Any]) -> bytes:
    """Content of the file of a document."""
    return json.dumps(document, indent=1, sort_keys=True).encode()


def id_of(document: Mapping[str, Any]) -> str:
    """Id of the item that a document describes."""
    return image_id_of(written(document))


def made_with(description: Mapping[str, Any]) -> dict[str, Any]:
    """Part of a run's description that decides, together with an item, the item's results."""
    return {name: value for name, value in description.items() if name not in _ITEMS}
