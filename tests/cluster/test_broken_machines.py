"""Machines that fail beside machines that work, on a real Ray: no image loses its verdict, no run ends."""

from __future__ import annotations

import functools
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mean_colour import KILLS, MeanColour, paint

from cluster import deaths, driver
from cluster.runfolder import RunFolder, plan
from cluster.settings import ClusterSettings
from cluster.store import open_store
from cluster.worker import Task
from originality.scoring import Unusable
from tests.waiting import until

ERRORS: dict[str, Callable[[], Exception]] = {
    "sticky": lambda: torch.AcceleratorError("CUDA error: an illegal memory access was encountered"),
    "memory": lambda: torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    "unforeseen": lambda: ValueError("nobody foresaw this"),
}


def judge(folder: Path, factory: Any, workers: int = 2, **how: Any) -> tuple[driver.Outcome, RunFolder, str]:
    run = plan(str(folder / "in"), open_store(str(folder / "run")), {})
    shown = io.StringIO()
    task = Task(run.store.url, factory, {})
    settings = ClusterSettings(max_workers=workers, min_workers=workers, **how)
    leases = run.leases(np.arange(len(run.manifest)))
    return driver.run(task, leases, settings, gpu=False, stream=shown), run, shown.getvalue()


class OneIsBroken(MeanColour):
    """Workers on two cards, one of which fails in each process that gets it."""

    def __init__(self, folder: Path, where: str, error: str) -> None:
        self._broken, self._where, self._error = not _has_the_sound_card(folder), where, ERRORS[error]
        self._failed = folder / "failures"
        if self._broken and where == "load":
            raise self._fails()
        super().__init__(capacity=2)

    def _fails(self) -> Exception:
        with self._failed.open("a") as file:
            file.write("x")
        return self._error()

    def admit(self, item: Any) -> None:
        if self._broken and self._where == "admit":
            raise self._fails()
        super().admit(item)

    def step(self) -> list[Any]:
        """The sound card is slow: it judges nothing before the other has failed often."""
        if self._broken and self._where == "step":
            raise self._fails()
        until(lambda: self._failed.exists() and self._failed.stat().st_size >= 3)
        return super().step()


def _has_the_sound_card(folder: Path) -> bool:
    """The first process that asks has it for good; all others share the broken one."""
    try:
        (folder / "card").touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


@pytest.mark.parametrize(
    ("where", "error"),
    [
        ("admit", "sticky"),
        ("admit", "unforeseen"),
        ("step", "memory"),
        ("load", "unforeseen"),
    ],
)
def test_one_broken_card_beside_one_that_works(
    tmp_path: Path, local_ray: None, where: str, error: str
) -> None:
    for i in range(60):
        paint(tmp_path / "in", f"{i:02}.png", (i, i, i))
    factory = functools.partial(OneIsBroken, tmp_path, where, error)
    done, run, shown = judge(tmp_path, factory)
    assert done.counts == {"judged": 60} and done.deaths >= 1, shown
    assert {row["status"] for row in run.ledger.rows()} == {"judged"}


class AllFail(MeanColour):
    def __init__(self, error: Exception, from_the_step: bool = False) -> None:
        super().__init__(capacity=1)
        self._error = error
        if not from_the_step:
            raise error

    def step(self) -> list[Any]:
        raise self._error


def test_where_all_machines_fail_the_run_stops_and_nothing_is_lost(
    tmp_path: Path, local_ray: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message is the machine's own, and none of a setting; the next run has all images before it. The
    only image is met by the only card more often than a killer may kill: it is not to blame."""
    paint(tmp_path / "in", "a.png", (1, 1, 1))
    memory = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
    with pytest.raises(driver.EngineError, match=r"^3 workers died before .*CUDA out of memory.*resume$"):
        judge(tmp_path, functools.partial(AllFail, memory), workers=1)
    monkeypatch.setattr(deaths, "MOST_FRUITLESS", 4)  # more than three
    with pytest.raises(driver.EngineError, match=r"^4 workers in a row died .*CUDA out of memory.*resume$"):
        judge(tmp_path, functools.partial(AllFail, memory, from_the_step=True), workers=1)
    assert not list((tmp_path / "run").glob("records/*/*.json"))
    done, _, _ = judge(tmp_path, MeanColour)
    assert done.counts == {"judged": 1}


class AnotherModelHere(MeanColour):
    """A worker's node that has another model than the first's."""

    def __init__(self, folder: Path) -> None:
        if not _has_the_sound_card(folder):
            raise Unusable("the model here is a different one")
        super().__init__(capacity=1, seconds=0.05)


def test_settings_that_one_machine_alone_refuses_end_no_run(tmp_path: Path, local_ray: None) -> None:
    """Before any worker is ready they end it at once: then it is the settings."""
    for i in range(40):
        paint(tmp_path / "in", f"{i:02}.png", (i, i, i))
    refused = Unusable("choose another device")
    with pytest.raises(Unusable, match="choose another device"):
        judge(tmp_path, functools.partial(AllFail, refused))
    how = {"stop_after_failures": 5}
    done, _, shown = judge(tmp_path, functools.partial(AnotherModelHere, tmp_path), **how)
    assert done.counts == {"judged": 40}, shown


def test_images_that_kill_come_first_and_the_run_goes_on(tmp_path: Path, local_ray: None) -> None:
    """Though no worker has judged anything when they are met."""
    for i in range(3):
        paint(tmp_path / "in", f"0-killer-{i}.png", KILLS)
    for i in range(4):
        paint(tmp_path / "in", f"1-{i}.png", (i, i, i))
    done, _, _ = judge(tmp_path, functools.partial(MeanColour, capacity=1), workers=1)
    assert done.counts == {"judged": 4, "failed": 3}
