"""What driver and worker pass to each other: the task at the start, then orders and reports."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from cluster.inputs.images import Limits
from cluster.run.leases import Lease
from cluster.worker.readers import ImageReader, ReaderFactory
from cluster.worker.record_writer import Settled
from originality.contract.log_lines import current_level
from originality.contract.scorer import Scorer

ScorerFactory = Callable[[], Scorer[Any]]
"""Builds a scorer where it is called; picklable."""


@dataclass(frozen=True)
class Task:
    """What every worker of a run is started with."""

    run: str
    """URI of the run folder."""
    factory: ScorerFactory
    blank: Mapping[str, Any]
    """Default fields of a record. The record of a rejected input, which no scorer saw, so has the same
    columns as the others."""
    memory: int = 2 * 2**30
    """Bytes of memory that a worker on CPU takes; as many are started as there is room for."""
    snapshot_every: float = 60.0
    """Seconds of work on an item that a worker's death may cost."""
    step_limit: float = 3600.0
    """Seconds after which a call of the scorer that has not ended counts as hung."""
    reader: ReaderFactory = ImageReader
    """Builds what turns the bytes of an input into the content of an item."""
    item_noun: str = "images"
    """What the items are called in progress lines, in the plural."""
    retry_failed: bool = True
    """Whether an item that fails for the first time is tried once more, by another worker where there is one,
    before the failure is recorded. False where an item is hours of work."""
    keep_snapshot_of_failed: bool = False
    """Whether the snapshot of an item that failed is kept, so that a later retry resumes from it."""
    source: str = ""
    """The folder or prefix that contains all inputs. A worker that misses an input checks that it is there.
    Empty: no check, as a list says where each input is, or as the settings turn the check off."""
    one_input: bool = False
    """Whether the collection is a single input."""
    readable: Mapping[str, str] = field(default_factory=dict)
    """By bucket of the inputs: the key of an object that can be read."""
    limits: Limits = Limits()
    """Limits of the inputs that are read."""
    most_parts: int = 1
    """Most parts of work that an item takes; see :class:`originality.contract.scorer.Scorer`."""
    loading: str = "loading the model"
    """What a worker does until its scorer is ready, for people."""
    load_limit: float = 7200.0
    """Seconds after which a call of ``factory`` that has not ended counts as hung."""
    log_level: str = field(default_factory=current_level)
    """Lowest level of a worker's log lines: as of the process that made the task."""


@dataclass(frozen=True)
class Orders:
    """What the driver sends a worker with a call."""

    leases: list[Lease] = field(default_factory=list)
    """New inputs, to be read."""
    go: list[int] = field(default_factory=list)
    """Numbers of identified inputs that this worker shall judge."""
    drop: list[int] = field(default_factory=list)
    """Numbers of identified inputs that it shall forget: the same image is judged as another input."""


@dataclass(frozen=True)
class Returned:
    """Inputs that a worker gives back without a record.

    Either they were in the scorer together when it failed, and any of them, or the machine, may be the cause;
    or it is one input that could not be read.
    """

    numbers: list[int]
    cause: str
    """One line."""
    of_machine: bool = False
    """Whether it was an error of the machine."""
    unread_as: str = ""
    """Why the input could not be read, as in ``Lease.unread_as``; empty otherwise."""


@dataclass(frozen=True)
class Report:
    """What happened in a worker since its last report, and its present state."""

    capacity: int
    """Items that the scorer takes at once; 0 while the scorer is being built."""
    read: list[int]
    """Numbers of inputs whose bytes were read."""
    identified: list[tuple[int, str]]
    """Number and image_id of inputs that were read, and wait for the driver to say whether to judge them."""
    settled: list[Settled]
    """Inputs whose image has its record."""
    returned: list[Returned]
    """Inputs to be leased again."""
    duplicates: int
    """Records that were dropped as the image had one, since the worker started."""
    progress: str
    """The scorer's ``progress`` text, for people."""
    parts: list[float]
    """Parts of work done on each item in flight."""
    worked: float
    """Parts of work that this worker has done since it started."""
    node: str | None
    """Ray's id of the machine; None without Ray."""
    leaving: str | None
    """Why this worker takes no more inputs, e.g. that its machine is about to be taken away, or failed."""
    failed: bool
    """Whether it leaves because its machine failed."""
    drained: bool
    """Whether the worker may be ended: its scorer has stopped, and everything is written, as a record or as a
    snapshot."""
    notes: list[str] = field(default_factory=list)
    """Lines for people."""
