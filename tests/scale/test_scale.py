"""The scale measurements with few images; ``make scale`` takes a million."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.scale.overhead import between_images
from tests.support.waiting import PATIENCE


def test_time_lost_between_images_is_measured(tmp_path: Path, local_ray: None) -> None:
    """``make scale`` measures how much it is, on an idle machine."""
    messages = between_images(tmp_path, 8, 0.05, 2)
    assert (messages["images"], messages["workers"], messages["ideal_seconds"]) == (8, 2, 0.2)
    assert messages["wall_seconds"] >= messages["ideal_seconds"]


@pytest.mark.long
def test_thousands_of_images(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.scale", "--images", "3000", "--out", str(tmp_path / "told.json")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
    messages = json.loads((tmp_path / "told.json").read_text())
    end = messages["summary and report"]
    assert messages["plan"]["inputs"] == end["judged"] == end["images"] == 3000 and end["pending"] == 0
    assert messages["first half"]["verdicts"] == messages["resume, second half"]["verdicts"] == 1500
    assert max(stage["peak_mib"] for stage in messages.values() if isinstance(stage, dict)) < 1024
