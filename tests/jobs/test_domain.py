"""The domain that a command uses if none is given: an error, or a default that is reported."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

import pytest

from jobs import audit
from jobs.auditing.audit_run import plan_audit
from jobs.auditing.prepare import PreparedAudit
from jobs.cli import main
from jobs.commandline import exits, options
from originality.settings.audit import AuditSettings, DomainMissing
from originality.settings.presets import load_settings
from tests.support.mean_colour import MeanColour, paint


@pytest.mark.parametrize("command", ["audit", "estimate"])
@pytest.mark.parametrize("preset", ["paper", "fast"])
def test_nothing_is_judged_without_a_domain(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str, preset: str
) -> None:
    out = tmp_path / "run"
    assert main([command, "examples", "--out", str(out), "--preset", preset]) == exits.BAD_SETTINGS
    (line,) = capsys.readouterr().err.splitlines()
    assert (
        "no domain is set" in line and "--domain" in line and "artwork (painting, templates of art)" in line
    )
    assert not out.exists()


def test_commands_that_judge_nothing_assume_a_domain_and_report_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    predict = ["estimate", "--predict", "--preset", "paper"]
    assert main(predict) == exits.ALL_JUDGED
    messages = capsys.readouterr()
    assert "houses" in messages.err and "--domain" in messages.err
    assert main([*predict, "--domain", "houses"]) == exits.ALL_JUDGED
    assert capsys.readouterr() == (messages.out, "")
    paint(tmp_path, "a.png", (1, 2, 3))
    assert main(["audit", str(tmp_path), "--dry-run", "--preset", "fast"]) == exits.ALL_JUDGED
    assert "houses" in capsys.readouterr().err


def test_a_resumed_run_keeps_its_domain(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="jobs")
    paint(tmp_path / "in", "a.png", (1, 2, 3))
    out = str(tmp_path / "run")
    begun = load_settings("paper", None, {"domain": "people"})
    plan_audit(PreparedAudit(begun, MeanColour, {}), str(tmp_path / "in"), out)

    def settings(*argv: str, run: str | None = out) -> AuditSettings:
        parser = argparse.ArgumentParser()
        audit.add_arguments(parser)
        return options.settings_of(parser.parse_args(["in", *argv]), run=run)

    assert settings("--preset", "paper") == begun
    assert "people" in caplog.text and out in caplog.text
    caplog.clear()
    assert settings("--preset", "paper", "--domain", "sport").domain == "sport"
    assert settings().domain == "shapes", "the default preset's metric reads nothing else"
    assert not caplog.records
    for other in (None, str(tmp_path / "new")):
        with pytest.raises(DomainMissing):
            settings("--preset", "paper", run=other)


def test_a_calibration_requires_a_domain_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [f"{i}.png,{('common', 'original')[i % 2]}" for i in range(8)]
    (tmp_path / "list.csv").write_text("\n".join(["uri,label", *rows]))
    argv = ["calibrate", str(tmp_path / "list.csv"), "--out", str(tmp_path / "mine.yaml")]
    assert main([*argv, "--preset", "paper"]) == exits.BAD_SETTINGS
    assert "--domain" in capsys.readouterr().err
