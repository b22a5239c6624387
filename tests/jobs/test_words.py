"""A list with a column of words, from planning to the table of verdicts."""

from __future__ import annotations

import logging
import shutil
import time
from pathlib import Path

import numpy as np
import pyarrow.dataset as ds
import pytest

from cluster.worker.messages import Orders, Task
from cluster.worker.worker import Worker
from jobs.auditing.audit_run import plan_audit
from jobs.auditing.prepare import prepare
from jobs.auditing.verdict_table import SCHEMA, blank, summarise
from jobs.cli import main
from jobs.commandline import exits
from originality.settings.presets import load_settings
from originality.shapes.image_sets import TaughtSet
from tests.support.waiting import PATIENCE

WORDS = {"a": "dog", "b": " cat ", "c": "", "d": "rhinoceros", "e": "house"}
SHORT = {
    "domain": "animals",
    "max_tokens": 1,
    "model": {"device": "cpu"},
    "inversion": {"steps": 2, "batch_size": 2, "lanes": 2},
    "redraw": {"count": 2, "steps": 1},
    "distance": {"metric": "elements", "threshold": 9.0},
    "in_distribution": {"check": "editability"},
}


@pytest.fixture
def listed(tmp_path: Path) -> Path:
    for k, name in enumerate(WORDS):
        TaughtSet().scene(2, k).image().save(tmp_path / f"{name}.png")
    rows = [f"{name}.png,{word}" for name, word in WORDS.items()]
    (tmp_path / "list.csv").write_text("\n".join(["uri,word", *rows]))
    return tmp_path / "list.csv"


def test_words_of_a_list_reach_the_verdicts(
    tmp_path: Path, listed: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = load_settings("laptop", None, SHORT)
    science = prepare(settings)
    run = plan_audit(science, str(listed), str(tmp_path / "run"))
    assert "1 inputs have no word" in caplog.text and "'animals'" in caplog.text
    leases = run.leases(np.arange(5)).grant("w", 5)
    worker = Worker(Task(run.store.url, science.factory, blank(settings)))
    report, settled, give_up = worker.poll(Orders(leases)), {}, time.monotonic() + PATIENCE
    while len(settled) < 5:
        assert time.monotonic() < give_up
        settled |= {s.number: s.image_id for s in report.settled}
        report = worker.poll(Orders(go=[number for number, _ in report.identified]), 0.1)
    worker.stop(PATIENCE)
    for number, image_id in settled.items():
        run.identities.learn(number, image_id)
    run.ledger.compact(SCHEMA)
    rows = {row["image_id"]: row for row in ds.dataset(tmp_path / "run/verdicts").to_table().to_pylist()}
    found = {name: rows[settled[k]] for k, name in enumerate(WORDS)}
    columns = ("status", "error_class", "initial_word", "edit_subject")
    assert {name: tuple(row[c] for c in columns) for name, row in found.items()} == {
        "a": ("judged", None, "dog", "cat"),
        "b": ("judged", None, "cat", "car"),
        "c": ("failed", "WordMissing", None, None),
        "d": ("failed", "WordUnusable", None, None),
        "e": ("judged", None, "house", "cat"),
    }
    assert "'rhinoceros' is 9 tokens of this model" in found["d"]["error_message"]
    assert summarise(run)["errors"] == {"WordMissing": 1, "WordUnusable": 1}


def test_a_collection_without_words_is_refused_before_anything_is_written(
    tmp_path: Path, listed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    empty = tmp_path / "empty.csv"
    empty.write_text("uri,word\na.png,\nb.png, \n")
    folder = tmp_path / "folder"
    folder.mkdir()
    shutil.copy(tmp_path / "a.png", folder)
    for source in (folder, empty):
        command = ["audit", str(source), "--out", str(tmp_path / "run"), "--domain", "animals"]
        assert main(command) == exits.BAD_SETTINGS
        (line,) = capsys.readouterr().err.splitlines()
        assert "'animals'" in line and "dog, cat, bird" in line
        assert not list((tmp_path / "run").glob("*"))


def test_a_switched_edit_subject_is_reported_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="jobs")
    cats = {**SHORT, "domain": "cats", "domains": {"cats": {"initial_word": "cat"}}}
    prepare(load_settings("laptop", None, cats))
    (line,) = [record.getMessage() for record in caplog.records]
    assert "'cats'" in line and "'car'" in line
    caplog.clear()
    prepare(load_settings("laptop", None, {**cats, "in_distribution": {"check": "none"}}))
    assert not caplog.records


def test_records_without_word_columns_are_read(tmp_path: Path, listed: Path) -> None:
    from jobs.auditing.report_data import write_report

    settings = load_settings("laptop", None, {**SHORT, "domain": "houses"})
    run = plan_audit(prepare(settings), str(listed), str(tmp_path / "run"))
    record = {k: v for k, v in blank(settings).items() if k not in ("initial_word", "edit_subject")}
    image_id = "0" * 64
    run.identities.learn(0, image_id)
    run.identities.save()
    record |= {"image_id": image_id, "error_class": "Old", "error_message": "old"}
    assert run.ledger.commit(image_id, record, {})
    run.ledger.compact(SCHEMA)
    (row,) = run.ledger.rows()
    assert (row["status"], row["initial_word"], row["edit_subject"]) == ("failed", None, None)
    assert Path(write_report(run)).exists()
