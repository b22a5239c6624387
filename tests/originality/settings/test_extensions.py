"""A metric and a detector of another package, installed as a user installs it, and objects of Python code."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import originality
from originality.contract.config import SettingsError
from originality.evaluation.distance import Distance, load_distance
from originality.evaluation.in_distribution.scene import load_detector
from originality.settings.parts import DistanceSettings, InDistributionSettings
from originality.settings.presets import load_settings
from tests.support.grey_metric.grey_metric import Grey
from tests.support.places import EXAMPLES, ROOT, SUPPORT, python_path
from tests.support.waiting import PATIENCE

QUICK = {"inversion": {"steps": 2, "batch_size": 2}, "redraw": {"count": 2, "steps": 2}, "max_tokens": 1}
DOG = {"domain": "dogs", "domains": {"dogs": {"initial_word": "dog"}}}
OWN = {"distance": {"metric": "grey"}, "in_distribution": {"check": "editability", "detector": "bright"}}


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    source = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "grey_metric.py"):
        (source / name).write_bytes((SUPPORT / "grey_metric" / name).read_bytes())
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation", "--target"]
    subprocess.run([*command, str(folder), str(source)], check=True, timeout=PATIENCE)
    return folder


@pytest.fixture
def here(installed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(installed))


def test_settings_name_them_with_their_threshold(here: None) -> None:
    settings = load_settings("laptop", None, {**OWN, "domain": "animals"})
    assert (settings.distance.metric, settings.distance.threshold) == ("grey", 0.2)
    distance = load_distance(settings.distance)
    assert isinstance(distance, Distance) and distance.digest() == "grey 1"
    assert load_detector(settings.in_distribution, "cat", "cpu", None).digest() == "bright 1"


def test_what_is_not_installed_is_refused_with_the_nearest_name(here: None) -> None:
    with pytest.raises(SettingsError, match="grey"):
        load_settings("laptop", None, {"distance": {"metric": "gray", "threshold": 0.1}})
    with pytest.raises(SettingsError, match="imagenet"):
        load_settings("laptop", None, {"in_distribution": {"detector": "imagnet"}})
    with pytest.raises(ValueError, match="grey"):
        DistanceSettings(metric="greys", threshold=0.3)
    assert InDistributionSettings(detector="bright").folder is None


def test_a_package_that_cannot_be_imported_is_named(
    installed: Path, here: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "grey_metric", None)
    with pytest.raises(SettingsError, match="grey-metric"):
        load_distance(DistanceSettings(metric="grey", threshold=0.2))


def test_an_object_is_a_metric() -> None:
    metric = Grey(None, None)
    metric.name = "my grey"
    settings = {**QUICK, "domain": "shapes", "in_distribution": {"check": "none"}}
    with originality.Auditor(settings=settings, device="cpu", metric=metric) as auditor:
        verdict = auditor.judge(EXAMPLES / "familiar-1.png")
    assert auditor.settings.distance.threshold == 0.2
    assert verdict.status == "judged" and 0 <= (verdict.attempts[0].distance_mean or -1) <= 1


@pytest.mark.long
def test_the_command_judges_by_them(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.png").write_bytes((EXAMPLES / "familiar-1.png").read_bytes())
    (tmp_path / "own.yaml").write_text(json.dumps({**QUICK, **OWN, **DOG}))
    command = [
        sys.executable,
        "-m",
        "jobs.cli",
        "audit",
        str(tmp_path / "in"),
        "--out",
        str(tmp_path / "run"),
    ]
    done = subprocess.run(
        [*command, "--preset", "laptop", "--config", str(tmp_path / "own.yaml"), "--device", "cpu"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{installed}:{python_path()}"},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stderr
    (row,) = originality.open_run(str(tmp_path / "run")).verdicts().to_pylist()
    assert row["status"] == "judged" and row["sweep"][0]["editability"] is not None
