"""The wheel holds all that an audit needs: built, installed into a folder, and used away from the
checkout."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.support.places import EXAMPLES, ROOT
from tests.support.short_audits import SHORT
from tests.support.waiting import PATIENCE

pytestmark = pytest.mark.long

PIP = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from the files that git tracks, as what lies about in a checkout must not matter."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    tracked = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True, timeout=PATIENCE
    )
    for name in filter(None, tracked.stdout.decode().split("\0")):
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    build = ("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(out), str(source))
    subprocess.run([*PIP, *build], check=True, timeout=PATIENCE)
    (built,) = out.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    subprocess.run([*PIP, "install", "--no-deps", "--target", str(folder), str(wheel)], check=True)
    return folder


def used(installed: Path, folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """What a process prints that finds the packages in the wheel's folder, and no checkout."""
    return subprocess.run(
        [sys.executable, *command],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )


def test_it_holds_the_packages_and_no_tests(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"originality", "cluster", "jobs"}
    assert {"originality/py.typed", "cluster/py.typed", "jobs/py.typed"} <= set(names)


def test_it_is_what_is_imported(installed: Path, tmp_path: Path) -> None:
    done = used(
        installed, tmp_path, "-c", "import originality, jobs; print(originality.__file__, jobs.__file__)"
    )
    assert all(path.startswith(str(installed)) for path in done.stdout.split()), done.stderr


def test_it_audits(installed: Path, tmp_path: Path) -> None:
    audit = ("-m", "jobs.cli", "audit")
    dry = used(installed, tmp_path, *audit, str(EXAMPLES), "--dry-run")
    assert dry.returncode == 0 and "9 inputs" in dry.stdout, dry.stderr
    image = str(EXAMPLES / "familiar-1.png")
    one = used(installed, tmp_path, *audit, image, "--out", "run", "--device", "cpu", *SHORT)
    assert one.returncode == 0, one.stderr
    assert (tmp_path / "run" / "report" / "index.html").stat().st_size > 10_000
