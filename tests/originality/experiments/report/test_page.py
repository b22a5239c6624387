"""The page of the experiments and its figures, written from stored results."""

from __future__ import annotations

import json
import re
import shutil

import pytest
from PIL import Image

from originality.experiments.held_out import COUNTS
from originality.experiments.report import diversity_report, frequency_report
from originality.experiments.report.page import write
from originality.experiments.tasks.measure_elements import sheet_of, strip_of
from originality.experiments.tasks.measure_pairs import SHOWN
from tests.support.approximately import nearly, nearly_text
from tests.support.kept_records import measured, record
from tests.support.places import ROOT


def test_results_of_a_stopped_run_are_reported_as_incomplete(tmp_path):
    of_shown = {**measured(4, 1, 1.0, 0.0), "name": "elements-4-1-shown"}
    assert list(diversity_report.summarise([measured(60, 0, 0.9, 0.1), of_shown])) == ["60"]
    folder = tmp_path / "results" / "diversity"
    folder.mkdir(parents=True)
    (folder / "measures.jsonl").write_text(json.dumps(of_shown) + "\n")
    text = write(folder.parent, tmp_path / "p.md")
    (missing,) = re.findall(r"no results are stored for frequency; conditions; diversity \((.*)\)\.", text)
    assert {"elements-4-1", "own-60-0"} < set(missing.split(", ")) and "elements-4-1-shown" not in missing


def pictures(folder, names, size):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        Image.new("RGB", size, "red").save(folder / name)


@pytest.mark.long
def test_the_committed_page_is_that_of_the_committed_results(tmp_path):
    docs = ROOT / "docs"
    (tmp_path / "paper").mkdir()
    text = write(docs / "paper" / "results", tmp_path / "paper.md")
    assert nearly_text(text, (docs / "paper.md").read_text()), "make paper-page"
    for name in ("summary.json", *(f.name for f in (docs / "paper").glob("*.png"))):
        assert (tmp_path / "paper" / name).exists(), f"no figure {name} is written any more"
    ours, theirs = ((at / "paper" / "summary.json").read_text() for at in (tmp_path, docs))
    assert nearly(json.loads(ours), json.loads(theirs))


def test_a_folder_without_results_does_not_change_the_page(tmp_path):
    page = tmp_path / "paper.md"
    page.write_text("as it was")
    with pytest.raises(FileNotFoundError, match="resluts"):
        write(tmp_path / "resluts", page)
    assert page.read_text() == "as it was" and not (tmp_path / "paper").exists()


@pytest.mark.long
def test_the_page_reports_every_stored_result(tmp_path):
    results = tmp_path / "paper" / "results"
    of_pairs: dict[str, object] = {"kind": "pairs"}
    of_elements = {"kind": "elements", "missing": ["big red full square", "big blue full circle"]}
    training = {"seconds": 600.0, "losses": {"denoiser-1": [1.0, 0.5]}}

    def store(experiment, measures):
        folder = results / experiment
        folder.mkdir(parents=True)
        images = of_elements if experiment == "diversity" else of_pairs
        trainings = [
            {
                **training,
                "plan": {"name": m["name"], "images": images, "recipe": {"seed": 2}},
                "name": m["name"],
                "weights_digest": f"of-{m['name']}",
            }
            for m in measures
        ]
        for name, of in (("trainings", trainings), ("measures", measures)):
            (folder / f"{name}.jsonl").write_text("".join(json.dumps(one) + "\n" for one in of))
        for one in measures:
            if "rows" in one:
                groups = frequency_report.groups_of(one)
                starts = [f"{g.replace(' ', '-')}-{n}" for g in groups for n in range(SHOWN)]
                pictures(folder / one["name"], [f"{s}-query.webp" for s in starts], (64, 64))
                pictures(folder / one["name"], [f"{s}-redraws.webp" for s in starts], (512, 320))
            else:
                sheets = [sheet_of(p["prompt"]) for p in one["prompts"]]
                pictures(folder / one["name"], sheets, (530, 266))
                cut = [strip_of("big red full square", prompted) for prompted in (False, True)]
                pictures(folder / one["name"], cut, (400, 36))

    page = tmp_path / "paper.md"
    store("frequency", [record(name, (1, 3, 5)) for name in ("pairs-0", "pairs-1", "fixed-location")])
    assert "frequency (pairs-2); conditions; diversity." in write(results, page)
    (results / "frequency" / "notes.md").write_text("a discussion")
    store("conditions", [record("named", (1, 4, 4))])  # before the base is measured
    early = write(results, page).partition("## Under which conditions")[2]
    assert re.search(r"^\| other-seeds \| [^|]*\| 1\.30, 2\.95, 4\.95 \|", early, re.M)
    assert "| named | - | - | - | - | - | 0.10, 0.10, 0.10 |" in early
    shutil.rmtree(results / "conditions")
    content = record("content", (1, 2, 3, 5), groups=tuple(COUNTS))
    one_token = record("one-token", (1, 2, 5), images=6)
    one_token["rows"] = [{**row, "sweep": row["sweep"][:1]} for row in one_token["rows"]]
    grid = [record("pairs-0", (1, 3, 5)), record("shorter", (2, 2, 2)), content, one_token]
    grid += [record(name, (1, 3, 5)) for name in ("another-seed", "shipped", "longer")]
    store("conditions", grid)
    control = {**measured(60, 0, 0.85, 0.2), "name": "own-60-0"}
    of_shown = [{**measured(n, 0, 0.7, 0.1), "name": f"elements-{n}-0-shown"} for n in (60, 4)]
    of_shown.append({**of_shown[0], "name": "own-60-0-shown"})
    store("diversity", [measured(60, 0, 0.9, 0.1), measured(4, 0, 0.0, 0.0), control, *of_shown])
    text = write(results, page)
    assert text == page.read_text()
    shown = re.findall(r"\(paper/([\w-]+)\.png\)", text)
    pairs = ["min-tokens", "reconstructions", "fixed-location", "conditions", "content"]
    assert shown == [*pairs, "diversity", "elements", "samples", "missing-elements"]
    for file in shown:
        with Image.open(tmp_path / "paper" / f"{file}.png") as image:
            assert image.width > 300
    assert "of common images | 70 % | met |" in text
    assert re.search(r"\| 60 elements: .* 80 % of images \| 90 % \| met \|", text)
    assert re.search(r"\| 4 elements: .* 10 % of images \| 0 % \| met \|", text)
    assert "| frequency | pairs-0 | 2 | CPU | 10 | 0.5000 | `of-pairs-0` |" in text
    assert text.count("`of-pairs-0`") == 1 and "1,920,000 image samples" in text
    assert "| 60 | shared | 90 % [0.85, 0.93] | 10 % [0.06, 0.17] |" in text
    assert "| 60 | own | 85 % [0.79, 0.89] | 20 % [0.13, 0.29] |" in text
    assert text.count(" | 70 % [0.00, 1.00] |\n") == 2  # of shown elements, of one model each
    assert "a discussion" in text
    missing = "weaker-text, pretrained-text, terse, named"
    assert f"conditions (more-steps, smaller-steps, fewer-steps, {missing})" in text
    assert "| paper-shapes | 6 | 4 | 0.33 | 2 | 0.57 | 0 | 0.80 |" in text
    assert "| the grid's | 6 | 4 | 0.33 | 0 | 0.80 | 0 | 0.80 |" in text
    assert "| four elements | 4.9" in text and "four elements - one element: +3." in text
    assert "| fixed-location | 94 | 1.00 | 0 % | 61 | 1.00 | 0 % | 21 |" in text
    assert "| another-seed | 1.0 | 1.0 |" in text and "**Reproducibility.**" not in text
    conditions = text.partition("## Under which conditions")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| ([\w-]+) \| [^|]*\| (\d\.\d\d, \d.*)$", conditions, re.M)
    names = [name for name, _ in rows]
    assert names[:6] == ["base", "other-seeds", "shorter", "longer", "shipped", "another-seed"]
    above = {name for name, row in rows if row.count("**+") == 5}  # all differences, at both thresholds
    assert above == {"base", "other-seeds", "longer", "shipped", "another-seed"}
    assert "| base | - | - | - |" in conditions
    assert re.search(r"^\| other-seeds \|.*\+0\.00 \[0\.00, 0\.00\]", conditions, re.M)
    assert re.search(r"^\| shorter \| \**\+\d\.\d\d \[", conditions, re.M)
    assert "| content |" not in conditions
    assert write(results, page) == text

    trainings = results / "conditions" / "trainings.jsonl"  # as if the base had been trained again
    trainings.write_text(trainings.read_text().replace('"seconds": 600.0', '"seconds": 660.0', 1))
    measures = results / "conditions" / "measures.jsonl"
    first, *others = [json.loads(line) for line in measures.read_text().splitlines()]
    first["rows"][0]["sweep"][0]["distance_mean"] = 0.123
    measures.write_text("".join(json.dumps(one) + "\n" for one in (first, *others)))
    again = write(results, page)
    assert again.count("`of-pairs-0`") == 2
    assert "and 299 of 300 distances" in again
