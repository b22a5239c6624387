"""What ``make`` prints before it does anything long."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.places import ROOT

STUB = """#!/bin/sh
# An interpreter that only reports what it is called for.
echo "RUN $*"
if [ "$1 $2" = "-m venv" ]; then
    mkdir -p "$3/bin"
    for name in python pip originality ruff mypy; do cp "$0" "$3/bin/$name"; done
fi
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The files that ``make`` needs, beside a Python that installs nothing."""
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "python").write_text(STUB)
    (tmp_path / "python").chmod(0o755)
    return tmp_path


def made(checkout: Path, *arguments: str, **environment: str) -> list[str]:
    """The lines that ``make`` printed."""
    # Not as part of the make that runs the tests.
    clean = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")}
    command = ["make", f"PYTHON={checkout / 'python'}", *arguments]
    done = subprocess.run(command, cwd=checkout, env={**clean, **environment}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def line(lines: list[str], part: str) -> int:
    """The number of the one line that holds ``part``."""
    (found,) = [number for number, text in enumerate(lines) if part in text]
    return found


def test_each_long_part_of_an_install_is_announced_before_it_starts(checkout: Path) -> None:
    lines = made(checkout, "audit")
    steps = ("creating the environment", "RUN -m venv", "installing the packages", "RUN -m pip", "judging")
    order = [line(lines, part) for part in (*steps, "RUN audit examples")]
    assert order == sorted(order)
    (pip,) = (text for text in lines if text.startswith("RUN -m pip"))
    assert "quiet" not in pip and " -q" not in pip  # pip's own lines are the progress of minutes
    again = made(checkout, "audit")
    assert not any("environment" in text or "installing" in text for text in again)


def test_the_browser_is_announced_before_it_is_installed(checkout: Path) -> None:
    shutil.copytree(ROOT / "scripts", checkout / "scripts")
    tools = checkout / "tools"
    tools.mkdir()
    for name, body in {"apt-get": 'echo "APT $*" >&2', "id": "echo 0"}.items():
        (tools / name).write_text(f"#!/bin/sh\n{body}\n")
        (tools / name).chmod(0o755)
    script = ["/bin/sh", str(checkout / "scripts" / "install-chromium.sh")]
    done = subprocess.run(
        script, env={"PATH": str(tools)}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    lines = done.stdout.splitlines()
    assert done.returncode == 0 and "APT update" in lines[1], lines
    assert lines[0].startswith("installing chromium")
