"""Runs whose collection changes: new files are reported and added, and a collection that moved is
followed, without judging anything again."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from cluster.inputs.listing import scan
from cluster.inputs.table_options import DEFAULTS
from cluster.run.collection import added_inputs, refresh, relocate
from cluster.run.folder import RunFolder, open_run, plan
from cluster.run.turn import exclusive_turn
from cluster.storage.store import open_store
from jobs.auditing.changes import Changes, place_of
from jobs.cli import main
from jobs.commandline import exits
from originality.contract.config import SettingsError
from tests.support.places import EXAMPLES
from tests.support.short_audits import SHORT

OPTIONS = (*SHORT, "--device", "cpu")


def images(folder: Path, *names: str) -> Path:
    folder.mkdir(exist_ok=True)
    for name in names:
        shutil.copy(EXAMPLES / f"{name}.png", folder)
    return folder


def judged(run: Path) -> dict[str, tuple[str, str]]:
    """When and by which worker each image was judged."""
    rows = open_run(str(run)).ledger.rows(["image_id", "finished_at", "worker"])
    return {row["image_id"]: (str(row["finished_at"]), row["worker"]) for row in rows}


@pytest.mark.long
def test_a_collection_grows_and_moves(
    tmp_path: Path, local_ray: None, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level("INFO")
    source, out = images(tmp_path / "in", "familiar-1"), tmp_path / "run"
    alone = EXAMPLES / "rare-1.png"
    command = ["audit", str(source), str(alone), "--out", str(out), *OPTIONS]
    assert main(command) == exits.ALL_JUDGED
    first = judged(out)
    assert len(first) == 2 and open_run(str(out)).description["input"] == [str(source), str(alone)]

    images(source, "unseen-1")
    assert main(["audit", str(source), "--out", str(out), *OPTIONS]) == exits.BAD_SETTINGS  # another input
    assert main([*command, "--refresh"]) == exits.ALL_JUDGED
    second = judged(out)
    assert len(second) == 3 and first.items() <= second.items(), "nothing was judged again"

    single = tmp_path / "single"
    assert main(["audit", str(source), "--out", str(single), *OPTIONS]) == exits.ALL_JUDGED
    before = judged(single)
    there = tmp_path / "there"
    source.rename(there)
    images(there, "rare-2")
    moved = ["audit", str(there), "--out", str(single), *OPTIONS]
    capsys.readouterr()
    assert main(moved) == exits.BAD_SETTINGS
    assert main([*moved, "--moved-from", str(tmp_path / "elsewhere")]) == exits.BAD_SETTINGS
    assert main([*moved, "--moved-from", str(source)]) == exits.ALL_JUDGED
    assert judged(single) == before
    assert "--refresh" in capsys.readouterr().err, "rare-2.png came since the run was planned"
    described = json.loads((single / "run.json").read_text())
    assert (described["input"], described["moved_from"]) == (str(there), [str(source)])
    assert main([*moved, "--moved-from", str(source), "--refresh"]) == exits.ALL_JUDGED
    assert len(judged(single)) == 3


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """A run of one image that was planned and not begun."""
    source = images(tmp_path / "in", "familiar-1")
    return plan(str(source), open_store(str(tmp_path / "run")), {"job": "audit", "input": str(source)})


def listing(folder: Path):
    return lambda: scan(str(folder))


def test_files_that_came_are_found_and_taken_in(run: RunFolder, tmp_path: Path) -> None:
    source = tmp_path / "in"
    assert added_inputs(run, listing(source)).changed == 0
    images(source, "rare-1", "rare-2")
    assert added_inputs(run, listing(source)).changed == 2
    again, change = refresh(run, listing(source), print)
    assert (change.changed, len(again.manifest)) == (2, 3)
    assert again.manifest.uri(0) == run.manifest.uri(0)


def test_a_large_collection_is_not_listed_to_see_what_came(run: RunFolder, monkeypatch) -> None:
    monkeypatch.setattr("cluster.run.collection.MAX_FILES_TO_RELIST", 0)
    assert added_inputs(run, lambda: pytest.fail("it was listed")) is None


def test_nothing_changes_while_another_process_works_on_the_run(run: RunFolder, tmp_path: Path) -> None:
    images(tmp_path / "in", "rare-1")
    with exclusive_turn(run), pytest.raises(SettingsError, match="worked on"):
        refresh(run, listing(tmp_path / "in"), print)
    assert len(open_run(run.store.url).manifest) == 1


def test_an_interrupted_move_is_made_by_the_same_call(run: RunFolder, tmp_path: Path, monkeypatch) -> None:
    """It ends between the two files that it writes."""
    there = tmp_path / "there"
    (tmp_path / "in").rename(there)
    write, store_type = run.store.write, type(run.store)

    def dies(store, path, data):
        if path == "run.json":
            raise KeyboardInterrupt
        write(path, data)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(store_type, "write", dies)
        relocate(run, str(there), listing(there), print)
    found = open_run(run.store.url)
    assert found.description["input"] == str(tmp_path / "in")
    again, change = relocate(found, str(there), listing(there), print)
    assert change.changed == 1 and again.description["input"] == str(there)
    assert again.manifest.uri(0) == f"{there}/familiar-1.png"


def test_a_move_to_where_nothing_is_changes_nothing(run: RunFolder, tmp_path: Path) -> None:
    other = images(tmp_path / "other", "rare-1")
    changes = Changes(moved_from=str(tmp_path / "in"))
    with pytest.raises(SettingsError, match="nothing was changed"):
        changes.relocate(run.store.url, str(other), DEFAULTS)
    assert open_run(run.store.url).description["input"] == str(tmp_path / "in")
    with pytest.raises(SettingsError, match="holds no run"):
        changes.relocate(str(tmp_path / "none"), str(other), DEFAULTS)


def test_a_place_is_named_as_before_if_it_is_one() -> None:
    assert place_of("/a") == place_of(["/a"]) == "/a"
    assert place_of(["/a", "/b"]) == ["/a", "/b"]
