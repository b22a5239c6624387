"""The scale measurements in small; ``make scale`` takes a million images."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.scale.overhead import between_images


def test_hardly_anything_is_lost_between_images(tmp_path: Path, local_ray: None) -> None:
    told = between_images(tmp_path, 40, 1.0, 4)
    # On a busy machine the four start one after the other; make scale measures on a free one.
    assert told["over_ideal_percent"] < 40, told


def test_thousands_of_images(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.scale", "--images", "3000", "--out", str(tmp_path / "told.json")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    told = json.loads((tmp_path / "told.json").read_text())
    end = told["summary and report"]
    assert told["plan"]["inputs"] == end["judged"] == end["images"] == 3000 and end["pending"] == 0
    assert told["first half"]["verdicts"] == told["resume, second half"]["verdicts"] == 1500
    assert max(stage["peak_mib"] for stage in told.values() if isinstance(stage, dict)) < 1024
