"""The audit as a user runs it: the command, the model that ships, Ray, and the report."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import matplotlib.cbook
import pyarrow.dataset as ds
import pytest

from jobs.cli import main
from jobs.commandline import exits
from originality.model.diffusers_folder import MODELS
from tests.support.places import ROOT
from tests.support.waiting import PATIENCE

SHORT = (
    *("--set", "inversion.steps=2", "--set", "inversion.batch_size=2", "--set", "redraw.count=2"),
    *("--set", "redraw.steps=2", "--max-tokens", "2"),
)


def originality(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "jobs.cli", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE)


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """A drawing of shapes, a photograph, and a text file named as an image."""
    folder = tmp_path / "mixed"
    folder.mkdir()
    shutil.copy(ROOT / "examples" / "familiar-1.png", folder)
    photograph = matplotlib.cbook.get_sample_data("grace_hopper.jpg", asfileobj=False)
    shutil.copy(photograph, folder / "photograph.jpg")
    (folder / "text.png").write_text("no image")
    return folder


@pytest.mark.long
def test_from_the_command_to_the_report(
    tmp_path: Path, mixed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    first = originality("audit", mixed, "--out", out, *SHORT)
    assert first.returncode == exits.SOME_UNJUDGED, first.stderr
    report = Path(first.stdout.splitlines()[-1])
    assert report == out / "report" / "index.html"
    page = report.read_text()
    assert "photograph.jpg" in page and "familiar-1.png" in page
    rows = {row["status"]: row for row in ds.dataset(out / "verdicts").to_table().to_pylist()}
    assert set(rows) == {"judged", "rejected"}
    judged = [json.loads(p.read_text()) for p in (out / "records").glob("*/*.json")]
    tokens = {r["image_id"]: [a["tokens"] for a in r["sweep"]] for r in judged if r["status"] == "judged"}
    assert len(tokens) == 2 and all(tried in ([1], [1, 2]) for tried in tokens.values())
    photograph = next(r for r in judged if r["image_id"] == _sha256(mixed / "photograph.jpg"))
    assert photograph["censored"] and photograph["min_tokens"] is None
    assert [a["distance_mean"] for a in photograph["sweep"]] == [1.0, 1.0]
    for image_id in tokens:
        kept = {p.name for p in (out / "images" / image_id).glob("*/*")}
        assert kept == {"query.webp", "redraws.webp", "tokens.safetensors"}

    before = {p: p.stat().st_mtime_ns for p in (out / "records").glob("*/*.json")}
    assert main(["audit", str(mixed), "--out", str(out), *SHORT]) == exits.SOME_UNJUDGED
    assert before == {p: p.stat().st_mtime_ns for p in (out / "records").glob("*/*.json")}

    assert main(["audit", str(mixed), "--out", str(out), *SHORT, "--seed", "1"]) == exits.BAD_SETTINGS
    assert "settings.seed: 0 -> 1" in capsys.readouterr().err


def _sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _cut_config(folder: Path) -> Path:
    shutil.copytree(MODELS / "shapes", folder)
    (folder / "unet" / "config.json").write_text("{")
    return folder


def _no_scheduler(folder: Path) -> Path:
    shutil.copytree(MODELS / "shapes", folder)
    (folder / "scheduler" / "scheduler_config.json").unlink()
    return folder


def _without_weights(folder: Path) -> Path:
    shutil.copytree(MODELS / "shapes", folder, ignore=shutil.ignore_patterns("*.safetensors"))
    return folder


def _cut_short(folder: Path) -> Path:
    shutil.copytree(MODELS / "shapes", folder)
    (folder / "unet" / "diffusion_pytorch_model.safetensors").write_bytes(b"version https://git-lfs")
    return folder


@pytest.mark.parametrize(
    ("arguments", "output"),
    [
        (["--model", "nowhere"], "'nowhere'"),
        (["--model", _without_weights], "unet"),
        (["--model", _cut_short], "git lfs pull"),
        (["--model", _cut_config], "config.json"),
        (["--model", _no_scheduler], "scheduler_config.json"),
        (["--set", "distance.metric=imagenet"], "distance.threshold"),
        (["--set", "distance.metric=dreamsim"], "in_distribution.check"),
        (["--out", ROOT / "examples"], "--out"),
        (["--out", ""], "--out"),
        (["--set", "redraw.prompt=a photo"], "redraw.prompt"),
        (["--set", "model.device=cuda"], "--device cpu"),
        (["--set", "inversion.batch_size=0"], "'inversion.batch_size'"),
        (["--max-tokens", "0"], "'max_tokens'"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_unusable_settings_are_one_line_with_exit_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[object], output: str
) -> None:
    given = [str(a(tmp_path / "model") if callable(a) else a) for a in arguments]
    command = ["audit", str(ROOT / "examples"), "--out", str(tmp_path / "run"), *given]
    assert main(command) == exits.BAD_SETTINGS
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("originality: ")]
    assert len(lines) == 1 and output in lines[0]
    assert not (tmp_path / "run" / "records").exists()
