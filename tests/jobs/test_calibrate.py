"""Calibration from a labelled list to a file of settings that an audit takes."""

from __future__ import annotations

import argparse
import csv
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image

from cluster.inputs.identities import image_id_of
from cluster.run.folder import RunMismatch, open_run, plan
from cluster.storage.store import open_store
from jobs.audit import add_arguments
from jobs.auditing.audit_run import audit, identity
from jobs.auditing.prepare import PreparedAudit, prepare
from jobs.calibrate import NO_USE
from jobs.cli import main
from jobs.commandline import exits
from jobs.commandline.options import settings_of
from originality.evaluation.verdict import Attempt, judge
from originality.experiments.held_out import query
from originality.settings.audit import AuditSettings
from originality.settings.presets import load_settings
from originality.sweep.preflight import preflight
from tests.support.joined_inputs import inputs
from tests.support.mean_colour import MeanColour, paint

SHORT = (
    *("--set", "inversion.steps=2", "--set", "inversion.batch_size=2", "--set", "redraw.count=2"),
    *("--set", "redraw.steps=2", "--device", "cpu"),
)


def listed(folder: Path, rows: list[tuple[str, str]], column: str = "label") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "list.csv"
    with file.open("w", newline="") as handle:
        csv.writer(handle).writerows([("uri", column), *rows])
    return file


def motifs(folder: Path, count: int) -> list[tuple[str, str]]:
    """Images of motifs that the model that ships knows (common), and never saw (original)."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for group, label in (("familiar", "common"), ("unseen", "Original ")):
        for k in range(count):
            query(group, k).image().save(folder / f"{group}-{k}.png")
            rows.append((f"{group}-{k}.png", label))
    return rows


def output(capsys: pytest.CaptureFixture[str], *argv: object) -> str:
    """The one line on stderr of a command with exit code 2."""
    capsys.readouterr()
    assert main([str(a) for a in argv]) == exits.BAD_SETTINGS
    (line,) = capsys.readouterr().err.splitlines()
    return line


def settings_given(*argv: object) -> AuditSettings:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return settings_of(parser.parse_args([str(a) for a in argv]))


@pytest.mark.long
def test_from_the_list_to_an_audit_with_its_thresholds(
    tmp_path: Path, local_ray: None, capsys: pytest.CaptureFixture[str]
) -> None:
    """The whole way with the model that ships, at next to no work, so that nothing can be told apart: the
    file is written and says so."""
    rows = motifs(tmp_path, 3)
    paint(tmp_path, "unseen-2.png", (90, 90, 90))
    (tmp_path / "text.png").write_text("no image")
    source = listed(tmp_path, [*rows, ("text.png", "common"), ("absent.png", "original")])
    out = tmp_path / "made" / "cal.yaml"
    command = ["calibrate", str(source), "--out", str(out), *SHORT]
    assert main(command) == NO_USE
    shown = capsys.readouterr()
    assert re.findall(r"\d+", shown.out.splitlines()[0])[:3] == ["3", "3", "2"]  # common, original, left out
    assert "1 of 6 sampled images" in shown.err
    assert "1 missing, 1 not-an-image" in shown.out and shown.out.splitlines()[-1] == str(out)
    assert shown.err.count(" WARNING ") >= 2 and "3 common images" in shown.err
    text = out.read_text()
    assert "# WARNING: " in text and "# model shapes" in text
    assert text.startswith(f"# originality calibrate {source} --out {out} --label-column label")
    values = yaml.safe_load(text)
    assert set(values) == {"distance", "in_distribution", "calibration"}
    run = open_run(str(tmp_path / "made" / "cal.run"))
    distances = [row["sweep"][0]["distance_mean"] for row in inputs(run) if row["status"] == "judged"]
    assert values["distance"] == {"metric": "elements", "threshold": min(distances[3:])}
    assert all([a["tokens"] for a in row["sweep"]] == [1] for row in inputs(run) if row.get("sweep"))
    picture = Image.open(out.with_suffix(".png"))
    assert picture.format == "PNG" and picture.size[0] > 1000

    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "made" / "cal.run").glob("verdicts/*")}
    assert main([*command, "--false-common", "0.4"]) == NO_USE  # nothing is measured again
    assert "sampled images" not in capsys.readouterr().err
    assert before == {p: p.stat().st_mtime_ns for p in (tmp_path / "made" / "cal.run").glob("verdicts/*")}
    again = yaml.safe_load(out.read_text())
    assert again["distance"]["threshold"] == sorted(distances[3:])[1]
    capsys.readouterr()

    audited = settings_given("in", *SHORT, "--config", out)
    science = replace(prepare(audited), factory=MeanColour)
    warned = capsys.readouterr().err.splitlines()
    assert len(warned) == 1 and "includes 0.5" in warned[0]
    source, folder = str(paint(tmp_path / "in", "1.png", (1, 1, 1)).parent), str(tmp_path / "run")
    assert audit(science, source, folder) == exits.ALL_JUDGED
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["calibration"]["labels_digest"] == again["calibration"]["labels_digest"]
    assert summary["calibration_doubts"] == science.doubts
    # a run can be resumed with and without the file, as long as the thresholds are the same
    alone = replace(science, settings=audited.model_copy(update={"calibration": None}), doubts=())
    assert audit(alone, source, folder) == exits.ALL_JUDGED
    assert audit(science, source, folder) == exits.ALL_JUDGED
    with pytest.raises(RunMismatch, match=r"settings\.distance\.threshold"):
        audit(replace(science, settings=settings_given("in", *SHORT)), source, folder)


def finished_run(source: Path, out: Path, settings: AuditSettings, distances: dict[str, float]) -> None:
    """A run folder in which every image of a list has been judged, with these distances at one token."""
    run = plan(
        str(source),
        open_store(str(out)),
        identity(PreparedAudit(settings, dict, preflight(settings)), str(source)),
    )
    for number in range(len(run.manifest)):
        image_id = image_id_of(Path(run.manifest.uri(number)).read_bytes())
        distance = distances[Path(run.manifest.uri(number)).name]
        first = Attempt(
            tokens=1,
            distance_mean=distance,
            distance_sem=0.01,
            redraws=20,
            editability=1.0 + distance / 10,
            editable=True,
            passed=distance < settings.distance.threshold,
            inversion_steps=1,
            unet_samples=1,
            seconds=1.0,
        )
        verdict = judge(image_id, [first], max_tokens=5, model="shapes", settings_digest=settings.digest())
        run.identities.learn(number, image_id)
        run.ledger.commit(image_id, verdict.row(), {})
    run.identities.save()


@pytest.fixture
def audited(tmp_path: Path) -> tuple[Path, Path]:
    """A labelled list of forty images, and a finished audit of it with other thresholds and five tokens."""
    rows, distances = [], {}
    for k in range(20):
        for label, base in (("COMMON", 0.1), ("original", 0.5)):
            name = f"{label}-{k}.png"
            Image.new("RGB", (8, 8), (k, len(label), 0)).save(tmp_path / name)
            rows.append((name, label))
            distances[name] = base + k / 100
    source = listed(tmp_path, rows)
    finished_run(source, tmp_path / "run", load_settings(flags={"model": {"device": "cpu"}}), distances)
    return source, tmp_path / "run"


def test_a_finished_audit_serves_and_a_matching_audit_gets_no_warning(
    tmp_path: Path, audited: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    source, run = audited
    out = tmp_path / "cal.yaml"
    command = ["calibrate", str(source), "--out", str(out), "--run", str(run)]  # on whichever device
    assert main(command) == exits.ALL_JUDGED
    shown = capsys.readouterr()
    assert "WARNING" not in shown.err and "left out" not in shown.out
    assert "0.5" in shown.out
    own = tmp_path / "own.yaml"
    own.write_text("preset: laptop\nmodel: {device: cpu}\nmax_tokens: 2\ncluster: {max_workers: 1}\n")
    settings = settings_given("in", "--config", own, "--config", out)
    assert settings.distance.threshold == 0.51  # one of twenty may be under it
    assert settings.in_distribution.threshold == 1.011  # nineteen of twenty reach it
    assert settings.max_tokens == 2 and settings.calibration is not None
    assert settings.calibration.auc == (1.0, 1.0, 1.0) and settings.calibration.common == 20
    assert prepare(settings).doubts == [] and capsys.readouterr().err == ""
    overridden = settings_given("in", "--config", out, "--set", "distance.threshold=0.2")
    assert len(prepare(overridden).doubts) == 1
    warned = capsys.readouterr().err
    assert "distance.threshold is 0.2" in warned and "0.51" in warned

    lines = source.read_text().splitlines(keepends=True)
    source.write_text("".join(lines[:-1]))
    assert "--run" in output(capsys, *command)
    source.write_text("".join(lines).replace("original-3.png,original", "original-3.png,common"))
    assert main(command) == exits.ALL_JUDGED  # a label that was put right needs nothing measured again
    assert "21 common and 19 original" in capsys.readouterr().out


def test_an_image_with_both_labels_counts_for_neither(
    tmp_path: Path, audited: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    source, _ = audited
    (tmp_path / "COMMON-1.png").write_bytes((tmp_path / "original-1.png").read_bytes())
    (tmp_path / "COMMON-2.png").write_bytes((tmp_path / "COMMON-3.png").read_bytes())
    names = {p.name: 0.3 for p in tmp_path.glob("*.png")}
    finished_run(source, tmp_path / "other", load_settings(flags={"model": {"device": "cpu"}}), names)
    out = ["--out", str(tmp_path / "c.yaml"), "--run", str(tmp_path / "other"), "--device", "cpu"]
    assert main(["calibrate", str(source), *out]) == NO_USE
    messages = capsys.readouterr().out.splitlines()[0]
    assert messages.startswith("18 common and 19 original") and messages.endswith("(1 with both labels)")


BAD: list[tuple[list[tuple[str, str]], str]] = [
    ([("a.png", "common"), ("b.png", "rare")], "row 2 is 'rare'"),
    ([("a.png", "common"), ("b.png", "")], "row 2 is ''"),
    ([("a.png", "common")] * 4, "no usable original images"),
    ([("a.png", "common")] * 4 + [("b.png", "original")], "1 usable original image"),
    ([("s3://key:secret@bucket/a", "common")], "row 1"),
]


@pytest.mark.parametrize(("rows", "message"), BAD)
def test_invalid_lists_are_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], rows: list[tuple[str, str]], message: str
) -> None:
    line = output(capsys, "calibrate", listed(tmp_path, rows), "--out", tmp_path / "c.yaml")
    assert message in line and "secret" not in line
    assert not (tmp_path / "c.run").exists() and not (tmp_path / "c.yaml").exists()


def test_invalid_arguments_are_refused_before_any_measurement(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [(f"{k}.png", label) for k in range(3) for label in ("common", "original")]
    source = listed(tmp_path, rows, "kind")
    out = ["--out", tmp_path / "c.yaml"]
    line = output(capsys, "calibrate", source, *out)
    assert "'label'" in line and "uri, kind" in line and "--label-column" in line
    assert ".parquet" in output(capsys, "calibrate", tmp_path, *out)
    named = ["calibrate", source, "--label-column", "kind"]
    assert ".yaml" in output(capsys, *named, "--out", tmp_path / "c.png")
    assert ".yaml" in output(capsys, *named, "--out", "s3://bucket/c.yaml")
    assert "--false-common 1" in output(capsys, *named, *out, "--false-common", 1)
    assert "--kept 0" in output(capsys, *named, *out, "--kept", 0)
    assert "--max-tokens" in output(capsys, *named, *out, "--max-tokens", 3)
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    assert "--run" in output(capsys, *named, *out)
    monkeypatch.delenv("RAY_ADDRESS")
    parquet = tmp_path / "list.parquet"
    table: dict[str, Any] = {"path": [name for name, _ in rows], "label": ["common", "new"] * 3}
    pq.write_table(pa.table(table), parquet)
    assert "row 2 is 'new'" in output(capsys, "calibrate", parquet, *out)
    assert str(tmp_path / "none") in output(capsys, *named, *out, "--model", tmp_path / "none")
    assert not (tmp_path / "c.run").exists()
