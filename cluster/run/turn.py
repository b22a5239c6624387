"""Which processes may work on a run at the same time.

Starts that share no input work side by side. Of two that do share one, the later waits until the earlier
ends or dies. While a retry queues images again, nobody else works on the run.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import numpy as np

from cluster.inputs.manifest import ALLOCATIONS, InputError, Manifest, Selection
from cluster.run.folder import RunFolder
from cluster.run.interrupted import Interrupted
from cluster.run.layout import RUN_FILE
from cluster.storage.heartbeat import Heartbeat
from cluster.storage.store import StoreError, hurried_after_outage
from cluster.storage.turns import Claim
from originality.contract.config import SettingsError
from originality.contract.printable import printable
from originality.contract.redaction import masked

RETRY = "retry"
LOOK_SECONDS = 3.0
"""Between two looks at who works on the run."""
_SELECTION = "selection"


def _ignore(line: str) -> None:
    """The default of ``say``."""


@contextmanager
def turn(
    run: RunFolder,
    role: str,
    selection: Selection = Selection(),
    deadline: datetime | None = None,
    say: Callable[[str], None] = _ignore,
) -> Iterator[Heartbeat]:
    """Wait until no other process judges any of these inputs, and make others wait while the context is
    open.

    Args:
        role: "audit" or "experiment"; shown to others.
        selection: the inputs that this process will judge.
        deadline: when to stop waiting.
        say: called with one line for people when this process has to wait.

    Raises:
        SettingsError: a retry is queueing images again.
        StoreError: the run was withdrawn while this process waited.
        Interrupted: the deadline has come.
        Superseded: as of :class:`cluster.storage.heartbeat.Heartbeat`.
    """
    manifest = run.manifest

    def blocks_us(claim: Claim) -> bool:
        # A claim whose selection cannot be read may be of any input, so it blocks too.
        other = selection_of(claim.content)
        if _is_retry(claim) or other is None:
            return True
        try:
            return overlap(selection, other, manifest)
        except (InputError, KeyError):  # strata that this manifest does not have
            return True

    with Heartbeat(run.store, role, {_SELECTION: asdict(selection)}) as heartbeat:
        waited = False
        while ahead := heartbeat.ahead(blocks_us):
            _check_deadline(deadline)
            first = ahead[0]
            if _is_retry(first) and not first.doubtful:
                who = _shown(first.who)
                raise SettingsError(f"images are being queued again by {who}; start again when that is done")
            if not waited:
                say(f"{_who_works(first)}; waiting for it to end; press Ctrl-C to leave")
                heartbeat.update({"waits": True})
                heartbeat.check()
            waited = True
            time.sleep(LOOK_SECONDS)
        heartbeat.update({})
        if waited:
            # This process may have been suspended while it waited, and have lost its place.
            heartbeat.check()
        # A new run whose first start was refused is withdrawn; what we planned to resume is then gone.
        if not run.store.exists(RUN_FILE):
            raise StoreError(
                f"the run in {run.store.url} was withdrawn by the process that planned it; run the same "
                "command again"
            )
        with hurried_after_outage(run.store):
            yield heartbeat


@contextmanager
def exclusive_turn(run: RunFolder, say: Callable[[str], None] = _ignore) -> Iterator[Heartbeat]:
    """Keep everybody else off the run while the context is open: for taking records back.

    Args:
        say: called with one line for people when this process has to wait.

    Raises:
        SettingsError: another process works on the run.
    """
    with Heartbeat(run.store, RETRY) as heartbeat:
        waited = False
        while ahead := heartbeat.ahead(lambda claim: True):
            alive = [claim for claim in ahead if not claim.doubtful]
            if alive:
                who = _shown(alive[0].who)
                raise SettingsError(f"the run is being worked on ({who}); stop that first")
            if not waited:
                say(f"{_who_works(ahead[0])}; waiting to see whether it has died; press Ctrl-C to leave")
            waited = True
            time.sleep(LOOK_SECONDS)
        yield heartbeat


def overlap(one: Selection, other: Selection, manifest: Manifest) -> bool:
    """Whether two selections share an input."""
    both = np.intersect1d(one.numbers(manifest), other.numbers(manifest), assume_unique=True)
    return bool(both.size)


def selection_of(state: Mapping[str, Any]) -> Selection | None:
    """The selection in another process's heartbeat; None where it is missing or damaged."""
    try:
        fields = state[_SELECTION]
        number, of = fields["shard"]
        limit, sample, seed = (fields[name] for name in ("limit", "sample", "seed"))
        # Starts of earlier versions do not stratify.
        by, allocation = fields.get("by"), fields.get("allocation", ALLOCATIONS[0])
        weights = tuple((str(name), float(weight)) for name, weight in fields.get("weights", ()))
    except (LookupError, TypeError, ValueError, AttributeError):
        return None
    counts = [value for value in (limit, sample) if value is not None]
    if not all(isinstance(value, int) and value >= 0 for value in (*counts, seed, number, of)):
        return None
    if not (by is None or isinstance(by, str)) or allocation not in ALLOCATIONS or not 1 <= number <= of:
        return None
    return Selection(limit, sample, seed, (number, of), by, allocation, weights)


def _is_retry(claim: Claim) -> bool:
    return claim.content.get("role") == RETRY


def _who_works(claim: Claim) -> str:
    return _shown(f"{claim.who}, works on this run (last heartbeat {max(0.0, claim.age):.0f} s ago)")


def _check_deadline(deadline: datetime | None) -> None:
    if deadline is not None and datetime.now(UTC) >= deadline:
        raise Interrupted(f"stopped at the deadline {deadline:%Y-%m-%d %H:%M}")


def _shown(text: str) -> str:
    """One line without secrets; a host's name or a file of the run may hold anything."""
    return printable(masked(text))
