"""The interface between science and engine: an item goes in, one record comes out.

The engine (``cluster``) fetches, decodes, leases and commits. It uses a scorer through this protocol only.
The science implements the protocol and knows nothing of actors or stores. A scorer works on several items at
a time and returns each when it is done, so that the engine can admit the next.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

from originality.contract.redaction import Masked

Content = TypeVar("Content", covariant=True)
Read = TypeVar("Read", contravariant=True)


class Unusable(Masked, ValueError):  # noqa: N818 - named after the state of the scorer
    """The scorer cannot score any item with these settings. Wherever it is raised, it ends the run, and is
    never recorded as the failure of one item. The message is one line that ends with the fix."""


@dataclass(frozen=True)
class Item(Generic[Content]):
    """One image to be scored, or whatever else a job is made of."""

    item_id: str
    """sha256 of the input's bytes. It is also part of the key of the item's random numbers."""
    content: Content
    """Of an audit an image: RGB, upright, at its own size; the scorer brings it to the model's size. Of an
    experiment a document: a mapping of plain JSON values."""
    columns: Mapping[str, Any] = field(default_factory=dict)
    """What the list of inputs says of it, by column; the engine does not interpret it. A column in which the
    list says nothing of this item is missing. An audit uses "word"."""


@dataclass(frozen=True)
class Finished:
    """The result of one item. A scorer returns it once."""

    item_id: str
    record: dict[str, Any]
    """Plain JSON values without NaN, with ``status`` "judged" or "failed". The engine adds attempts, worker
    and finished_at, and overwrites these if they are given."""
    files: Mapping[str, bytes] = field(default_factory=dict)
    """Files of the item by name, e.g. ``tokens.safetensors``. They are written before the record."""
    counters: Mapping[str, float] = field(default_factory=dict)
    """Cost of the item by name, for metrics. Amounts are added up over items."""
    parts: float = 1.0
    """Number of parts of work that the item took; see :class:`Scorer`."""


class Scorer(Protocol[Read]):
    """Scores items, several at a time. It is used from one thread.

    Two members are optional. An attribute ``progress`` (str) is shown in the progress view; it is read from a
    different thread. A method ``parts(item_id) -> float`` returns how much work was done on an item in
    progress, in parts of about equal size whose number is unknown in advance (numbers of tokens, for
    example): 1.5 is half of the second part. The engine estimates the remaining work from it.
    """

    @property
    def capacity(self) -> int:
        """Largest number of items in progress at a time."""
        ...

    def admit(self, item: Item[Read]) -> None:
        """Start an item.

        Raises:
            Unusable: no item can be scored with these settings. The run ends.
            ItemFault: this item cannot be scored. It is recorded as failed.
            Exception: a fault of the machine (:func:`~originality.contract.faults.is_machine_fault`) ends
                this worker, and the item is tried again elsewhere. After any other error the item is retried
                once, alone, by a different worker if there is one, and a second failure is recorded.
        """
        ...

    def step(self) -> list[Finished]:
        """Work for a short time on all items in progress, and return those that are done.

        It is called only while there are such items, and must make progress, or it is called for ever. After
        an exception the items are retried one at a time by a new scorer, so that the one that causes the
        error is found; after a fault of the machine in a new process.
        """
        ...

    def stage(self, item_id: str) -> int:
        """A number that changes whenever a part of an item is finished that would be costly to repeat. The
        engine then takes a snapshot at once, in addition to the regular ones."""
        ...

    def snapshot(self, item_id: str) -> bytes:
        """The state of an item in progress, from which ``restore`` continues to the same record.

        It is called between steps from the scorer's thread, which waits for it: it must be cheap.
        """
        ...

    def restore(self, item: Item[Read], snapshot: bytes) -> None:
        """Admit an item and continue from its snapshot, taken by this scorer or one with equal settings.

        Raises:
            ValueError: the snapshot is not usable (different settings, model or item, or damaged bytes). The
                scorer's state must then be unchanged, since the engine admits the item from the start. Any
                other exception means the same as in ``admit``.
        """
        ...
