"""Who may work on a run beside whom. Starts that share no input work side by side; of two that do, the later
one says who is at work and waits until that one ends, or dies; while rows are put back nobody else works."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import numpy as np

from cluster.inputs.manifest import RUN_FILE, Manifest, Selection
from cluster.run.folder import RunFolder
from cluster.storage.heartbeat import Heartbeat
from cluster.storage.store import StoreError, hurried_after_outage
from cluster.storage.turns import Claim
from jobs.commandline.process import one_line
from originality.contract.config import SettingsError

RETRY = "retry"
_LOOK_SECONDS = 3.0
"""Between two looks at who is at work."""
_SELECTION = "selection"


@contextmanager
def turn(
    run: RunFolder, role: str, selection: Selection = Selection(), deadline: datetime | None = None
) -> Iterator[Heartbeat]:
    """The turn of one who judges inputs: waits until nobody judges any of the same, and holds others off
    while the context is open.

    Raises:
        SettingsError: somebody puts rows back just now.
        StoreError: the run was withdrawn while this process waited.
        Interrupted: the deadline has come.
        Superseded: as of :class:`cluster.storage.heartbeat.Heartbeat`.
    """

    manifest = run.manifest

    def in_the_way(claim: Claim) -> bool:
        other = selection_of(claim.told)
        return _is_retry(claim) or other is None or overlap(selection, other, manifest)

    with Heartbeat(run.store, role, {_SELECTION: asdict(selection)}) as heartbeat:
        waited = False
        while ahead := heartbeat.ahead(in_the_way):
            _check_deadline(deadline)
            first = ahead[0]
            if _is_retry(first) and not first.doubtful:
                who = one_line(first.who)
                raise SettingsError(f"images are being put back by {who}; start again when that is done")
            if not waited:
                _say(f"{_at_work(first)}; waiting for the end of that; Ctrl-C leaves")
                heartbeat.tell({"waits": True})
                heartbeat.check()
            waited = True
            time.sleep(_LOOK_SECONDS)
        heartbeat.tell({})
        if waited:
            heartbeat.check()
        if not run.store.exists(RUN_FILE):
            raise StoreError(
                f"the run in {run.store.url} was withdrawn by whoever began it; run the same command again"
            )
        with hurried_after_outage(run.store):
            yield heartbeat


@contextmanager
def alone(run: RunFolder) -> Iterator[Heartbeat]:
    """The turn of one who puts rows back: holds all others off while the context is open.

    Raises:
        SettingsError: somebody works on the run.
    """
    with Heartbeat(run.store, RETRY) as heartbeat:
        waited = False
        while ahead := heartbeat.ahead(lambda claim: True):
            alive = [claim for claim in ahead if not claim.doubtful]
            if alive:
                who = one_line(alive[0].who)
                raise SettingsError(f"the run is being worked on ({who}); stop that first")
            if not waited:
                _say(f"{_at_work(ahead[0])}; waiting to see whether that has died; Ctrl-C leaves")
            waited = True
            time.sleep(_LOOK_SECONDS)
        yield heartbeat


def overlap(one: Selection, other: Selection, manifest: Manifest) -> bool:
    """Whether two selections share an input."""
    both = np.intersect1d(one.numbers(manifest), other.numbers(manifest), assume_unique=True)
    return bool(both.size)


def selection_of(told: Mapping[str, Any]) -> Selection | None:
    """The selection that somebody at work told; None where that is damaged, or none was told."""
    try:
        said = told[_SELECTION]
        number, of = said["shard"]
        limit, sample, seed = (said[name] for name in ("limit", "sample", "seed"))
    except (LookupError, TypeError, ValueError):
        return None
    counts = [value for value in (limit, sample) if value is not None]
    if not all(isinstance(value, int) and value >= 0 for value in (*counts, seed, number, of)):
        return None
    return Selection(limit, sample, seed, (number, of)) if 1 <= number <= of else None


def _is_retry(claim: Claim) -> bool:
    return claim.told.get("role") == RETRY


def _at_work(claim: Claim) -> str:
    return f"{claim.who}, works on this run (last heard of {max(0.0, claim.age):.0f} s ago)"


def _check_deadline(deadline: datetime | None) -> None:
    if deadline is not None and datetime.now(UTC) >= deadline:
        from cluster.driver.driver import Interrupted  # Ray with it, which is heavy to import

        raise Interrupted(f"stopped at the deadline {deadline:%Y-%m-%d %H:%M}")


def _say(line: str) -> None:
    sys.stderr.write(f"originality: {one_line(line)}\n")
    sys.stderr.flush()
