"""``originality estimate-population``: from the inputs of a sample to the collection."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cluster.inputs.manifest import Selection
from cluster.run.folder import RunFolder, open_run
from cluster.run.samples import sample_plans
from jobs.auditing.audit_run import audit
from jobs.auditing.population import NEVER
from jobs.auditing.prepare import PreparedAudit
from jobs.cli import main
from jobs.commandline import exits
from originality.contract.config import SettingsError
from originality.settings.presets import load_settings
from tests.support.mean_colour import MeanColour, paint
from tests.support.sampled_runs import ARTISTS, COUNT, SIZES, image_id, judge, planned, truth


def estimated(run: RunFolder, capsys: pytest.CaptureFixture[str], *more: str) -> dict[str, Any]:
    capsys.readouterr()
    assert main(["estimate-population", run.store.url, "--json", *more]) == exits.ALL_JUDGED
    return json.loads(capsys.readouterr().out)


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return planned(tmp_path)


def test_a_simple_sample_speaks_for_the_collection(
    run: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    found = estimated(judge(run, Selection(sample=60)), capsys, "--by", "artist")
    artists, needed = truth()
    whole = found["collection"]
    assert (whole["inputs"], whole["judged"], found["sample"]["plan"]["size"]) == (COUNT, 60, 60)
    assert sum(share["value"] for share in whole["shares"].values()) == pytest.approx(1)
    assert whole["mean_score"]["low"] <= needed.mean() <= whole["mean_score"]["high"]
    assert whole["shares"]["1"]["low"] <= np.mean(needed == 1) <= whole["shares"]["1"]["high"]
    groups = {group["value"]: group for group in found["groups"]["values"]}
    assert list(groups) == ["Klee", "Arp", "Miro"]
    assert sum(group["judged"] for group in groups.values()) == 60
    for artist in ARTISTS:
        mine = needed[np.array(artists) == artist]
        mean = groups[artist]["mean_score"]
        assert groups[artist]["inputs"] == len(mine) and mean["low"] <= mine.mean() <= mean["high"]


def test_strata_shorten_the_interval_and_growing_reuses(
    run: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    pilot = judge(run, Selection(sample=30, by="artist"))
    first = estimated(pilot, capsys, "--by", "artist")
    assert [group["judged"] for group in first["groups"]["values"]] == [20, 7, 3]
    before = {row["image_id"] for row in pilot.ledger.rows()}
    grown = judge(pilot, Selection(sample=60, by="artist", allocation="neyman"))
    assert before < {row["image_id"] for row in grown.ledger.rows()}
    second = estimated(grown, capsys)
    assert second["sample"]["plan"]["weights"].keys() == set(ARTISTS)
    width, earlier = (found["collection"]["mean_score"] for found in (second, first))
    assert width["high"] - width["low"] < earlier["high"] - earlier["low"]
    assert width["low"] <= truth()[1].mean() <= width["high"]


def test_samples_of_one_run_are_one_sample(run: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    """A simple one and a stratified one hold the smallest keys of each stratum, and so do both together."""
    judge(judge(run, Selection(sample=40)), Selection(sample=30, by="artist", allocation="equal"))
    found = estimated(RunFolder(run.store), capsys, "--by", "artist")
    both = {
        int(number)
        for chosen in (Selection(sample=40), Selection(sample=30, by="artist", allocation="equal"))
        for number in chosen.numbers(run.manifest)
    }
    assert 40 < found["collection"]["judged"] == len(both) == found["sample"]["planned"]
    assert f"{len(both)} of {COUNT} inputs" in found["sample"]["text"]
    mean = found["collection"]["mean_score"]
    assert mean["low"] <= truth()[1].mean() <= mean["high"]


def test_a_stratum_of_which_nothing_is_settled_is_named(
    run: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    judge(run, Selection(sample=30, by="artist"))
    first = Selection(sample=30, by="artist").numbers(run.manifest).tolist()
    slow = {image_id(n) for n in first if truth()[0][n] == "Miro"}
    run.ledger.queue_again(lambda row: "slow" if row["image_id"] in slow else None, [], {"reason": "test"})
    assert main(["estimate-population", run.store.url]) == exits.ALL_JUDGED
    assert "inputs in Miro" in capsys.readouterr().out


def test_by_a_column_that_the_sample_was_not_drawn_by(
    run: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    found = estimated(judge(run, Selection(sample=60, by="artist")), capsys, "--by", "proxy")
    assert sum(group["inputs"] for group in found["groups"]["values"]) == COUNT
    assert any(group["shares"] is None for group in found["groups"]["values"])


def test_everything_judged_leaves_nothing_open(run: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    found = estimated(judge(run, Selection()), capsys, "--by", "artist")
    mean = found["collection"]["mean_score"]
    assert mean["low"] == pytest.approx(mean["high"]) and mean["value"] == pytest.approx(truth()[1].mean())
    assert found["collection"]["audit_more_to_halve"] == 0 and found["sample"]["plan"] is None
    assert [group["inputs"] for group in found["groups"]["values"]] == sorted(SIZES, reverse=True)


def test_rejected_inputs_are_outside_and_failed_ones_unknown(
    run: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    numbers = Selection(sample=60).numbers(run.manifest).tolist()
    other = dict.fromkeys(numbers[:10], "rejected") | dict.fromkeys(numbers[10:14], "failed")
    found = estimated(judge(run, Selection(sample=60), other), capsys)["collection"]
    assert (found["judged"], found["rejected"], found["failed"]) == (46, 10, 4)
    assert found["rejected_share"]["value"] == pytest.approx(10 / 60)
    for bounds in (found["mean_score"], found["shares"][NEVER]):
        assert bounds["low_with_failed"] < bounds["low"] or bounds["low_with_failed"] == 0
        assert bounds["high"] < bounds["high_with_failed"]


def test_a_pending_input_ends_the_sample_that_counts(
    run: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    """Images that take long would be missing from a sample of those that are done."""
    done = judge(run, Selection(sample=60))
    image_id = done.identities[int(Selection(sample=60).numbers(run.manifest)[40])]
    slow = {image_id: "slow"}
    done.ledger.queue_again(lambda row: slow.get(row["image_id"]), [], {"reason": "test"})
    found = estimated(RunFolder(run.store), capsys)
    assert (found["collection"]["sampled"], found["sample"]["unused"]) == (40, 19)


def test_the_page_for_people(run: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    judge(run, Selection(sample=60, by="artist", allocation="equal"))
    assert main(["estimate-population", run.store.url, "--by", "artist"]) == exits.ALL_JUDGED
    shown = capsys.readouterr().out
    assert "60 of 300 inputs" in shown and "artist Klee" in shown and "--sample" in shown
    assert main(["status", run.store.url]) == exits.ALL_JUDGED
    assert "random sample of 60 of 300" in capsys.readouterr().out
    assert main(["status", run.store.url, "--json"]) == exits.ALL_JUDGED
    assert json.loads(capsys.readouterr().out)["sample"]["by"] == "artist"


def test_a_proxy_shortens_the_interval(
    run: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As a column of the list, and the same from files by uri and by number."""
    done = judge(run, Selection(sample=60))
    alone = estimated(done, capsys)["collection"]["mean_score"]
    found = estimated(done, capsys, "--proxy", "proxy", "--by", "artist")["collection"]
    mean = found["mean_score"]
    assert mean["high"] - mean["low"] < 0.6 * (alone["high"] - alone["low"])
    assert mean["low"] <= truth()[1].mean() <= mean["high"]
    assert found["proxy"]["known"] == COUNT and found["proxy"]["audits_saved"] > 20
    values = run.manifest.table["proxy"]
    pq.write_table(pa.table({"uri": run.manifest.table["uri"], "value": values}), tmp_path / "by.parquet")
    rows = [f"{number},{value}" for number, value in enumerate(values.to_pylist())]
    (tmp_path / "by.csv").write_text("\n".join(["number,value", *rows]))
    for name in ("by.parquet", "by.csv"):
        again = estimated(done, capsys, "--proxy", str(tmp_path / name), "--by", "artist")["collection"]
        assert again["mean_score"] == pytest.approx(mean)


@pytest.mark.parametrize(
    ("given", "named"),
    [("prox", "'proxy'"), ("artist", "numbers"), ("none.csv", "no such"), ("bad.csv", "'value'")],
)
def test_a_proxy_without_numbers_is_refused(
    run: RunFolder,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    given: str,
    named: str,
) -> None:
    judge(run, Selection(sample=20))
    (tmp_path / "bad.csv").write_text("name,size\na,1\n")
    monkeypatch.chdir(tmp_path)
    assert main(["estimate-population", run.store.url, "--proxy", given]) == exits.BAD_SETTINGS
    assert named in capsys.readouterr().err


@pytest.mark.long
def test_an_audit_keeps_its_sample(
    tmp_path: Path, local_ray: None, capsys: pytest.CaptureFixture[str]
) -> None:
    """With real workers: the sample is in run.json and in samples/, once for a command that is repeated."""
    for number in range(8):
        paint(tmp_path / "in", f"{number}.png", (number, 0, number))
    lines = [f"{number}.png,{'Klee' if number < 5 else 'Arp'}" for number in range(8)]
    (tmp_path / "in" / "list.csv").write_text("\n".join(["uri,artist", *lines]))
    science = PreparedAudit(load_settings(), MeanColour, {})
    source, out = str(tmp_path / "in" / "list.csv"), str(tmp_path / "run")
    with pytest.raises(SettingsError, match="neyman"):
        audit(science, source, out, selection=Selection(sample=4, by="artist", allocation="neyman"))
    assert not Path(out).exists()
    for size in (4, 4, 6):
        audit(science, source, out, selection=Selection(sample=size, by="artist"))
    audit(science, source, out, selection=Selection(sample=7, by="artist", allocation="neyman"))
    run = open_run(out)
    assert run.description["sample"]["by"] == "artist" and run.description["sample"]["size"] == 4
    assert [plan.size for plan in sample_plans(run)] == [4, 6, 7]
    found = estimated(run, capsys, "--by", "artist")
    assert found["collection"]["judged"] == 7
    page = (Path(out) / "report" / "index.html").read_text()
    assert "7 of 8 inputs" in page and "The whole collection" in page


def test_nothing_can_be_said_of_no_sample(run: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["estimate-population", run.store.url]) == exits.BAD_SETTINGS
    assert "no verdict" in capsys.readouterr().err
    judge(run, Selection(limit=20))
    assert main(["estimate-population", run.store.url]) == exits.BAD_SETTINGS
    assert "--sample" in capsys.readouterr().err


def test_an_unknown_column_names_the_nearest(run: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["estimate-population", run.store.url, "--by", "artits"]) == exits.BAD_SETTINGS
    assert "'artist'" in capsys.readouterr().err
