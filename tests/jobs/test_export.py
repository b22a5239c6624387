"""Results as one file: the columns of the list beside the verdicts."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path
from xml.etree import ElementTree

import pyarrow.parquet as pq
import pytest

import originality
from cluster.inputs.identities import image_id_of
from cluster.inputs.listing import scan
from cluster.inputs.sources import read_image
from jobs.auditing.audit_run import audit
from jobs.auditing.prepare import PreparedAudit
from jobs.cli import main
from jobs.commandline import exits
from originality.settings.presets import load_settings
from tests.support.mean_colour import MeanColour, paint
from tests.support.tars import shard

ROWS = (
    ("0.png", "Klee", 1921, "first"),
    ("1.png", "Klee", 1922, '=HYPERLINK("http://evil")'),
    ("2.png", "Arp", 1923, "-2+3"),
    ("absent.png", "", 1924, "two\nlines"),
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, local_ray: None) -> Path:
    """A run of a list with columns."""
    folder = tmp_path_factory.mktemp("export")
    for i in range(3):
        paint(folder / "in", f"{i}.png", (i, 0, 0))
    with (folder / "in" / "list.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["uri", "artist", "year", "status", "list_status"])
        writer.writerows((*row, "other") for row in ROWS)
    science = PreparedAudit(load_settings(), MeanColour, {})
    out = folder / "run"
    assert audit(science, str(folder / "in" / "list.csv"), str(out)) == exits.SOME_UNJUDGED
    return out


def test_parquet_has_a_row_for_each_input(run: Path, tmp_path: Path) -> None:
    target = tmp_path / "results.parquet"
    assert main(["export", str(run), "--to", str(target)]) == exits.ALL_JUDGED
    rows = pq.read_table(target).to_pylist()
    assert [row["number"] for row in rows] == [0, 1, 2, 3]
    assert [row["listed_as"] for row in rows] == [name for name, *_ in ROWS]
    assert [(row["artist"], row["year"], row["list_status_"]) for row in rows] == [
        (artist or None, year, status) for _, artist, year, status in ROWS
    ]
    assert [row["status"] for row in rows] == ["judged"] * 3 + ["failed"]
    assert originality.open_run(str(run)).results().num_rows == 4


def test_a_csv_holds_no_formula(run: Path, tmp_path: Path) -> None:
    target = tmp_path / "results.csv"
    assert main(["export", str(run), "--to", str(target)]) == exits.ALL_JUDGED
    rows = list(csv.DictReader(io.StringIO(target.read_bytes().decode("utf-8-sig"), newline="")))
    texts = [row["list_status_"] for row in rows]
    assert texts == ["first", "'" + ROWS[1][3], "'-2+3", "two\nlines"]
    assert rows[0]["image_id"] and json.loads(rows[0]["sweep"]) == []


def test_lines_of_json(run: Path, tmp_path: Path) -> None:
    target = tmp_path / "results.jsonl"
    assert main(["export", str(run), "--to", str(target)]) == exits.ALL_JUDGED
    rows = [json.loads(line) for line in target.read_text().splitlines()]
    assert [row["year"] for row in rows] == [1921, 1922, 1923, 1924]


def test_an_unknown_format_names_the_known_ones(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", str(run), "--to", "results.xlsx"]) == exits.BAD_SETTINGS
    assert ".parquet" in capsys.readouterr().err


def test_status_counts_by_a_column(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", str(run), "--by", "artist", "--json"]) == exits.ALL_JUDGED
    groups = json.loads(capsys.readouterr().out)["groups"]["values"]
    assert [(group["value"], group["inputs"]) for group in groups] == [("Klee", 2), ("Arp", 1), (None, 1)]
    assert groups[0]["judged"] == 2 and groups[2]["failed"] == 1
    assert main(["status", str(run), "--by", "artist"]) == exits.ALL_JUDGED
    assert "artist Klee: 2 inputs" in capsys.readouterr().out
    assert main(["status", str(run), "--by", "painter"]) == exits.BAD_SETTINGS
    assert "artist" in capsys.readouterr().err


def test_the_columns_are_in_the_runs_inputs(run: Path) -> None:
    (part,) = (run / "inputs").glob("*.parquet")
    rows = {row["number"]: row for row in pq.read_table(part).to_pylist()}
    assert {row["artist"] for row in rows.values()} == {"Klee", "Arp", None}


def test_a_data_set_holds_the_images_and_is_an_input_again(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "set"
    assert main(["export", str(run), "--to", "hf-dataset", "--out", str(out)]) == exits.ALL_JUDGED
    (part,) = (out / "data").glob("*.parquet")
    rows = pq.read_table(part).to_pylist()
    folder = run.parent / "in"
    assert [row["image"] and row["image"]["bytes"] for row in rows] == [
        *((folder / f"{i}.png").read_bytes() for i in range(3)),
        None,
    ]
    features = json.loads(pq.read_schema(part).metadata[b"huggingface"])["info"]["features"]
    assert list(features) == list(rows[0]) and features["image"] == {"_type": "Image"}
    assert (features["year"]["dtype"], features["score"]["dtype"]) == ("int64", "float64")
    again = scan(str(out))
    data = [read_image(again.uri(k), lambda size: None, again.location(k)) for k in range(3)]
    assert [image_id_of(image) for image in data] == [row["image_id"] for row in rows[:3]]


def test_tasks_of_label_studio(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "tasks"
    assert main(["export", str(run), "--to", "labelstudio", "--out", str(out)]) == exits.ALL_JUDGED
    tasks = json.loads((out / "tasks.json").read_text())
    assert len(tasks) == 4 and "predictions" not in tasks[3]
    place = f"{run.parent}/in/0.png"
    assert tasks[0]["data"]["image"] == f"/data/local-files/?d={place.lstrip('/')}"
    config = ElementTree.fromstring((out / "config.xml").read_text())
    choices = [choice.get("value") for choice in config.iter("Choice")]
    for task in tasks[:3]:
        (prediction,) = task["predictions"]
        assert prediction["result"][0]["value"]["choices"][0] in choices


def test_samples_of_fiftyone(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "samples"
    assert main(["export", str(run), "--to", "fiftyone", "--out", str(out)]) == exits.ALL_JUDGED
    rows = list(csv.DictReader((out / "samples.csv").open(newline="")))
    assert [Path(row["filepath"]).name for row in rows] == [name for name, *_ in ROWS]
    assert rows[1]["list_status_"].startswith("'=")


def test_samples_in_containers_are_copied(tmp_path: Path, local_ray: None) -> None:
    images = {f"{i}.png": paint(tmp_path / "in", f"{i}.png", (i, 9, 9)).read_bytes() for i in range(2)}
    tar = tmp_path / "0.tar"
    tar.write_bytes(shard(images))
    science = PreparedAudit(load_settings(), MeanColour, {})
    assert audit(science, str(tar), str(tmp_path / "run")) == exits.ALL_JUDGED
    out = tmp_path / "samples"
    assert main(["export", str(tmp_path / "run"), "--to", "fiftyone", "--out", str(out)]) == exits.ALL_JUDGED
    rows = list(csv.DictReader((out / "samples.csv").open(newline="")))
    assert [Path(row["filepath"]).read_bytes() for row in rows] == list(images.values())


@pytest.mark.parametrize(
    "flags",
    [("--to", "hf-dataset"), ("--to", "a.csv", "--out", "b"), ("--to", "fiftyone", "--out", "s3://b/c")],
)
def test_flags_that_do_not_go_together(run: Path, flags: tuple[str, ...], capsys) -> None:
    assert main(["export", str(run), *flags]) == exits.BAD_SETTINGS
    assert "--out" in capsys.readouterr().err


def test_the_report_counts_by_a_column(run: Path, capsys) -> None:
    assert main(["report", str(run), "--by", "artist"]) == exits.ALL_JUDGED
    page = (run / "report" / "index.html").read_text()
    section = page[page.index('id="groups-title"') :].split("</section>")[0]
    cells = [re.findall(r"<t[hd][^>]*>(?:<bdi>)?([^<]*)", line) for line in section.split("<tr>")[2:]]
    assert [row[:3] for row in cells] == [["Klee", "2", "2"], ["Arp", "1", "1"], ["(none)", "1", "0"]]
    assert main(["report", str(run), "--by", "artits"]) == exits.BAD_SETTINGS
    assert "artist" in capsys.readouterr().err
