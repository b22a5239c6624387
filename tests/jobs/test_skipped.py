"""Skipped files, notes on images and rows without a URI, as the audit, status and report show them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cluster.run.folder import open_run
from cluster.settings import ClusterSettings
from jobs import retry, status
from jobs.auditing.audit_run import audit
from jobs.auditing.prepare import PreparedAudit
from jobs.cli import main
from jobs.commandline import exits
from originality.settings.presets import load_settings
from tests.support.image_bytes import noise, saved
from tests.support.joined_inputs import inputs
from tests.support.mean_colour import MeanColour

SCIENCE = PreparedAudit(load_settings(), MeanColour, {})
SAID = "skipped 12 files: 8 .txt, 3 .json, 1 .mov"


def fill(folder: Path) -> None:
    folder.mkdir()
    for ending, count in ((".txt", 8), (".json", 3), (".MOV", 1)):
        for number in range(count):
            (folder / f"{number}{ending}").write_text("no image")
    (folder / "whole.jfif").write_bytes(saved(noise(), "JPEG"))
    (folder / "no-end.jpg").write_bytes(saved(noise(width=61), "JPEG")[:-2])


def test_skipped_files_and_notes_at_the_audit_in_status_and_report(
    tmp_path: Path, local_ray: None, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    fill(tmp_path / "in")
    out = str(tmp_path / "run")
    how = ClusterSettings(max_pixels=60 * 40)
    assert audit(SCIENCE, f"{tmp_path}/in", out, how=how) == exits.SOME_UNJUDGED
    assert SAID in caplog.text
    (large,) = [row for row in inputs(open_run(out)) if row["status"] == "rejected"]
    assert large["error_class"] == "too-large" and "(cluster.max_pixels)" in large["error_message"]
    assert retry.main([out, "--status", "rejected", "--reason", "too-large"]) == 0
    assert audit(SCIENCE, f"{tmp_path}/in", out) == exits.ALL_JUDGED
    rows = {row["path"]: row for row in inputs(open_run(out))}
    assert "lacks its end marker" in rows["no-end.jpg"]["note"] and rows["whole.jfif"]["note"] is None
    capsys.readouterr()
    assert status.main([out]) == 0
    shown = capsys.readouterr().out
    assert SAID in shown and "notes: the JPEG lacks" in shown
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert (summary["skipped_files"], summary["skipped_kinds"][".txt"]) == (12, 8)
    assert "12 files: 8 .txt, 3 .json, 1 .mov" in (tmp_path / "run" / "report" / "index.html").read_text()


def test_rows_of_a_list_without_a_uri_are_rows_of_the_run(tmp_path: Path, local_ray: None) -> None:
    fill(tmp_path / "in")
    (tmp_path / "list.csv").write_text("Uri,label\nin/whole.jfif,1\n,2\n,3\n")
    assert audit(SCIENCE, f"{tmp_path}/list.csv", str(tmp_path / "run")) == exits.SOME_UNJUDGED
    rows = [(row["status"], row.get("error_class")) for row in inputs(open_run(str(tmp_path / "run")))]
    assert rows == [("judged", None), ("failed", "missing"), ("failed", "missing")]


def test_a_dry_run_has_the_audits_limits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fill(tmp_path / "in")
    command = ["audit", f"{tmp_path}/in", "--dry-run", "--set", "cluster.max_pixels=2400"]
    assert main(command) == exits.SOME_UNJUDGED
    shown = capsys.readouterr()
    assert "'no-end.jpg': too-large: 61 x 40" in shown.out and "cluster.max_pixels" in shown.out
    assert SAID in shown.err
