"""The commands: settings from flags and files, dry runs, and run folders that are damaged or in progress."""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path

import pytest

from cluster.inputs.identities import image_id_of
from cluster.inputs.images import FORMATS
from cluster.run.folder import open_run, plan
from cluster.storage.heartbeat import Heartbeat
from cluster.storage.store import open_store
from jobs.audit import add_arguments
from jobs.auditing.verdict_table import SCHEMA, blank
from jobs.cli import main
from jobs.commandline import exits
from jobs.commandline.options import cluster_settings_of, settings_of
from originality.settings.audit import AuditSettings
from originality.settings.presets import load_settings
from tests.support.image_tables import hugging_face, parquet
from tests.support.mean_colour import paint
from tests.support.tars import header, padded, shard


def output(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    """The one line on stderr of a command with exit code 2."""
    try:
        code: object = main(argv)
    except SystemExit as stop:
        code = stop.code
    captured = capsys.readouterr()
    assert code == exits.BAD_SETTINGS, captured
    (line,) = captured.err.splitlines()
    assert line.startswith("originality: ") and captured.out == ""
    return line


def test_bad_settings_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, out = str(tmp_path), str(tmp_path / "run")
    audit = ["audit", source, "--out", out]
    config = tmp_path / "c.yaml"
    config.write_text("max_token: 3\n")
    cases: list[tuple[str, list[str]]] = [
        ("'max_tokens'", ["--config", str(config)]),
        ("max_tokens", ["--max-tokens", "0"]),
        ("'x'", ["--max-tokens", "x"]),
        ("'paper'", ["--preset", "papr"]),
        ("inversion.batch_size", ["--set", "inversion.batch_size=0"]),
        ("key.path=value", ["--set", "seed"]),
        ("'seed=[1'", ["--set", "seed=[1"]),
        ("'seed'", ["--set", "seed=1", "--set", "seed.x=1"]),
        ("none.yaml", ["--config", str(tmp_path / "none.yaml")]),
        ("--limit 0", ["--limit", "0"]),
        ("99999999999999h", ["--deadline", "99999999999999h"]),
        ("max_cost", ["--max-cost", "nan"]),
        ("'0,5'", ["--snapshot-every", "0,5"]),
        ("'seed=2026-99-01'", ["--set", "seed=2026-99-01"]),
    ]
    files = [
        ("UTF-8", b"\xff\xfes\x00"),
        ("UTF-8", b"domain: caf\xe9\n"),
        ("line 2", b"model:\n\tfit: pad\n"),
        ("line 3: 'seed'", b"seed: 1\nmax_tokens: 2\nseed: 2\n"),
        ("line 2: 'fit'", b"model: {fit: pad,\n  fit: crop}\n"),
        ("'key: value'", b"- 1\n"),
        ("month must be in 1..12", b"seed: 2026-99-01\n"),
        ("line 1: could not determine a constructor", b"seed: !!python/none x\n"),
        ("maximum recursion depth", b"[" * 5000),
    ]
    for number, (token, text) in enumerate(files):
        (tmp_path / f"{number}.yaml").write_bytes(text)
        cases.append((token, ["--config", str(tmp_path / f"{number}.yaml")]))
    for token, flags in cases:
        assert token in output(capsys, *audit, *flags)
    assert "--out" in output(capsys, "audit", source)
    assert "'audit'" in output(capsys, "audti", source)
    assert not Path(out).exists()


def test_bad_input_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    assert str(empty) in output(capsys, "audit", str(empty), "--dry-run")
    (empty / "a.txt").write_text("x")
    assert ".png" in output(capsys, "audit", str(empty), "--dry-run")
    assert str(tmp_path / "none") in output(capsys, "audit", str(tmp_path / "none"), "--dry-run")
    assert "ftp://" in output(capsys, "audit", "ftp://x/y", "--dry-run")
    for command in ("status", "report"):
        assert "--out" in output(capsys, command, str(empty))


SIGNED = "https://host.example/b/a.png?X-Amz-Signature=not-for-your-eyes"
KEYED = "s3://AKIA0:not-for-your-eyes@bucket/a"


@pytest.mark.parametrize("secret", [SIGNED, KEYED])
@pytest.mark.parametrize("place", ["input", "list", "out", "run", "model"])
def test_presigned_urls_and_keys_in_urls_are_refused_and_never_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], secret: str, place: str
) -> None:
    listed, out = tmp_path / "list.csv", tmp_path / "run"
    paint(tmp_path, "good.png", (1, 2, 3))
    listed.write_text(f"uri\ngood.png\n{secret}\n")
    command = {
        "input": ["audit", secret, "--out", str(out)],
        "list": ["audit", str(listed), "--out", str(out)],
        "out": ["audit", str(tmp_path / "good.png"), "--out", secret],
        "run": ["status", secret],
        "model": ["audit", str(tmp_path / "good.png"), "--out", str(out), "--model", secret],
    }[place]
    assert main(command) == exits.BAD_SETTINGS
    messages = capsys.readouterr()
    assert "not-for-your-eyes" not in messages.out + messages.err and "s3://" in messages.err
    assert place != "list" or "row 2" in messages.err
    assert not out.exists() or not any(out.iterdir())


def test_dry_run_lists_rejections(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paint(tmp_path, "good.png", (1, 2, 3))
    assert main(["audit", str(tmp_path), "--dry-run"]) == exits.ALL_JUDGED
    capsys.readouterr()
    (tmp_path / "bad \u202e'.png").write_text("text")
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "notes.txt").write_text("x")
    assert main(["audit", str(tmp_path), "--dry-run"]) == exits.SOME_UNJUDGED
    bad, empty, *counts, total = capsys.readouterr().out.splitlines()
    assert bad.startswith(""""bad \\u202e'.png": not-an-image: """) and ", ".join(FORMATS) in bad
    assert empty.startswith("'empty.png': empty: ") and counts == ["1 not-an-image", "1 empty"]
    assert re.findall(r"\d+", total) == ["3", "3", "2", "1"]  # inputs, images, rejected, skipped
    assert main(["audit", str(tmp_path), "--dry-run", "--unjudged-ok"]) == exits.ALL_JUDGED


def test_dry_run_of_a_webdataset(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = paint(tmp_path / "loose", "good.png", (1, 2, 3)).read_bytes()
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "0.tar").write_bytes(shard({"a.png": good, "bad.png": b"text", "a.npy": b"x"}))
    (tmp_path / "in" / "1.tar").write_bytes(header(b"same.png", len(good)) + padded(good))  # without an end
    assert main(["audit", str(tmp_path / "in"), "--dry-run"]) == exits.SOME_UNJUDGED
    captured = capsys.readouterr()
    bad, cut, *_, total = captured.out.splitlines()
    assert bad.startswith("'0.tar#bad.png': not-an-image: ")
    assert cut.startswith("'1.tar': unreadable: ") and cut.endswith("it was cut off")
    assert re.findall(r"\d+", total) == ["4", "3", "2", "1"]  # inputs, images, rejected, skipped
    assert "skipped 1 file: 1 .npy" in captured.err
    (tmp_path / "a.tar.gz").write_bytes(b"x")
    assert "decompress it to .tar" in output(capsys, "audit", str(tmp_path / "a.tar.gz"), "--dry-run")


def test_dry_run_of_parquet_with_images(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = paint(tmp_path / "loose", "good.png", (1, 2, 3)).read_bytes()
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "0.parquet").write_bytes(parquet(hugging_face([good, b"text", None], mask=[good] * 3)))
    (tmp_path / "in" / "1.parquet").write_bytes(b"PAR1")
    assert main(["audit", str(tmp_path / "in"), "--dry-run"]) == exits.SOME_UNJUDGED
    bad, empty, broken, *_, total = capsys.readouterr().out.splitlines()
    assert bad.startswith("'0.parquet#1': not-an-image: ") and empty.startswith("'0.parquet#2': missing: ")
    assert broken.startswith("'1.parquet': unreadable: ")
    assert re.findall(r"\d+", total) == ["4", "4", "3", "0"]  # inputs, images, rejected, skipped
    assert main(["audit", str(tmp_path / "in"), "--dry-run", "--image-column", "mask"]) == exits.SOME_UNJUDGED
    assert capsys.readouterr().out.splitlines()[0].startswith("'1.parquet': unreadable: ")
    refusal = output(capsys, "audit", str(tmp_path / "in"), "--dry-run", "--image-column", "x")
    assert "columns of images are image, mask" in refusal


def test_dry_run_of_a_list_with_another_delimiter(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paint(tmp_path, "a,b.png", (1, 2, 3))
    (tmp_path / "list.csv").write_text("uri^n\na,b.png^1\n")
    audit = ("audit", str(tmp_path / "list.csv"), "--dry-run")
    assert main([*audit, "--delimiter", "^"]) == exits.ALL_JUDGED
    capsys.readouterr()
    for wrong in ("ab", "", '"'):
        assert "--delimiter" in output(capsys, *audit, "--delimiter", wrong)
    assert "--delimiter" in output(capsys, "audit", str(tmp_path), "--dry-run", "--delimiter", "tab")


def test_flags_beat_file_beats_preset(tmp_path: Path) -> None:
    config = tmp_path / "c.yaml"
    config.write_text("preset: laptop\nseed: 3\nmax_tokens: 4\n")
    flags = ["--seed", "7", "--model", "m", "--domain", "houses", "--set", "inversion.steps=9"]
    settings = parsed("in", "--config", str(config), *flags)
    assert (settings.seed, settings.max_tokens) == (7, 4)
    assert (settings.model.path, settings.domain) == ("m", "houses")
    assert (settings.inversion.steps, settings.inversion.lanes) == (9, 3)


def test_settings_of_science_and_engine_come_from_all_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, two = tmp_path / "1.yaml", tmp_path / "2.yaml"
    one.write_text("seed: 3\nmax_tokens: 4\ncluster: {max_workers: 2, min_workers: 2}\n")
    two.write_text("seed: 5\ncluster: {max_workers: 7}\n")
    both = ["in", "--config", str(one), "--config", str(two)]
    assert (parsed(*both).seed, parsed(*both).max_tokens) == (5, 4)
    engine = cluster_settings_of(arguments_of(*both))
    assert (engine.max_workers, engine.min_workers) == (7, 2)
    assert cluster_settings_of(arguments_of(*both, "--max-workers", "9")).max_workers == 9
    two.write_text("cluster: 3\n")
    assert f"{two}: 'cluster'" in output(capsys, "audit", *both)


def arguments_of(*argv: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return parser.parse_args(argv)


def parsed(*argv: str) -> AuditSettings:
    return settings_of(arguments_of(*argv))


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    """A run folder with a row in a part and another in a record."""
    for i in range(2):
        paint(tmp_path / "in", f"{i}.png", (i, i, i))
    run = plan(str(tmp_path / "in"), open_store(str(tmp_path / "run")), {"model": "m"})
    row = {**blank(load_settings()), "status": "failed", "finished_at": "2026-01-01T00:00:00+00:00"}
    for number in range(2):
        image_id = image_id_of((tmp_path / "in" / f"{number}.png").read_bytes())
        run.identities.learn(number, image_id)
        run.ledger.commit(image_id, row, {})
        if number == 0:
            run.ledger.compact(SCHEMA)
    run.identities.save()
    return tmp_path / "run"


DAMAGES = pytest.mark.parametrize("damage", [b"", b"{", b"[]"])


@DAMAGES
@pytest.mark.parametrize("name", ["run.json", "manifest.parquet"])
def test_an_output_that_cannot_be_created_is_one_line_for_every_command(
    finished: Path, name: str, damage: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (finished / name).write_bytes(damage)
    run = str(finished)
    for command in (
        ["report", run],
        ["status", run, "--json"],
        ["retry", run, "--status", "failed"],
        ["tokens", "export", run, "--to", str(tmp_path / "words")],
        ["audit", str(tmp_path / "in"), "--out", run],
        ["estimate", str(tmp_path / "in"), "--out", run],
    ):
        line = output(capsys, *command)
        assert name in line and "--out" in line


@DAMAGES
@pytest.mark.parametrize(
    ("pattern", "counted"),
    [
        ("summary.json", "2 failed, 0 pending"),  # which counts nothing that is told
        ("inputs/*.parquet", "0 failed, 2 pending"),
        ("verdicts/*.parquet", "2 failed, 0 pending"),
        ("records/*/*.json", "1 failed, 1 pending"),  # the other one has its copy in the part
    ],
)
def test_damaged_files_are_named_and_stop_nothing(
    finished: Path, pattern: str, counted: str, damage: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    (finished / "summary.json").write_text("{}")
    for file in finished.glob(pattern):
        file.write_bytes(damage)
    assert main(["report", str(finished)]) == exits.ALL_JUDGED
    (line,) = capsys.readouterr().err.splitlines()
    name = next(name for name in line.split() if name.startswith(str(finished))).removeprefix(f"{finished}/")
    assert (finished / name).match(pattern)
    assert name in (finished / "report" / "index.html").read_text()
    assert main(["status", str(finished)]) == exits.ALL_JUDGED
    captured = capsys.readouterr()
    assert counted in captured.out
    assert (name in captured.out) == (pattern != "summary.json")
    assert main(["status", str(finished), "--json"]) == exits.ALL_JUDGED
    assert json.loads(capsys.readouterr().out)["damaged"] == ([] if pattern == "summary.json" else [name])
    assert main(["retry", str(finished), "--status", "failed"]) == exits.ALL_JUDGED


def test_rows_of_images_that_no_input_has_are_not_counted(
    finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An image that was written over after it was judged, say: its row stays, as it may come back."""
    ledger = open_run(str(finished)).ledger
    row = {"status": "judged", "min_tokens": 1, "censored": False, "error_class": "x", "note": "y"}
    ledger.commit("ab" * 32, row, {})
    for compacted in (False, True):
        if compacted:
            ledger.compact(SCHEMA)
        assert main(["status", str(finished), "--json"]) == exits.ALL_JUDGED
        output = json.loads(capsys.readouterr().out)
        assert (output["judged"], output["failed"], output["pending"], output["images"]) == (0, 2, 0, 2)
        assert output["min_tokens"] == output["errors"] == output["notes"] == {}


def test_files_of_the_operating_system_in_a_run_folder_are_skipped(
    finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder in ("records", "verdicts", "."):
        (finished / folder / ".DS_Store").write_bytes(b"x")
    assert main(["status", str(finished)]) == 0
    assert "2 failed" in capsys.readouterr().out
    assert main(["report", str(finished)]) == 0


def test_a_run_folder_is_refused_as_input(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert str(finished) in output(capsys, "audit", str(finished), "--dry-run")
    output(capsys, "audit", "", "--dry-run")


def test_status_of_a_run_in_progress(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for i in range(3):
        paint(tmp_path / "in", f"{i}.png", (i, i, i))
    run = plan(str(tmp_path / "in"), open_store(str(tmp_path / "run")), {"model": "m"})
    judged = {"status": "judged", "censored": True, "min_tokens": None, "error_class": None}
    for number, record in enumerate((judged, {"status": "rejected", "error_class": "empty"})):
        image_id = image_id_of((tmp_path / "in" / f"{number}.png").read_bytes())
        run.identities.learn(number, image_id)
        run.ledger.commit(image_id, record, {})
    run.identities.save()
    state = {"inputs": 3, "done": 2, "workers": 4, "per_hour": 7200.0, "seconds_left": 30, "cost": 1.5}
    heartbeat = Heartbeat(run.store, "audit")
    heartbeat.update(state)
    with heartbeat:
        assert main(["status", str(tmp_path / "run")]) == 0
    *lines, at_work = capsys.readouterr().out.splitlines()
    assert at_work.endswith("s ago: 2/3 done · 4 workers · 120 images/min · about 30 s left · $1.50")
    assert lines[1:] == [
        "3 inputs, 2 distinct images read",
        "1 judged, 1 rejected, 0 failed, 1 pending",
        "min tokens: censored: 1",
        "errors: empty: 1",
    ]
