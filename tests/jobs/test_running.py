"""Running audits with a small scorer on a real Ray: shards, limits, retries, estimates."""

from __future__ import annotations

import functools
import io
import json
import logging
import os
import time
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow.dataset as ds
import pytest

from cluster.driver import driver
from cluster.inputs.manifest import Selection
from cluster.run.folder import RunMismatch, open_run, plan
from cluster.settings import ClusterSettings
from cluster.storage.heartbeat import Heartbeat
from cluster.storage.store import open_store
from jobs import estimate
from jobs.auditing.audit_run import audit, audit_session, identity, judge, plan_audit
from jobs.auditing.prepare import PreparedAudit
from jobs.cli import main
from jobs.commandline import exits
from originality.contract.config import SettingsError
from originality.settings.presets import load_settings
from tests.support.joined_inputs import inputs
from tests.support.mean_colour import REFUSED, MeanColour, paint

SCIENCE = PreparedAudit(load_settings(), MeanColour, {"model_digest": "abc"})


@pytest.fixture
def images(tmp_path: Path) -> Path:
    for i in range(12):
        paint(tmp_path / "in", f"{i:02}.png", (i, i, i))
    return tmp_path / "in"


def statuses(out: Path) -> list[str]:
    return [row["status"] for row in inputs(open_run(str(out)))]


@pytest.mark.long
def test_shards_by_hand_make_one_run(images: Path, tmp_path: Path, local_ray: None) -> None:
    out = tmp_path / "run"
    for i in (1, 2, 3):
        audit(SCIENCE, str(images), str(out), selection=Selection(shard=(i, 3)))
        done = [n % 3 for n, status in enumerate(statuses(out)) if status == "judged"]
        assert set(done) == set(range(i)) and len(done) == 4 * i
    inputs = ds.dataset(out / "inputs").to_table().to_pylist()
    assert sorted(row["number"] for row in inputs) == list(range(12))
    summary = json.loads((out / "summary.json").read_text())
    assert (summary["judged"], summary["pending"], summary["images"]) == (12, 0, 12)


def refuse() -> MeanColour:
    raise SettingsError("not this model")


@pytest.mark.long
def test_a_refused_run_leaves_no_plan(
    images: Path, tmp_path: Path, local_ray: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "deep" / "run"
    with monkeypatch.context() as cluster:
        cluster.setenv("RAY_ADDRESS", "127.0.0.1:6379")  # so that "auto" cannot know whether a GPU will come
        with pytest.raises(driver.NoGpu, match="--device cpu works without"):
            audit(SCIENCE, str(images), str(out))
    assert not out.parent.exists()
    with pytest.raises(SettingsError, match="not this model"):
        audit(replace(SCIENCE, factory=refuse), str(images), str(out))
    assert not out.parent.exists()
    advised = replace(SCIENCE, settings=load_settings(flags={"model": {"device": "cpu"}, "seed": 1}))
    audit(advised, str(images), str(out), selection=Selection(limit=5))
    with pytest.raises(SettingsError):
        audit(replace(advised, factory=refuse), str(images), str(out))
    assert statuses(out).count("judged") == 5  # a run that has begun stays


@pytest.mark.long
@pytest.mark.parametrize("devices", [("auto", "cpu"), ("cpu", "auto")])
def test_a_different_device_resumes_the_same_run(
    images: Path, tmp_path: Path, local_ray: None, devices: tuple[str, str]
) -> None:
    first, second = (
        replace(SCIENCE, settings=load_settings(flags={"model": {"device": device}})) for device in devices
    )
    out = str(tmp_path / "run")
    audit(first, str(images), out, selection=Selection(limit=5))
    assert audit(second, str(images), out) == exits.ALL_JUDGED
    rows = ds.dataset(tmp_path / "run" / "verdicts").to_table().to_pylist()
    assert len(rows) == 12 and len({row["settings_digest"] for row in rows}) == 1


def test_a_run_whose_digest_counted_the_device_resumes(images: Path, tmp_path: Path) -> None:
    science = replace(SCIENCE, settings=load_settings(flags={"model": {"device": "cpu"}}))
    out = str(tmp_path / "run")
    begun = {**identity(science, str(images)), "settings_digest": "as it was"}
    plan(str(images), open_store(out), begun)
    assert plan_audit(science, str(images), out).description["settings_digest"] == "as it was"
    other = replace(science, settings=load_settings(flags={"seed": 1}))
    with pytest.raises(RunMismatch, match=r"settings\.seed: 0 -> 1"):
        plan_audit(other, str(images), out)


@pytest.mark.long
def test_a_sample_and_then_the_rest(
    images: Path, tmp_path: Path, local_ray: None, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="jobs")
    out = tmp_path / "run"
    audit(SCIENCE, str(images), str(out), selection=Selection(sample=5, seed=3))
    assert "7 inputs" in caplog.text
    assert statuses(out).count("judged") == 5
    audit(SCIENCE, str(images), str(out))
    assert statuses(out).count("judged") == 12


@pytest.mark.long
def test_force_new_starts_a_run_beside_one_with_different_settings(
    images: Path, tmp_path: Path, local_ray: None
) -> None:
    out = tmp_path / "run"
    assert audit(SCIENCE, str(images), str(out)) == exits.ALL_JUDGED
    other = PreparedAudit(load_settings(flags={"seed": 4}), MeanColour, {"model_digest": "abc"})
    with pytest.raises(RunMismatch, match="--force-new"):
        audit(other, str(images), str(out))
    before = {p: p.read_bytes() for p in out.rglob("*.json")}
    assert audit(other, str(images), str(out), force_new=True) == exits.ALL_JUDGED
    assert statuses(tmp_path / "run-2") == ["judged"] * 12
    third = PreparedAudit(load_settings(flags={"seed": 5}), MeanColour, {"model_digest": "abc"})
    for limit, done in ((7, 7), (None, 12)):  # the same command resumes in the same folder
        audit(third, str(images), str(out), selection=Selection(limit=limit), force_new=True)
        assert statuses(tmp_path / "run-3").count("judged") == done
    assert not (tmp_path / "run-4").exists()
    assert before == {p: p.read_bytes() for p in out.rglob("*.json")}


@pytest.mark.parametrize(
    ("bound", "token"),
    [({"max_cost": 24.0}, "24"), ({"deadline": "30h"}, "deadline")],
)
def test_a_limit_on_cost_or_time_stops_the_run_resumable(
    images: Path,
    tmp_path: Path,
    local_ray: None,
    monkeypatch: pytest.MonkeyPatch,
    bound: dict[str, Any],
    token: str,
) -> None:
    """By the driver's clocks, two days pass as soon as an image is half done."""

    def passed() -> timedelta:
        return timedelta(days=2 * any((tmp_path / "run" / "progress").glob("*.snapshot")))

    hours = SimpleNamespace(monotonic=lambda: time.monotonic() + passed().total_seconds())
    dates = SimpleNamespace(now=lambda zone: datetime.now(zone) + passed())
    monkeypatch.setattr("cluster.driver.worker_pool.time", hours)
    monkeypatch.setattr("cluster.driver.dispatch.datetime", dates)
    slow = functools.partial(MeanColour, capacity=1, steps=600, seconds=0.1)
    science = PreparedAudit(load_settings(), slow, {})
    how = ClusterSettings(prices={"CPU": 1.0}, max_workers=1, **bound)
    with pytest.raises(driver.Interrupted, match=token):
        audit(science, str(images), str(tmp_path / "run"), how=how)
    assert statuses(tmp_path / "run").count("pending") > 0
    assert list((tmp_path / "run" / "progress").glob("*.snapshot"))
    assert not (tmp_path / "run" / "progress" / "drivers").exists()


@pytest.mark.long
def test_only_failed_images_are_queued_again(
    images: Path, tmp_path: Path, local_ray: None, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "run")
    paint(images, "refused.png", REFUSED)
    (images / "text.png").write_text("no image")
    assert audit(SCIENCE, str(images), out) == exits.SOME_UNJUDGED
    before = {p: p.read_bytes() for p in (tmp_path / "run" / "records").rglob("*.json")}
    capsys.readouterr()
    with Heartbeat(open_run(out).store, "audit"):
        assert main(["retry", out, "--status", "failed"]) == exits.BAD_SETTINGS
    assert f"process {os.getpid()}" in capsys.readouterr().err
    with Heartbeat(open_run(out).store, "retry"), pytest.raises(SettingsError, match=f"{os.getpid()}"):
        audit(SCIENCE, str(images), out)
    assert main(["retry", out, "--status", "failed", "--reason", "nothing-like-it"]) == exits.ALL_JUDGED
    assert capsys.readouterr().out.startswith("0 images queued again")
    assert main(["retry", out, "--status", "failed"]) == exits.ALL_JUDGED
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["1", "1"]
    after = {p: p.read_bytes() for p in (tmp_path / "run" / "records").rglob("*.json")}
    assert after == before  # it is a retry's object that takes one back
    assert [f.name for f in (tmp_path / "run" / "retries").iterdir()] == ["000001.json"]
    rows = ds.dataset(tmp_path / "run" / "verdicts").to_table().to_pylist()
    assert sorted(row["status"] for row in rows) == ["judged"] * 12 + ["rejected"]
    kinder = PreparedAudit(load_settings(), Kinder, {"model_digest": "abc"})
    assert audit(kinder, str(images), out) == exits.SOME_UNJUDGED
    rows = ds.dataset(tmp_path / "run" / "verdicts").to_table().to_pylist()
    assert sorted(row["status"] for row in rows) == ["judged"] * 13 + ["rejected"]


class Kinder(MeanColour):
    """Accepts every colour."""

    def admit(self, item: Any) -> None:
        self._in_flight[item.item_id] = (item, self._steps)


class Timed(MeanColour):
    """Records one minute for each image."""

    def step(self) -> list[Any]:
        done = super().step()
        for one in done:
            one.record["sweep"] = [{"tokens": 1, "seconds": 20.0}, {"tokens": 2, "seconds": 40.0}]
        return done


def test_an_estimate_from_a_sample(images: Path, tmp_path: Path, local_ray: None) -> None:
    science = PreparedAudit(load_settings(), Timed, {})
    run = plan_audit(science, str(images), str(tmp_path / "run"))
    how = ClusterSettings(prices={"CPU": 0.5})
    selection = Selection(sample=4, seed=0)
    with audit_session(run, selection) as session:
        outcome = judge(science, session, how)
    assert outcome is not None and outcome.worker_hours > 0
    assert outcome.cost == pytest.approx(outcome.worker_hours * 0.5, rel=0.05)
    seconds = [estimate.seconds_of(run, int(n)) for n in selection.numbers(run.manifest)]
    assert seconds == [60.0] * 4
    messages = estimate.Estimate(1_000_000, estimate.spread([30.0, 60.0, 90.0]), 0.5)
    low, mean, high = messages.hours
    assert low < mean < high and mean == pytest.approx(1e6 * 60 / 3600)
    lines = messages.lines(100)
    assert lines[0].startswith("60 images/h ") and "$8333.33 at $0.5 " in lines[3]
    assert lines[2].startswith("6.9 days with 100 workers")


def test_an_estimate_from_one_image_has_a_wide_range() -> None:
    assert estimate.spread([60.0]) == (20.0, 60.0, 180.0)
    low, mean, high = estimate.spread([0.0, 0.0, 0.0])
    assert low == mean == high == 0.0
    assert "--dry-run" in estimate.Estimate(10, (low, mean, high), 0.5).lines(1)[0]


def test_the_driver_reports_its_progress_in_the_heartbeat(
    images: Path, tmp_path: Path, local_ray: None
) -> None:
    states: list[dict[str, Any]] = []
    run = plan_audit(SCIENCE, str(images), str(tmp_path / "run"))
    leases = run.leases(Selection().numbers(run.manifest))
    task = driver.Task(run.store.url, functools.partial(MeanColour, seconds=0.1), {})
    driver.run(task, leases, learn=run.identities.learn, beat=states.append, stream=io.StringIO())
    assert states[0]["done"] == 0 and states[0]["inputs"] == 12
    assert {"workers", "cost", "per_hour", "seconds_left", "counts"} <= set(states[-1])
