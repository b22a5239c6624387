"""A run folder: the one place where everything of a run is kept, local or in a bucket.

``run.json`` says what was asked and ``manifest.parquet`` of what; both are written once, so that
all who ever work on the run, or resume it, do the same work.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

from cluster.ledger import Ledger
from cluster.manifest import MANIFEST_FILE, RUN_FILE, Manifest, scan
from cluster.store import NotFound, Store, open_store, whole

_SUMMARY = "summary.json"


class RunMismatch(ValueError):  # noqa: N818 - it is no fault, it is a refusal
    """A resume with other settings than the run's; the message is one line, naming each."""


@dataclass(frozen=True)
class RunFolder:
    """A planned run."""

    store: Store

    @property
    def ledger(self) -> Ledger:
        return Ledger(self.store)

    @cached_property
    def description(self) -> dict[str, Any]:
        """run.json: what the job gave to ``plan``, and ``created_at``."""
        with whole(self.store, RUN_FILE):
            return dict(json.loads(self.store.read(RUN_FILE)).items())

    @cached_property
    def manifest(self) -> Manifest:
        with whole(self.store, MANIFEST_FILE):
            return Manifest.from_parquet(self.store.read(MANIFEST_FILE))

    def inputs(self) -> Iterator[dict[str, Any]]:
        """One row an input, by uri: uri, path (within the source), image_id, bytes, and the columns
        of the image's row; an image without one has the status "pending" and no more columns."""
        rows = {row["image_id"]: row for row in self.ledger.rows()}
        for entry in self.manifest.entries:
            about = {"uri": entry.uri, "path": self.manifest.path(entry), "bytes": entry.bytes}
            pending = {"image_id": entry.image_id, "status": "pending"}
            yield {**about, **rows.get(entry.image_id, pending)}

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        self.store.write(_SUMMARY, _pretty(summary))


def open_run(uri: str) -> RunFolder:
    """The run at a URI.

    Raises:
        NotFound: there is no run.
    """
    run = RunFolder(open_store(uri, create=False))
    if not run.store.exists(RUN_FILE) or not run.store.exists(MANIFEST_FILE):
        raise NotFound(f"{uri} holds no run; give the --out of an audit")
    return run


def plan(input_uri: str, store: Store, identity: Mapping[str, Any]) -> RunFolder:
    """Plans a run in a folder, or resumes the one that is there.

    ``identity`` is all that decides the results (settings, digests, code version): plain JSON
    values. The collection of a run that is resumed is the one that was frozen; files that came
    later belong to another run.

    Raises:
        InputError: nothing to judge. Then nothing is written.
        StoreError: the store cannot write an object only once.
        RunMismatch: the folder holds a run with another identity.
    """
    run = RunFolder(store)
    if store.exists(RUN_FILE):
        resume(run, identity)
        if store.exists(MANIFEST_FILE):
            return run
    manifest = scan(input_uri)
    store.check_create()
    created = {**identity, "created_at": datetime.now(UTC).isoformat()}
    if not store.create(RUN_FILE, _pretty(created)):
        resume(run, identity)
    store.create(MANIFEST_FILE, manifest.to_parquet())
    return run


def resume(run: RunFolder, identity: Mapping[str, Any]) -> None:
    """Lets a run go on only as it began.

    Raises:
        RunMismatch: naming each key that differs, old -> new.
    """
    old = {key: value for key, value in run.description.items() if key != "created_at"}
    before, now = dict(_leaves(old)), dict(_leaves(json.loads(_pretty(identity))))
    differ = [key for key in sorted(before | now) if before.get(key) != now.get(key)]
    if differ:
        changes = "; ".join(f"{k}: {before.get(k)!r} -> {now.get(k)!r}" for k in differ)
        raise RunMismatch(
            f"{run.store.url} holds a run with other settings ({changes}); "
            "audit as before, or into another --out"
        )


def _leaves(tree: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    """Every value that is no mapping, with its dotted path."""
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{path}{key}.")
        else:
            yield f"{path}{key}", value


def _pretty(values: Mapping[str, Any]) -> bytes:
    return json.dumps(values, indent=2, sort_keys=True).encode()
