"""``ray job submit`` on a running cluster, from bucket to bucket, with the model that ships."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from cluster.storage.store import open_store
from jobs.cli import main
from jobs.commandline import exits
from tests.support.places import ROOT
from tests.support.ray_clusters import BIN, Head, ray_head, requested
from tests.support.short_audits import SHORT, verdicts
from tests.support.waiting import PATIENCE, until

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory, s3: str):
    with ray_head(tmp_path_factory.mktemp("ray"), cpus=2) as running:
        yield running


def submit(head: Head, *job: str, options: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    environment = json.dumps({"env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": str(int(PATIENCE))}})
    command = [
        *(str(BIN / "ray"), "job", "submit", "--address", head.dashboard),
        *("--runtime-env-json", environment, *options, "--", *job),
    ]
    give_up = time.monotonic() + PATIENCE
    while True:
        done = subprocess.run(
            command, env=head.environment, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE
        )
        # For a while after its start a head has nobody yet to give the job to.
        if "No available agent" not in done.stderr or time.monotonic() > give_up:
            return done
        time.sleep(1)


def test_the_jobs_api_requires_the_token(head: Head) -> None:
    token = head.environment["RAY_AUTH_TOKEN"]
    assert requested(head.dashboard, None) == 401
    assert requested(head.dashboard, "0" * len(token)) == 403
    assert requested(head.dashboard, token) == 200


def test_a_submitted_audit_equals_the_local_one(head: Head, s3: str, tmp_path: Path, local_ray: None) -> None:
    images = tmp_path / "in"
    images.mkdir()
    for name in ("familiar-1.png", "rare-1.png", "unseen-1.png"):
        shutil.copy(ROOT / "examples" / name, images)
    (images / "text.png").write_text("no image")
    source = open_store(f"{s3}/submitted/in")
    for file in images.iterdir():
        source.write(file.name, file.read_bytes())
    out = f"{s3}/submitted/run"
    done = submit(head, "python", "-m", "jobs.audit", source.url, "--out", out, *SHORT, "--device", "cpu")
    shown = done.stdout + done.stderr
    assert f"{out}/report/index.html" in shown, shown
    assert "exit code 3" in shown  # one image is rejected
    logs = [log.read_text(errors="replace") for log in head.logs.rglob("*") if log.is_file()]
    assert any("text.png" in log for log in logs)  # the job's own is among them
    for secret in (os.environ["AWS_SECRET_ACCESS_KEY"], head.environment["RAY_AUTH_TOKEN"]):
        assert not any(secret in messages for messages in (shown, *logs))
    local = str(tmp_path / "run")
    assert main(["audit", str(images), "--out", local, *SHORT, "--device", "cpu"]) == exits.SOME_UNJUDGED
    assert verdicts(out) == verdicts(local)


def test_a_cluster_without_a_gpu_is_refused_unless_cpu_is_set(head: Head, s3: str) -> None:
    source = open_store(f"{s3}/undecided/in")
    source.write("a.png", (ROOT / "examples" / "unseen-1.png").read_bytes())
    done = submit(head, "python", "-m", "jobs.audit", source.url, "--out", f"{s3}/undecided/run", *SHORT)
    shown = done.stdout + done.stderr
    assert "--device cuda waits for one" in shown and "exit code 2" in shown, shown


def test_a_stopped_job_snapshots_images_in_progress(head: Head, s3: str) -> None:
    source = open_store(f"{s3}/stopped/in")
    source.write("a.png", (ROOT / "examples" / "unseen-1.png").read_bytes())
    out = open_store(f"{s3}/stopped/run")
    job = ["python", "-m", "jobs.audit", source.url, "--out", out.url]
    job += ["--snapshot-every", "0.5", "--device", "cpu"]
    submitted = submit(head, *job, options=("--no-wait", "--submission-id", "to-be-stopped"))
    assert submitted.returncode == 0, submitted.stderr
    try:
        until(lambda: any(f.path.endswith(".snapshot") for f in out.list("progress")), every=0.5)
    finally:
        stop = [str(BIN / "ray"), "job", "stop", "--address", head.dashboard, "to-be-stopped"]
        stopped = subprocess.run(stop, env=head.environment, capture_output=True, text=True, timeout=PATIENCE)
    assert "was stopped" in stopped.stdout + stopped.stderr
    left = [f.path for f in out.list("progress")]
    assert [path.endswith(".snapshot") for path in left] == [True]  # the image's; the driver took its leave
    logs = [str(BIN / "ray"), "job", "logs", "--address", head.dashboard, "to-be-stopped"]
    messages = subprocess.run(logs, env=head.environment, capture_output=True, text=True, timeout=PATIENCE)
    assert "originality: interrupted; " in messages.stdout + messages.stderr
