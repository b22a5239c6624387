"""Machines that fail beside machines that work, on a real Ray: no image loses its verdict, and no run
ends."""

from __future__ import annotations

import functools
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cluster.driver import deaths, driver
from cluster.run.folder import RunFolder, plan
from cluster.settings import ClusterSettings
from cluster.storage.store import open_store
from cluster.worker.messages import Task
from originality.contract.scorer import Unusable
from tests.support.broken_machines import AllFail, AnotherModelHere, OneIsBroken
from tests.support.mean_colour import KILLS, MeanColour, paint


def judge(folder: Path, factory: Any, workers: int = 2, **how: Any) -> tuple[driver.Outcome, RunFolder, str]:
    run = plan(str(folder / "in"), open_store(str(folder / "run")), {})
    shown = io.StringIO()
    task = Task(run.store.url, factory, {})
    settings = ClusterSettings(max_workers=workers, min_workers=workers, **how)
    leases = run.leases(np.arange(len(run.manifest)))
    try:
        return driver.run(task, leases, settings, gpu=False, stream=shown), run, shown.getvalue()
    except Exception as error:
        error.add_note(shown.getvalue())
        raise


@pytest.mark.long
@pytest.mark.parametrize(
    ("where", "error"),
    [
        ("admit", "sticky"),
        ("admit", "unforeseen"),
        ("step", "memory"),
        ("load", "unforeseen"),
        ("last", "sticky"),
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


@pytest.mark.long
def test_if_all_machines_fail_the_run_stops_and_no_image_is_lost(
    tmp_path: Path, local_ray: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message names the machine's error and no setting, and the next run still has all images. The only
    image is held by the only GPU at more failures than ``MAX_DEATHS``, and is still not to blame."""
    paint(tmp_path / "in", "a.png", (1, 1, 1))
    with pytest.raises(driver.EngineError, match=r"^3 workers .*CUDA out of memory.*resume"):
        judge(tmp_path, functools.partial(AllFail, "memory"), workers=1)
    monkeypatch.setattr(deaths, "MAX_UNPRODUCTIVE_DEATHS", 4)  # more than three
    with pytest.raises(driver.EngineError, match=r"^4 workers .*CUDA out of memory.*resume"):
        judge(tmp_path, functools.partial(AllFail, "memory", from_the_step=True), workers=1)
    assert not list((tmp_path / "run").glob("records/*/*.json"))
    done, _, _ = judge(tmp_path, MeanColour)
    assert done.counts == {"judged": 1}


@pytest.mark.long
def test_settings_that_only_one_machine_refuses_do_not_end_the_run(tmp_path: Path, local_ray: None) -> None:
    """Before any worker is ready they end the run at once, as the settings may be the cause."""
    for i in range(40):
        paint(tmp_path / "in", f"{i:02}.png", (i, i, i))
    with pytest.raises(Unusable, match="choose another device"):
        judge(tmp_path, functools.partial(AllFail, "refused"))
    how = {"stop_after_failures": 5}
    done, _, shown = judge(tmp_path, functools.partial(AnotherModelHere, tmp_path), **how)
    assert done.counts == {"judged": 40}, shown


@pytest.mark.long
def test_images_that_kill_workers_come_first_and_the_run_continues(tmp_path: Path, local_ray: None) -> None:
    """Although no worker has judged anything before them."""
    for i in range(3):
        paint(tmp_path / "in", f"0-killer-{i}.png", KILLS)
    for i in range(4):
        paint(tmp_path / "in", f"1-{i}.png", (i, i, i))
    done, _, _ = judge(tmp_path, functools.partial(MeanColour, capacity=1), workers=1)
    assert done.counts == {"judged": 4, "failed": 3}
