"""Images and folders that fail or are gone: when a run stops, and when the images are rejected."""

from __future__ import annotations

import functools
import io
import json
import threading
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cluster.driver import driver
from cluster.run.folder import plan
from cluster.storage.store import open_store
from cluster.worker.messages import Task
from originality.contract.scorer import Finished, Item
from tests.support.driven_run import drive
from tests.support.joined_inputs import inputs
from tests.support.mean_colour import REFUSED, MeanColour, paint
from tests.support.waiting import PATIENCE, until


@pytest.mark.long
def test_the_run_stops_if_every_image_fails(tmp_path: Path, local_ray: None) -> None:
    for i in range(600):
        (tmp_path / "in" / f"{i:03}.png").mkdir(parents=True)  # a folder: there, and not to be read
    collection, output = tmp_path / "list.csv", tmp_path / "run"
    collection.write_text("\n".join(["uri", *(f"in/{i:03}.png" for i in range(600))]))
    with pytest.raises(driver.EngineError, match=r"^\d+ images .* unreadable: "):
        drive(collection, output)
    assert 100 <= len(list(output.glob("records/*/*.json"))) < 550
    for i in range(550, 600):
        (tmp_path / "in" / f"{i:03}.png").rmdir()
        paint(tmp_path / "in", f"{i:03}.png", (1, 1, i - 550))
    with pytest.raises(driver.EngineError):
        drive(collection, output, stop_after_failures=20)
    run, counts, _ = drive(collection, output, stop_after_failures=None)
    assert counts["judged"] == 50
    assert Counter(row["status"] for row in inputs(run)) == {"failed": 550, "judged": 50}


class Busy(MeanColour):
    """After it has refused three images, its step does not return until a file exists."""

    def __init__(self, file: Path) -> None:
        super().__init__(capacity=2, steps=1)
        self._file, self._refused = file, 0

    def admit(self, item: Item) -> None:
        self._refused += 1
        super().admit(item)
        self._refused -= 1

    def step(self) -> list[Finished]:
        if self._refused < 3:
            return []
        until(self._file.exists)
        return super().step()


def test_records_made_while_it_stops_do_not_hide_the_reason(tmp_path: Path, local_ray: None) -> None:
    paint(tmp_path / "in", "000.png", (1, 1, 1))
    for i in range(1, 30):  # none the same file, and each refused when the first is in the scorer's hands
        Image.new("RGB", (8 + i, 8), REFUSED).save(tmp_path / "in" / f"{i:03}.png")
    collection = tmp_path / "list.csv"
    collection.write_text("\n".join(["uri", *(f"in/{i:03}.png" for i in range(30))]))
    shown, ended = io.StringIO(), threading.Event()

    def release() -> None:
        until(lambda: ended.is_set() or "stopping after this step" in shown.getvalue())
        (tmp_path / "go").touch()

    threading.Thread(target=release).start()
    factory = functools.partial(Busy, tmp_path / "go")
    how = {"workers": 1, "stop_after_failures": 3, "stop_grace": PATIENCE, "stream": shown}
    with pytest.raises(driver.EngineError, match=r"^\d+ images .* ValueError: "):
        drive(collection, tmp_path / "run", factory, **how)
    ended.set()
    rows = [json.loads(p.read_text()) for p in (tmp_path / "run").glob("records/*/*.json")]
    assert Counter(row["status"] for row in rows)["judged"] == 1


@pytest.mark.long
def test_missing_images_are_rejected_if_others_are_found(tmp_path: Path, local_ray: None) -> None:
    """If too many in a row are missing, with none found, the run stops before any is recorded."""
    (tmp_path / "list.csv").write_text("\n".join(["uri", *(f"{i}.png" for i in range(150))]))
    with pytest.raises(driver.EngineError, match=r"^1\d\d inputs .* /.*resume"):
        drive(tmp_path / "list.csv", tmp_path / "run")
    assert not list((tmp_path / "run").glob("records/*/*.json"))
    for i in (70, 149):
        paint(tmp_path, f"{i}.png", (i, i, i))
    _, counts, _ = drive(tmp_path / "list.csv", tmp_path / "run")
    assert counts == {"judged": 2, "failed": 148}
    (tmp_path / "149.png").unlink()
    (tmp_path / "70.png").unlink()
    _, counts, _ = drive(tmp_path / "list.csv", tmp_path / "other", stop_after_failures=None)
    assert counts == {"failed": 150}


def test_a_collection_that_is_gone_ends_the_run_and_rejects_no_image(tmp_path: Path, local_ray: None) -> None:
    """As when a share is not mounted; on the only machine there is nothing to wait for."""
    for i in range(5):
        paint(tmp_path / "in", f"{i}.png", (i, i, i))
    run = plan(str(tmp_path / "in"), open_store(str(tmp_path / "run")), {})
    task = Task(run.store.url, MeanColour, {}, source=run.manifest.source)
    (tmp_path / "in").rename(tmp_path / "away")
    for emptied in (False, True):
        if emptied:
            (tmp_path / "in").mkdir()
        with pytest.raises(driver.EngineError, match=r"in (does not exist|is empty) on .*mount .*resume"):
            driver.run(task, run.leases(np.arange(5)), gpu=False, stream=io.StringIO())
    assert not list((tmp_path / "run").glob("records/*/*.json"))
    (tmp_path / "in").rmdir()
    (tmp_path / "away").rename(tmp_path / "in")
    done = driver.run(task, run.leases(np.arange(5)), gpu=False, stream=io.StringIO())
    assert done.counts == {"judged": 5}


def test_a_subfolder_that_is_gone_ends_the_run_and_rejects_no_image(tmp_path: Path, local_ray: None) -> None:
    """As when a share is mounted below the source, or a list refers to one."""
    for i in range(5):
        paint(tmp_path / "in" / "share", f"{i}.png", (i, i, i))
    paint(tmp_path / "in", "top.png", (9, 9, 9))
    (tmp_path / "list.csv").write_text("\n".join(["uri", *(f"in/share/{i}.png" for i in range(5))]))
    runs = {
        str(source): plan(str(source), open_store(str(tmp_path / f"run-{source.name}")), {})
        for source in (tmp_path / "in", tmp_path / "list.csv")
    }
    (tmp_path / "in" / "share").rename(tmp_path / "away")
    (tmp_path / "in" / "share").mkdir()
    for judged, run in enumerate(reversed(runs.values())):
        task = Task(run.store.url, MeanColour, {}, source=run.manifest.source)
        with pytest.raises(driver.EngineError, match=r"^5 inputs .*, the last .*share.*resume"):
            driver.run(task, run.leases(np.arange(len(run.manifest))), gpu=False, stream=io.StringIO())
        assert Counter(row["status"] for row in run.ledger.rows()) == Counter(judged=judged)


def test_a_single_image_that_is_gone_is_missing(tmp_path: Path, local_ray: None) -> None:
    path = paint(tmp_path / "in", "only.png", (1, 1, 1))
    run = plan(str(path), open_store(str(tmp_path / "run")), {})
    task = Task(run.store.url, MeanColour, {}, source=run.manifest.source, one_input=True)
    path.rename(tmp_path / "away.png")
    (tmp_path / "in").rename(tmp_path / "elsewhere")
    with pytest.raises(driver.EngineError, match=r"in does not exist on .*mount .*resume"):
        driver.run(task, run.leases(np.arange(1)), gpu=False, stream=io.StringIO())
    (tmp_path / "in").mkdir()
    done = driver.run(task, run.leases(np.arange(1)), gpu=False, stream=io.StringIO())
    assert done.counts == {"failed": 1}
    assert [row["error_class"] for row in run.ledger.rows()] == ["missing"]
