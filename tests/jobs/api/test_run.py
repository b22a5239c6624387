"""A run opened from Python: its tables, its counts, and single images."""

from __future__ import annotations

from pathlib import Path

import pytest

import originality
from cluster.storage.store import NotFound, open_store
from jobs.auditing.verdict_table import SCHEMA
from tests.support.large_run import run_folder

IMAGES = 40


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of forty images, two of them not judged."""
    folder = tmp_path_factory.mktemp("run") / "run"
    run = run_folder(folder, IMAGES, tile=8)
    for row in list(run.ledger.rows()):  # of its parts, as no worker has written records
        known = {name: value for name, value in row.items() if value is not None}
        run.ledger.commit(row["image_id"], known, {})
    return folder


def test_tables_have_a_row_for_each_image_and_input(folder: Path) -> None:
    run = originality.open_run(str(folder))
    verdicts, inputs, results = run.verdicts(), run.inputs(), run.results()
    assert verdicts.schema.equals(SCHEMA) and verdicts.num_rows == IMAGES
    assert inputs["number"].to_pylist() == results["number"].to_pylist() == list(range(IMAGES))
    assert set(inputs["image_id"].to_pylist()) == set(verdicts["image_id"].to_pylist())
    by_id = {row["image_id"]: row["status"] for row in verdicts.to_pylist()}
    assert [by_id[row["image_id"]] for row in results.to_pylist()] == results["status"].to_pylist()


def test_status_counts_the_verdicts(folder: Path) -> None:
    run = originality.open_run(str(folder))
    status = run.status()
    assert (status["inputs"], status["judged"], status["rejected"], status["pending"]) == (IMAGES, 38, 2, 0)
    assert run.settings["max_tokens"] == 5 and run.uri == str(folder) in repr(run)


def test_an_image_is_found_by_a_unique_prefix_of_its_id(folder: Path) -> None:
    run = originality.open_run(str(folder))
    for row in run.verdicts().to_pylist():
        verdict = run.image(row["image_id"][:16])
        assert verdict.image_id == row["image_id"] and verdict.min_tokens == row["min_tokens"]
    with pytest.raises(KeyError, match="several"):
        run.image("")
    with pytest.raises(KeyError, match="no image"):
        run.image("x")


def test_a_folder_without_a_run_is_not_found(tmp_path: Path) -> None:
    open_store(str(tmp_path)).write("else", b"x")
    with pytest.raises(NotFound, match=tmp_path.name):
        originality.open_run(str(tmp_path))
