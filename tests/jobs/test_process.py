"""Commands as a shell starts them, in unusual environments: each ends in one line, not a traceback."""

from __future__ import annotations

import errno
import importlib.util
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest

from cluster.inputs.identities import image_id_of
from cluster.run.folder import RunFolder, plan
from cluster.storage.heartbeat import Heartbeat
from cluster.storage.store import open_store
from jobs.cli import main
from jobs.commandline import exits, process
from tests.support.mean_colour import paint
from tests.support.places import ROOT
from tests.support.waiting import PATIENCE, until

NO_UTF8 = {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "C", "LANG": "C"}
NO_PLACE = "/proc/1"
"""A folder where nobody can create a file, not even root."""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunFolder]:
    """A run of one image with a non-ASCII name, and a driver that works on it."""
    folder = tmp_path_factory.mktemp("process")
    paint(folder / "in", "bild·ü.png", (1, 1, 1))
    run = plan(str(folder / "in"), open_store(str(folder / "run")), {"model": "m"})
    image_id = image_id_of((folder / "in" / "bild·ü.png").read_bytes())
    run.identities.learn(0, image_id)
    run.ledger.commit(image_id, {"status": "rejected", "error_class": "empty"}, {})
    run.identities.save()
    state = {"inputs": 1, "done": 1, "workers": 4, "per_hour": 7200.0, "seconds_left": 30, "cost": 1.5}
    heartbeat = Heartbeat(run.store, "audit")
    heartbeat.update(state)
    with heartbeat:
        yield run


@dataclass(frozen=True)
class Case:
    """A shell command line, where ``$O`` is the command and ``$RUN`` a run folder, and how it must end."""

    line: str
    code: int = 0
    output: str = ""
    """Token in its output or errors."""
    environment: dict[str, str] = field(default_factory=dict)


CASES = {
    "a terminal of ASCII": Case("$O status $RUN", 0, "1/1 done - 4 workers", {"PYTHONIOENCODING": "ascii"}),
    "a terminal of Latin-1": Case("$O status $RUN", 0, "$1.50", {"PYTHONIOENCODING": "latin-1"}),
    "a locale without UTF-8": Case("$O audit $RUN/../in --dry-run", 0, "1 distinct images", NO_UTF8),
    "a name in such a locale": Case("$O audit $RUN/../in/bild·ü.png --dry-run", 0, "1 inputs", NO_UTF8),
    "numbers with a comma": Case(
        "$O status $RUN", 0, "$1.50", {"LC_ALL": "de_DE.UTF-8", "LC_NUMERIC": "de_DE.UTF-8"}
    ),
    "no home": Case("env -u HOME $O status $RUN"),
    "a home that cannot be written": Case("$O status $RUN", environment={"HOME": NO_PLACE}),
    "output that nobody reads": Case("$O status $RUN | true; exit ${PIPESTATUS[0]}", exits.OUTPUT_CLOSED),
    "errors that nobody reads": Case(
        "{ $O audit $RUN/../in --dry-run >/dev/null; echo $? >&3; } 3>&1 2>&1 | cat"
    ),
    "closed output": Case("$O status $RUN >&-"),
    "closed errors": Case("$O status $RUN/none 2>&-", 2),
    "closed input": Case("$O status $RUN <&-"),
    "all closed": Case("$O status $RUN <&- >&- 2>&-"),
    "a full disk behind the output": Case("$O status $RUN >/dev/full", 2, "No space left on device"),
    "a folder that was deleted": Case(
        "mkdir $TMP/gone && cd $TMP/gone && rmdir $TMP/gone && $O status $RUN",
        2,
        "current folder",
    ),
    "its version there": Case(
        "cd $TMP && mkdir x && cd x && rmdir $TMP/x && $O --version", 0, "originality "
    ),
    "a place that cannot be written": Case(f"$O audit $RUN/../in --out {NO_PLACE}/x", 2, NO_PLACE),
    "a file as a place": Case("$O audit $RUN/../in --out $RUN/run.json", 2, "run.json"),
    "no price": Case(
        "$O audit $RUN/../in --out $TMP/out --max-cost 1 --device cpu && ls $TMP/out",
        2,
        "CPU",
    ),
    "an address of jobs": Case(
        "$O audit $RUN/../in --out $TMP/out", 2, "ray job submit --address", {"RAY_ADDRESS": "http://h:8265"}
    ),
    "a missing temporary folder": Case(
        "$O audit $RUN/../in --out $TMP/out",
        2,
        "/tmp/none/of/these",
        {"RAY_TMPDIR": "/tmp/none/of/these"},
    ),
    "nothing": Case("$O", 2, "audit, "),
    "half a word": Case("$O stat", 2, "'status'"),
    "half a word within": Case("$O synthetic rendr", 2, "'render'"),
    "a folder that is no run": Case(
        "$O status $TMP; $O report $TMP; $O retry $TMP --status failed", 2, "--out"
    ),
    "as a module": Case("$PYTHON -m jobs.status $RUN/none", 2, "/none"),
    "a command's version": Case("$O status --version && $O synthetic render --version", 0, "originality "),
    "its version": Case("$PYTHON -m jobs.audit --version", 0, "originality "),
}


@pytest.mark.parametrize("name", CASES)
def test_a_command_ends_with_its_exit_code_and_no_traceback(
    name: str, run: RunFolder, tmp_path: Path
) -> None:
    case = CASES[name]
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "PYTHON": sys.executable,
        "O": str(Path(sys.executable).with_name("originality")),
        "RUN": run.store.url,
        "TMP": str(tmp_path),
        **case.environment,
    }
    done = subprocess.run(
        ["bash", "-c", case.line], env=environment, capture_output=True, encoding="latin-1", timeout=PATIENCE
    )
    messages = done.stdout + done.stderr
    assert "Traceback" not in messages and "Exception ignored" not in messages, messages
    assert done.returncode == case.code and case.output in messages, messages
    if case.code == exits.BAD_SETTINGS:
        assert all(line.startswith("originality: ") for line in done.stderr.splitlines()), messages
    assert not (tmp_path / "out").exists()


def test_help_and_version_import_nothing_heavy() -> None:
    code = (
        "import sys; from jobs.cli import main\n"
        "for flag in ('--help', '--version'):\n"
        "    try: main([flag])\n"
        "    except SystemExit as stop: assert stop.code == 0\n"
        "heavy = {'torch', 'ray', 'numpy', 'pyarrow', 'cluster', 'originality'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, timeout=PATIENCE)


def interrupted(
    command: list[str], environment: dict[str, str], when: Callable[[int], bool]
) -> tuple[int, str]:
    """Exit code and stderr of a command that gets Ctrl-C as soon as its process reaches a given state."""
    child = subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, **environment},
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    until(lambda: when(child.pid), child, every=0.005)
    child.send_signal(signal.SIGINT)
    _, errors = child.communicate(timeout=PATIENCE)
    return child.returncode, errors


@pytest.mark.parametrize("library", ["_pydantic_core", "/ray/_raylet", "libarrow", "libtorch_cpu"])
@pytest.mark.parametrize("how", [["-m", "jobs.audit"], ["-m", "jobs.cli", "audit"]])
def test_an_interrupt_while_it_imports_is_one_line(library: str, how: list[str], tmp_path: Path) -> None:
    """Each time when a library has just been mapped: its import is under way, or the next one."""

    def mapped(pid: int) -> bool:
        return library in Path(f"/proc/{pid}/maps").read_text()

    paint(tmp_path / "in", "0.png", (1, 1, 1))
    command = [sys.executable, *how, str(tmp_path / "in"), "--out", str(tmp_path / "run")]
    code, errors = interrupted(command, {}, mapped)
    *before, line = errors.splitlines()
    assert code == 130 and line.startswith("originality: interrupted; ")
    assert all(" WARNING " in output for output in before) and not (tmp_path / "run").exists()


def failed_import(package: Path, code: str) -> BaseException:
    """Exception raised by the import of a module with this code."""
    package.mkdir()
    (package / "__init__.py").write_text(code)
    spec = importlib.util.spec_from_file_location(package.name, package / "__init__.py")
    assert spec and spec.loader
    try:
        spec.loader.exec_module(importlib.util.module_from_spec(spec))
    except Exception as error:
        return error
    raise AssertionError("it was imported")


@pytest.mark.parametrize(
    ("code", "output"),
    [
        ("import yaml_that_is_not_here", "pip install 'yaml_that_is_not_here'"),
        ("raise ModuleNotFoundError('No module named PIL', name='PIL')", "pip install 'pillow'"),
        ("raise ModuleNotFoundError('No module', name='pillow_heif')", "'originality[heif]'"),
        ("raise ImportError('libcudart.so.13: cannot open')", "libcudart.so.13"),
        ("raise ValueError('numpy.dtype size changed')", "--force-reinstall 'broken'"),
        ("import torch.no_such_part", "--force-reinstall 'broken'"),
    ],
)
def test_a_failed_import_names_the_package(code: str, output: str, tmp_path: Path) -> None:
    messages = process.import_failure(failed_import(tmp_path / "broken", code))
    assert messages is not None and output in messages


def test_other_errors_do_not_count_as_failed_imports() -> None:
    try:
        raise KeyError("x")
    except KeyError as error:
        assert process.import_failure(error) is None
    assert process.import_failure(ModuleNotFoundError("ours", name="cluster")) is None


@pytest.mark.parametrize("module", ["jobs.cli", "jobs.audit"])
def test_a_missing_package_is_named(module: str, tmp_path: Path) -> None:
    """The package exists, but its import raises like that of a missing one."""
    (tmp_path / "pyarrow.py").write_text(
        "raise ModuleNotFoundError('No module named pyarrow', name='pyarrow')\n"
    )
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    done = subprocess.run(
        [sys.executable, "-m", module, *(["audit"] if module == "jobs.cli" else []), "in", "--dry-run"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == exits.BAD_SETTINGS
    assert done.stderr.startswith("originality: ") and done.stderr.endswith(" pip install 'pyarrow'\n")
    assert done.stderr.count("\n") == 1


def test_an_error_of_the_disk_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    def job() -> int:
        raise OSError(errno.ENOSPC, "No space left on device", "/somewhere/file")

    assert exits.run(job) == exits.BAD_SETTINGS
    assert capsys.readouterr().err == "originality: /somewhere/file: No space left on device\n"


def test_status_for_programs(run: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", run.store.url, "--json"]) == exits.ALL_JUDGED
    messages: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert messages["run"] == run.store.url and messages["created_at"] == run.description["created_at"]
    counts = {"inputs": 1, "images": 1, "judged": 0, "rejected": 1, "failed": 0, "pending": 0}
    assert counts.items() <= messages.items() and messages["errors"] == {"empty": 1}
    (driver,) = messages["drivers"]
    assert {"alive": True, "role": "audit", "done": 1, "workers": 4, "cost": 1.5}.items() <= driver.items()
    assert driver["seconds_ago"] >= 0 and driver["pid"] == os.getpid()


LAST_MOMENT = """
import atexit, ctypes, sys
atexit.register(lambda: print("ending", flush=True))  # the last thing that Python does
sys.argv[0] = "originality"
from jobs.commandline import exits
libc = ctypes.CDLL(None)
libc.__cxa_atexit(libc.getchar, None, None)  # after Python's end, as libraries in C++ may take their time
sys.exit(exits.run(lambda: 3))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="by the C library's own atexit")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_at_the_last_moment_changes_no_exit_code(number: signal.Signals) -> None:
    job = subprocess.Popen(
        [sys.executable, "-c", LAST_MOMENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT
    )
    assert job.stdin and job.stdout and job.stdout.readline() == b"ending\n"
    until(lambda: psutil.Process(job.pid).status() != psutil.STATUS_RUNNING)
    job.send_signal(number)
    job.stdin.close()
    assert job.wait(PATIENCE) == 3
