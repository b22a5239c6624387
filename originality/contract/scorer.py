"""The one seam between the science and the engine: an item goes in, one record comes out.

The engine (``cluster``) fetches, decodes, leases and commits; it knows a scorer by this protocol
alone. The science implements it and knows nothing of actors or stores. A scorer holds several
items in flight and hands each back when it is done, so that its lanes can be refilled.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

from originality.contract.redaction import Masked

Content = TypeVar("Content", covariant=True)
Read = TypeVar("Read", contravariant=True)


class Unusable(Masked, ValueError):  # noqa: N818 - it says what the scorer is
    """A scorer that can judge no image at all as it was set up; one line that says the fix. Wherever it is
    raised, it ends the run, and is never one image's failure."""


@dataclass(frozen=True)
class Item(Generic[Content]):
    """One image to be scored, or whatever else a job is made of."""

    item_id: str
    """sha256 of the input's bytes: also the key of the item's random numbers."""
    content: Content
    """Of an audit an image: RGB, upright, at its own size; the scorer brings it to the model's size. Of an
    experiment a document: a mapping of plain JSON values."""
    columns: Mapping[str, Any] = field(default_factory=dict)
    """What the list of inputs says of it, by column; the engine does not interpret it. A column in which the
    list says nothing of this item is missing. An audit uses "word"."""


@dataclass(frozen=True)
class Finished:
    """What a scorer says of one item, once."""

    item_id: str
    record: dict[str, Any]
    """Plain JSON values, no NaN, with ``status`` "judged" or "failed". The engine adds attempts,
    worker and finished_at, and overrides these if they are given."""
    files: Mapping[str, bytes] = field(default_factory=dict)
    """Artefacts by file name, e.g. ``tokens.safetensors``; written before the record."""
    counters: Mapping[str, float] = field(default_factory=dict)
    """What the item cost, by name, for metrics; amounts that may be added up over items."""
    parts: float = 1.0
    """Parts of work that it took; see :class:`Scorer`."""


class Scorer(Protocol[Read]):
    """Scores items, several at a time. Used from one thread.

    An attribute ``progress`` (str), where there is one, is shown to whoever watches; it is read
    from another thread. A method ``parts(item_id) -> float``, where there is one, says how much work was done
    on an item in flight, in parts of about the same size of which nobody knows how many it takes (numbers of
    tokens, say): 1.5 is half of the second. From it the engine learns how much work is left.
    """

    @property
    def capacity(self) -> int:
        """Most items in flight at once."""
        ...

    def admit(self, item: Item[Read]) -> None:
        """Starts an item.

        Raises:
            Unusable: no item can be scored with these settings; the run ends.
            ItemFault: this item cannot be scored; it is recorded as failed.
            Exception: an error of the machine (:func:`~originality.contract.faults.is_machine_fault`)
                ends this worker and costs the item nothing. After any other the item is tried once more,
                alone, by another worker where there is one, and the second failure is recorded.
        """
        ...

    def step(self) -> list[Finished]:
        """Works for a short while on all items in flight, and hands back those that are done.

        Called only while items are in flight; must get somewhere, or it is called for ever. After an
        exception the items that were in flight are tried again, each alone, so that the guilty one is found:
        by a fresh scorer, and where it was an error of the machine, in another process.
        """
        ...

    def stage(self, item_id: str) -> int:
        """A number that changes whenever something of an item in flight is finished that should not be done
        twice: the engine then takes a snapshot at once, besides those by the clock."""
        ...

    def snapshot(self, item_id: str) -> bytes:
        """The state of an item in flight, from which ``restore`` goes on to the same record.

        Called between any two steps, from the scorer's thread, which it holds up: it must be cheap.
        """
        ...

    def restore(self, item: Item[Read], snapshot: bytes) -> None:
        """Admits an item where a snapshot of it left off, of this scorer or of one like it.

        Raises:
            ValueError: the snapshot is not this scorer's (other settings, another model or item, bytes that
                are damaged in whatever way). Nothing is then in flight that was not before: the engine
                admits the item anew. Any other exception is as one of ``admit``.
        """
        ...
