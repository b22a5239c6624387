"""A run folder of commit 581240f (tests/data): runs made before still open and resume."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from cluster.run.folder import open_run
from cluster.storage.store import open_store
from jobs.cli import main
from jobs.commandline import exits
from tests.support.joined_inputs import inputs
from tests.support.places import EXAMPLES, ROOT

BEFORE = ROOT / "tests" / "data" / "run-581240f"
IMAGES = ("familiar-1.png", "familiar-2.png", "unseen-1.png", "unseen-2.png")
SETTINGS = (
    *("--set", "inversion.steps=2", "--set", "inversion.batch_size=2", "--set", "redraw.count=2"),
    *("--set", "redraw.steps=2", "--max-tokens", "2", "--max-workers", "1", "--device", "cpu"),
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return shutil.copytree(BEFORE, tmp_path / "run")


def test_its_state_is_shown(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", str(folder), "--json"]) == exits.ALL_JUDGED
    state = json.loads(capsys.readouterr().out)
    assert (state["judged"], state["rejected"], state["pending"]) == (3, 1, 1)


def test_its_report_is_written(folder: Path) -> None:
    assert main(["report", str(folder)]) == exits.ALL_JUDGED
    page = (folder / "report" / "index.html").read_text()
    assert all(name in page for name in IMAGES[:3])


def test_its_rejected_image_is_queued_again(folder: Path) -> None:
    assert main(["retry", str(folder), "--status", "rejected"]) == exits.ALL_JUDGED
    rows = list(open_run(str(folder)).ledger.rows())
    assert len(rows) == 3 and {row["status"] for row in rows} == {"judged"}


@pytest.mark.long
def test_it_resumes(folder: Path, s3: str, local_ray: None) -> None:
    source = open_store(f"{s3}/first-version/in")
    for name in IMAGES:
        source.write(name, (EXAMPLES / name).read_bytes())
    source.write("text.png", b"no image")
    before = {row["image_id"]: row for row in open_run(str(folder)).ledger.rows()}
    command = ["audit", source.url, "--out", str(folder)]
    assert main([*command, *SETTINGS, "--seed", "1"]) == exits.BAD_SETTINGS
    assert main([*command, *SETTINGS]) == exits.SOME_UNJUDGED
    rows = {row["image_id"]: row for row in open_run(str(folder)).ledger.rows()}
    assert len(rows) == 5 and all(rows[image_id] == row for image_id, row in before.items())
    judged = {Path(each["uri"]).name: each["status"] for each in inputs(open_run(str(folder)))}
    assert judged == {**dict.fromkeys(IMAGES, "judged"), "text.png": "rejected"}
