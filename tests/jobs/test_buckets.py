"""The audit from one bucket prefix to another, on a real S3 gateway, with the model that ships."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import obstore
import pytest

from cluster.storage.store import open_store
from jobs.cli import main
from jobs.commandline import exits
from tests.support.places import ROOT
from tests.support.short_audits import SHORT, verdicts
from tests.support.waiting import PATIENCE


@pytest.mark.long
def test_an_audit_in_buckets_equals_one_in_folders(tmp_path: Path, s3: str, local_ray: None) -> None:
    images = tmp_path / "in"
    images.mkdir()
    for name in ("familiar-1.png", "unseen-1.png"):
        shutil.copy(ROOT / "examples" / name, images)
    (images / "text.png").write_text("no image")
    source = open_store(f"{s3}/in")
    for file in images.iterdir():
        source.write(file.name, file.read_bytes())
    shown = audit(source.url, f"{s3}/run")
    assert shown.stdout.splitlines()[-1] == f"{s3}/run/report/index.html"
    store = open_store(f"{s3}/run")
    assert b"familiar-1.png" in store.read("report/index.html")
    page = obstore.get(store.objects, "report/index.html")
    assert page.attributes["Content-Type"] == "text/html"
    kept = "".join(store.read(f.path).decode("latin-1") for f in store.list())
    assert os.environ["AWS_SECRET_ACCESS_KEY"] not in kept + shown.stdout + shown.stderr
    before = {f.path for f in store.list("records")}
    assert main(["audit", source.url, "--out", store.url, *SHORT]) == exits.SOME_UNJUDGED
    assert {f.path for f in store.list("records")} == before and len(before) == 3
    local = str(tmp_path / "run")
    assert main(["audit", str(images), "--out", local, *SHORT]) == exits.SOME_UNJUDGED
    assert verdicts(local) == verdicts(store.url)


def audit(source: str, out: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "jobs.cli", "audit", source, "--out", out, *SHORT]
    done = subprocess.run(command, cwd=ROOT, env=os.environ, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == exits.SOME_UNJUDGED, done.stderr
    return done
