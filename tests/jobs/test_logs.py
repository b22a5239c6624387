from __future__ import annotations

import argparse
import io
import logging
import subprocess
import sys
from pathlib import Path

import pytest

from jobs.commandline import logs
from tests.support.mean_colour import paint


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_elsewhere_plain_lines(capsys: pytest.CaptureFixture[str]) -> None:
    logs.set_up("info")
    logging.getLogger("jobs.audit").warning("look at %s", "this")
    logging.getLogger("jobs.audit").debug("unseen")
    shown = capsys.readouterr()
    assert shown.out == "" and shown.err.count("\n") == 1
    assert " WARNING " in shown.err and shown.err.endswith(": look at this\n")


def test_on_a_terminal_the_level_and_the_message(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    logs.set_up("info")
    logging.getLogger("cluster").warning("look at [this]")
    assert "WARNING" in terminal.getvalue() and "look at [this]" in terminal.getvalue()


def test_log_levels_are_checked() -> None:
    parser = argparse.ArgumentParser(exit_on_error=False)
    logs.add_level(parser)
    assert parser.parse_args([]).log_level == "info"
    with pytest.raises(argparse.ArgumentError):
        parser.parse_args(["--log-level", "loud"])


SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"


def log_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    """An error with a secret of the environment and a terminal command in its message."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    try:
        raise ValueError(f"refused \x1b[31m {SECRET}")
    except ValueError:
        logging.getLogger("cluster").exception("failed")


def test_a_traceback_on_a_terminal_holds_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    logs.set_up("info")
    log_failure(monkeypatch)
    shown = terminal.getvalue()
    assert "Traceback" in shown and SECRET not in shown and "\x1b[31m ***" not in shown


def test_a_traceback_elsewhere_has_lines_and_no_secret(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    logs.set_up("info")
    log_failure(monkeypatch)
    shown = capsys.readouterr().err
    assert shown.count("\n") > 4 and SECRET not in shown and "\x1b" not in shown


def test_no_handler_of_the_root_repeats_a_record(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = seen.append  # type: ignore[method-assign]
    monkeypatch.setattr(logging.getLogger(), "handlers", [handler])
    logs.set_up("info")
    logging.getLogger("jobs.audit").warning("look")
    assert seen == []


def test_a_command_that_python_runs_as_a_module_logs_too(tmp_path: Path) -> None:
    """Its module is then called __main__, as ``ray job submit`` starts it."""
    paint(tmp_path / "in", "a.png", (1, 2, 3))
    command = [sys.executable, "-m", "jobs.detect", str(tmp_path / "in"), "--out", str(tmp_path / "found")]
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=True)
    assert " INFO " in done.stderr.splitlines()[-1]
