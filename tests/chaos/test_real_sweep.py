"""The real sweep, killed in the middle: a resumed run is bit-identical to one that was never disturbed."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from cluster.run.folder import open_run
from jobs.cli import main
from jobs.commandline import exits
from originality.sweep.image_state import unpack
from tests.support.places import ROOT
from tests.support.waiting import PATIENCE, until

pytestmark = pytest.mark.long

SHORT = (
    *("--set", "inversion.steps=120", "--set", "inversion.batch_size=2", "--set", "redraw.count=2"),
    *("--set", "redraw.steps=3", "--max-tokens", "2", "--max-workers", "1", "--snapshot-every", "0.2"),
    *("--set", "distance.threshold=0.01", "--device", "cpu"),
)


def start(images: Path, out: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "jobs.cli", "audit", str(images), "--out", str(out), *SHORT]
    with (out.parent / "audit.log").open("ab") as log:
        return subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log, start_new_session=True)


def audit(images: Path, out: Path) -> None:
    assert main(["audit", str(images), "--out", str(out), *SHORT]) == exits.ALL_JUDGED


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    for name in ("familiar-1.png", "unseen-2.png"):
        shutil.copy(ROOT / "examples" / name, folder)
    return folder


@pytest.fixture(scope="module")
def undisturbed(images: Path, tmp_path_factory: pytest.TempPathFactory, local_ray: None) -> dict[str, Any]:
    out = tmp_path_factory.mktemp("undisturbed") / "run"
    audit(images, out)
    return left_by(out)


def left_by(out: Path) -> dict[str, Any]:
    """Verdicts without worker, times and durations, and the bytes of all artefacts."""
    left: dict[str, Any] = {}
    for row in open_run(str(out)).ledger.rows():
        for passing in ("attempts", "worker", "finished_at"):
            del row[passing]
        for attempt in row["sweep"]:
            del attempt["seconds"]
        for file in sorted((out / row.pop("artefacts")).iterdir()):
            left[f"{row['image_id']}/{file.name}"] = file.read_bytes()
        left[row["image_id"]] = json.dumps(row)
    return left


def worker_of(job: subprocess.Popen[bytes]) -> psutil.Process:
    return next(
        p
        for p in psutil.Process(job.pid).children(recursive=True)
        if "ray::Worker" in p.name() + str(p.cmdline())
    )


def kill_worker(job: subprocess.Popen[bytes]) -> None:
    worker_of(job).kill()


def kill_everything(job: subprocess.Popen[bytes]) -> None:
    """As when the machine loses power."""
    for process in [*psutil.Process(job.pid).children(recursive=True), psutil.Process(job.pid)]:
        process.kill()


def terminate(job: subprocess.Popen[bytes]) -> None:
    job.send_signal(signal.SIGTERM)


def test_bit_identical(images: Path, undisturbed: dict[str, Any], tmp_path: Path) -> None:
    """A worker dies, then the machine, then the run is stopped properly, and at last it runs undisturbed."""
    out = tmp_path / "run"
    for troubles, ends in (((kill_worker, kill_everything), -signal.SIGKILL), ((terminate,), 130)):
        job = start(images, out)
        try:
            for trouble in troubles:
                wait_for_second_word(out, job)
                trouble(job)
            assert job.wait(PATIENCE) == ends, (tmp_path / "audit.log").read_text()
        finally:
            job.kill()
        kept = [unpack(file.read_bytes())[0] for file in out.glob("progress/*.snapshot")]
        assert any(saved.attempts for saved in kept)
    audit(images, out)
    assert left_by(out) == undisturbed
    assert not list(out.glob("progress/*"))


def wait_for_second_word(out: Path, job: subprocess.Popen[bytes]) -> None:
    """Waits for a new snapshot of an image that is within its second number of tokens."""
    old = {file: file.stat().st_mtime_ns for file in out.glob("progress/*.snapshot")}

    def is_there() -> bool:
        for file in out.glob("progress/*.snapshot"):
            with suppress(OSError, ValueError):  # it is being replaced
                saved, _ = unpack(file.read_bytes())
                if saved.attempts and saved.step > 2 and file.stat().st_mtime_ns != old.get(file):
                    return True
        return False

    until(is_there, job)
