"""The command that serves the explorer: its address, its end, and what it refuses."""

from __future__ import annotations

import http.client
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from jobs.cli import main
from jobs.commandline import exits
from tests.support.explored_run import explored_run
from tests.support.waiting import PATIENCE

WITHOUT = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name == sys.argv[1]:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
from jobs.cli import main
raise SystemExit(main(["explore", sys.argv[2], "--no-open"]))
"""
"""Runs the command as where a package is not installed."""


def test_it_serves_until_it_is_interrupted(tmp_path: Path) -> None:
    explored_run(str(tmp_path / "run"))
    command = [sys.executable, "-m", "jobs.explore", str(tmp_path / "run"), "--no-open"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout and process.stderr
        lines = iter(process.stdout.readline, "")
        address = urlsplit(next(line for line in lines if line.startswith("http://127.0.0.1:")).strip())
        assert re.fullmatch(r"/[\w-]{32}/", address.path)
        connection = http.client.HTTPConnection(address.netloc, timeout=PATIENCE)
        for path, status in ((address.path, 200), ("/", 403)):
            connection.request("GET", path)
            answer = connection.getresponse()
            assert (answer.status, bool(answer.read())) == (status, True)
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) == exits.ALL_JUDGED
        assert {line.split()[1] for line in process.stderr.read().splitlines()} == {"INFO"}


def test_a_port_that_is_taken_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    explored_run(str(tmp_path / "run"))
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        assert main(["explore", str(tmp_path / "run"), "--port", port]) == exits.BAD_SETTINGS
    assert f"--port {port}" in capsys.readouterr().err


def test_no_run_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explore", str(tmp_path / "none")]) == exits.BAD_SETTINGS
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_full_disk_is_one_line(tmp_path: Path) -> None:
    explored_run(str(tmp_path / "run"))
    script = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "from jobs.cli import main\n"
        "raise SystemExit(main(['explore', sys.argv[1], '--no-open']))"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "run")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == exits.BAD_SETTINGS
    assert "Traceback" not in done.stderr and "TMPDIR" in done.stderr.splitlines()[-1]


@pytest.mark.parametrize("package", ["duckdb", "starlette", "uvicorn"])
def test_without_the_extra_it_is_named_in_one_line(tmp_path: Path, package: str) -> None:
    explored_run(str(tmp_path / "run"))
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT, package, str(tmp_path / "run")],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == exits.BAD_SETTINGS
    assert len(done.stderr.splitlines()) == 1 and "originality[explore]" in done.stderr
