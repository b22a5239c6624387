"""``make check`` has the contract of allowed imports: breaking it on purpose fails it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.places import ROOT
from tests.support.waiting import PATIENCE

BROKEN = {
    "the engine imports a command": ("cluster/run/leases.py", "import jobs.cli"),
    "the engine imports the science": ("cluster/run/leases.py", "import originality.settings.audit"),
    "the engine imports torch": ("cluster/run/leases.py", "import torch"),
    "the science imports Ray": ("originality/sweep/sweep.py", "import ray"),
    "the ground imports the roof": ("originality/contract/scorer.py", "import originality.bench.report"),
    "two rooms of a floor": ("originality/evaluation/verdict.py", "import originality.inversion.lane"),
    "what commands share imports a command": ("jobs/auditing/labels.py", "import jobs.status"),
    "the store imports the driver": ("cluster/storage/store.py", "import cluster.driver.driver"),
}


def checked(folder: Path) -> subprocess.CompletedProcess[str]:
    program = Path(sys.executable).parent / "lint-imports"
    return subprocess.run(
        [str(program), "--no-cache", "--config", str(ROOT / "pyproject.toml")],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The packages' code alone."""
    folder = tmp_path_factory.mktemp("tree")
    for package in ("originality", "cluster", "jobs"):
        for file in (ROOT / package).rglob("*.py"):
            place = folder / file.relative_to(ROOT)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, place)
    return folder


def test_the_contract_is_kept(tree: Path) -> None:
    done = checked(tree)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("how", BROKEN)
def test_what_breaks_it_is_found(tree: Path, how: str) -> None:
    name, statement = BROKEN[how]
    file = tree / name
    before = file.read_text()
    try:
        file.write_text(f"{before}\n{statement}\n")
        done = checked(tree)
    finally:
        file.write_text(before)
    assert done.returncode == 1 and "BROKEN" in done.stdout, done.stdout


def test_make_check_runs_it() -> None:
    assert "lint-imports" in (ROOT / "Makefile").read_text()
