"""What jobs print has no secret in it, and nothing that a terminal would obey, whatever names and messages
hold."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.driver.progress import Progress
from cluster.inputs.identities import image_id_of
from cluster.run.folder import RunFolder, plan
from cluster.storage.store import open_store
from jobs.cli import main
from jobs.commandline import exits
from originality.contract.config import SettingsError
from originality.contract.printable import printable_streams
from tests.support.mean_colour import paint
from tests.support.places import ROOT
from tests.support.waiting import PATIENCE

HOSTILE = "\x1b[2J\x9b3J\x07\r\u202egnp\u2066\u200b\u2028\x7f"
SHOWN = "\\x1b[2J\\x9b3J\\x07\\r\\u202egnp\\u2066\\u200b\\u2028\\x7f"
SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"


def raw(text: str) -> list[str]:
    """Hostile characters that occur in a text."""
    return [char for char in HOSTILE if not char.isprintable() and char in text.replace("\r\n", "\n")]


@pytest.fixture
def run(tmp_path: Path) -> Iterator[RunFolder]:
    """A run whose folder, images and records are hostile."""
    folder = tmp_path / f"in{HOSTILE}"
    paint(folder, f"a{HOSTILE}.png", (1, 1, 1))
    paint(folder, "é 漢.png", (2, 2, 2))
    (folder / f"x.{HOSTILE}").write_text("skipped")
    run = plan(str(folder), open_store(str(tmp_path / f"run{HOSTILE}")), {"model": f"m{HOSTILE}"})
    for number, file in enumerate(sorted(folder.glob("*.png"))):
        image_id = image_id_of(file.read_bytes())
        run.identities.learn(number, image_id)
        record = {"status": "failed", "error_class": f"E{HOSTILE}", "error_message": f"{HOSTILE} {SECRET}"}
        run.ledger.commit(image_id, record, {})
    run.identities.save()
    yield run


@pytest.mark.parametrize(
    "command", [["status"], ["status", "--json"], ["report"], ["retry", "--status", "failed"]]
)
def test_names_with_control_characters_are_printed_as_plain_text(
    command: list[str], run: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([command[0], run.store.url, *command[1:]]) == exits.ALL_JUDGED
    printed = capsys.readouterr()
    assert not raw(printed.out + printed.err) and SECRET not in printed.out + printed.err
    if "--json" in command:
        assert json.loads(printed.out)["run"] == run.store.url
        assert json.loads(printed.out)["errors"] == {f"E{HOSTILE}": 2}
    elif command[0] != "report":
        assert SHOWN in printed.out


def test_a_report_shows_no_secret_of_a_record(run: RunFolder) -> None:
    assert main(["report", run.store.url]) == exits.ALL_JUDGED
    page = run.store.read("report/index.html").decode()
    assert SECRET not in page and not raw(page)


def test_a_dry_run_of_hostile_names_is_plain_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / f"in{HOSTILE}"
    paint(folder, "é 漢 👩\u200d🚀.png", (1, 1, 1))
    (folder / f"bad{HOSTILE}.png").write_text("text")
    (folder / f"x.{HOSTILE}").write_text("skipped")
    (folder / f"{HOSTILE}.csv").write_text("skipped")
    assert main(["audit", str(folder), "--dry-run"]) == exits.SOME_UNJUDGED
    printed = capsys.readouterr()
    assert not raw(printed.out + printed.err)
    assert "not-an-image" in printed.out


@pytest.mark.parametrize(
    "command",
    [
        ["status", f"none{HOSTILE}"],
        ["audit", f"none{HOSTILE}", "--dry-run"],
        ["audit", ".", f"--{HOSTILE}"],
        [f"audi{HOSTILE}"],
        ["audit", ".", "--out", "x", "--set", f"a{HOSTILE}=1"],
        ["audit", ".", "--out", "x", "--config", f"http://joe:{SECRET}@host/"],
    ],
    ids=range(6),
)
def test_errors_are_plain_text(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    try:
        code: object = main(command)
    except SystemExit as stop:
        code = stop.code
    assert code == exits.BAD_SETTINGS
    printed = capsys.readouterr()
    assert printed.err and not raw(printed.out + printed.err) and SECRET not in printed.err


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_live_view_and_what_is_printed_beside_it_are_plain_text(monkeypatch: pytest.MonkeyPatch) -> None:
    """rich writes escape sequences itself, so the text given to it must hold none."""
    monkeypatch.setenv("TERM", "xterm")
    out, before = Terminal(), (sys.stdout, sys.stderr)
    monkeypatch.setattr(sys, "stderr", out)
    monkeypatch.setattr(sys, "stdout", out)
    with printable_streams():
        progress = Progress(2, sys.stderr)
        progress.show(f"loading {HOSTILE} {SECRET}")
        progress.show(f"a worker died: {HOSTILE} {SECRET}", now=True)
        print(f"beside {HOSTILE} {SECRET}")
        sys.stderr.write(f"beside {HOSTILE} {SECRET}\n")
        progress.close()
    monkeypatch.undo()
    assert (sys.stdout, sys.stderr) == before
    drawn = out.getvalue()
    assert "\x1b[" in drawn  # rich's own
    assert SECRET not in drawn and "\x1b[2J" not in drawn
    assert not set(raw(drawn)) - {"\x1b", "\r"}
    assert drawn.count(SHOWN) >= 3


def test_lines_of_progress_are_plain_text() -> None:
    out = io.StringIO()
    progress = Progress(1, out)
    progress.show(f"a worker died: {HOSTILE} {SECRET}", now=True)
    assert SHOWN in out.getvalue() and not raw(out.getvalue()) and SECRET not in out.getvalue()


def test_an_error_is_printed_without_secrets(capsys: pytest.CaptureFixture[str]) -> None:
    def job() -> int:
        raise SettingsError(f"refused: {HOSTILE} {SECRET}")

    assert exits.run(job) == exits.BAD_SETTINGS
    assert capsys.readouterr().err == f"originality: refused: {SHOWN} ***\n"


def test_a_traceback_is_printed_without_secrets() -> None:
    """The error is a bug of this program."""
    code = (
        "from jobs.commandline import process; process.begin()\n"
        f"raise KeyError('refused: \\x1b[2J {SECRET}\\u202e') from OSError('{SECRET}')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, timeout=PATIENCE)
    messages = done.stderr.decode()
    assert done.returncode == 1 and "Traceback" in messages and "KeyError" in messages
    assert SECRET not in messages and not raw(messages)
