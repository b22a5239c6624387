"""Scorers of machines that fail.

Every worker imports this: so no test, and torch only where one of its errors is raised.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from originality.contract.scorer import Unusable
from tests.support.mean_colour import MeanColour
from tests.support.waiting import until


def _of_torch(kind: str, message: str) -> Exception:
    import torch

    error: Exception = getattr(torch, kind)(message)
    return error


MOST_HELD = 4
"""Images that a worker of two lanes holds at most."""


ERRORS: dict[str, Callable[[], Exception]] = {
    "sticky": lambda: _of_torch("AcceleratorError", "CUDA error: an illegal memory access was encountered"),
    "memory": lambda: _of_torch("OutOfMemoryError", "CUDA out of memory. Tried to allocate 2.00 GiB"),
    "unforeseen": lambda: ValueError("nobody foresaw this"),
    "refused": lambda: Unusable("choose another device"),
}


class OneIsBroken(MeanColour):
    """Workers on two cards, one of which fails in each process that gets it."""

    def __init__(self, folder: Path, where: str, error: str) -> None:
        self._broken, self._where, self._error = not _has_the_sound_card(folder), where, ERRORS[error]
        self._failed, self._judged = folder / "failures", folder / "judged"
        self._holds = folder / "holds"
        if self._broken and where == "load":
            raise self._fails()
        super().__init__(capacity=2)

    def _fails(self) -> Exception:
        with self._failed.open("a") as file:
            file.write("x")
        return self._error()

    def admit(self, item: Any) -> None:
        if self._broken and self._where == "last":
            self._holds.touch()
            until(lambda: _size(self._judged) >= 60 - MOST_HELD)
        if self._broken and self._where in ("admit", "last"):
            raise self._fails()
        super().admit(item)

    def step(self) -> list[Any]:
        """The sound card is slow: it judges nothing before the other has failed often, except where the other
        fails "last", when the sound one has judged all that it was given."""
        if self._broken and self._where == "step":
            raise self._fails()
        if self._where == "last":
            until(self._holds.exists)
        else:
            until(lambda: _size(self._failed) >= 3)
        done = super().step()
        with self._judged.open("a") as file:
            file.write("x" * len(done))
        return done


def _size(file: Path) -> int:
    return file.stat().st_size if file.exists() else 0


def _has_the_sound_card(folder: Path) -> bool:
    """The first process that asks has it for good; all others share the broken one."""
    try:
        (folder / "card").touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


class AllFail(MeanColour):
    def __init__(self, error: str, from_the_step: bool = False) -> None:
        super().__init__(capacity=1)
        self._error = ERRORS[error]()
        if not from_the_step:
            raise self._error

    def step(self) -> list[Any]:
        raise self._error


class AnotherModelHere(MeanColour):
    """A worker's node that has another model than the first's."""

    def __init__(self, folder: Path) -> None:
        if not _has_the_sound_card(folder):
            raise Unusable("the model here is a different one")
        super().__init__(capacity=1, seconds=0.05)
