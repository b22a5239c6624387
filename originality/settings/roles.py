"""What each setting decides, written on the setting, and the lists that follow from it.

A field of the settings carries its role in its annotation::

    steps: Annotated[int, Decides.METHOD | Decides.COST] = Field(2000, ge=1)

Digests, calibrations and cost predictions each concern some of the settings. They compute which ones from the
roles (:func:`knobs`), so that a new setting cannot be missing from one of those lists by oversight.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum, Flag, auto
from typing import Any, TypeVar

from pydantic import BaseModel
from pydantic.fields import FieldInfo


class Decides(Flag):
    """What changes with a setting."""

    NOTHING = 0
    """A record that is kept beside the settings. Left out of every digest."""
    VERDICT = auto()
    """What is concluded from the measurements, or how early they end."""
    METHOD = auto()
    """What is measured. A calibrated threshold holds for one value only, so the method digest covers it."""
    COST = auto()
    """How much work the protocol asks for. Counts measured under one value say nothing about another."""
    TOKENS_NEEDED = auto()
    """How many tokens images need. A cost predicted from counts measured under another value assumes that
    they need as many, and says so."""
    WEIGHTS = auto()
    """Which weights are loaded. Their own digests identify them too, wherever they lie."""
    SPEED = auto()
    """Speed and memory. Results may differ by rounding."""
    MACHINE = auto()
    """What this machine has. Left out of every digest: a run may be resumed on another kind of machine."""


class Added(Enum):
    """When a setting was added, if that was after the first digests were recorded.

    A digest omits such a setting while it has its default. Without this, each new setting would change the
    digests of all earlier runs and calibrations, and none of them could be resumed or used any more.
    """

    AFTER_RUNS = auto()
    """After the first runs: omitted from the settings digest at its default."""
    AFTER_CALIBRATIONS = auto()
    """After the first calibrations too: omitted from the settings digest and the method digest at its
    default. The right choice for every new setting."""


@dataclass(frozen=True)
class Exhaustive:
    """The value with which a sweep measures all that it can: every number of tokens, all redraws, every
    check."""

    value: Any


_Mark = TypeVar("_Mark")
_FACTS = re.compile(r"(?:Unit: (?P<unit>.+?)\. )?Source: (?P<source>.+)\.")
"""Last paragraph of a setting's docstring."""


@dataclass(frozen=True)
class Knob:
    """One setting."""

    path: str
    """Dotted: "inversion.steps"."""
    field: FieldInfo

    @property
    def decides(self) -> Decides | None:
        """None: the setting has no role. A test forbids that for all settings of an audit."""
        return self._mark(Decides)

    @property
    def added(self) -> Added | None:
        """None: it was there from the first run on."""
        return self._mark(Added)

    @property
    def exhaustive(self) -> Exhaustive | None:
        """None: measuring everything does not depend on it."""
        return self._mark(Exhaustive)

    @property
    def default(self) -> Any:
        """Value of the setting if nobody sets it."""
        return self.field.get_default(call_default_factory=True)

    @property
    def description(self) -> str:
        """What the setting does, on one line."""
        return " ".join(self._docstring[0].split())

    @property
    def unit(self) -> str | None:
        """None: it is no quantity."""
        return self._stated("unit")

    @property
    def source(self) -> str | None:
        """Where the default comes from."""
        return self._stated("source")

    def has(self, role: Decides) -> bool:
        """Whether the setting decides this: verdict, method, cost and so on."""
        return self.decides is not None and role in self.decides

    @property
    def _docstring(self) -> tuple[str, str]:
        """The text, and the last paragraph, which states unit and source."""
        text, _, facts = (self.field.description or "").rpartition("\n\n")
        return text, " ".join(facts.split())

    def _stated(self, fact: str) -> str | None:
        found = _FACTS.fullmatch(self._docstring[1])
        return found[fact] if found else None

    def _mark(self, kind: type[_Mark]) -> _Mark | None:
        return next((mark for mark in self.field.metadata if isinstance(mark, kind)), None)


def knobs(settings: type[BaseModel], prefix: str = "") -> Iterator[Knob]:
    """Every setting, depth first in the order of the fields. A field that is itself a settings model is a
    part: its fields are listed, not the part."""
    for name, field in settings.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from knobs(kind, f"{prefix}{name}.")
        else:
            yield Knob(f"{prefix}{name}", field)


def paths(settings: type[BaseModel], role: Decides) -> tuple[str, ...]:
    """Dotted paths of the settings with a role."""
    return tuple(knob.path for knob in knobs(settings) if knob.has(role))


def exhaustive(settings: type[BaseModel]) -> dict[str, Any]:
    """The values with which a sweep measures all that it can, by dotted path."""
    return {knob.path: knob.exhaustive.value for knob in knobs(settings) if knob.exhaustive}


def nested(values: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """Values by dotted path as nested mappings: "redraw.steps" becomes ``{"redraw": {"steps": …}}``."""
    tree: dict[str, Any] = {}
    for path, value in values:
        *parts, name = path.split(".")
        place = tree
        for part in parts:
            place = place.setdefault(part, {})
        place[name] = value
    return tree
