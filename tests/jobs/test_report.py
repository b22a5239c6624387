"""The report from a run folder as the engine leaves it."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cluster.inputs.identities import image_id_of
from cluster.run.folder import RunFolder, plan
from cluster.run.layout import REPORT_PAGE, record_path
from cluster.run.ledger import Ledger
from cluster.storage.store import open_store
from jobs import report, status
from jobs.auditing import report_data
from jobs.auditing.report_pictures import strips
from jobs.auditing.verdict_table import SCHEMA, summarise
from jobs.retry import retry
from originality.evaluation.verdict import Verdict
from originality.report import phrases
from originality.report.data import Reason
from originality.report.order import Marks, listed
from originality.report.page import ReportData, render
from originality.settings.presets import load_settings
from tests.support import example_runs


def webp(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", lossless=True)
    return buffer.getvalue()


def sheet(verdict: Verdict, side: int) -> bytes:
    """A row of eight tiles per attempt, each row in a different grey."""
    page = Image.new("RGB", (8 * side, side * len(verdict.sweep)))
    for row in range(len(verdict.sweep)):
        grey = 40 * (row + 1)
        page.paste((grey, grey, grey), (0, row * side, 8 * side, (row + 1) * side))
    return webp(page)


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """Five different images and a copy: two judged, one without artefacts, one rejected, one pending."""
    source = tmp_path / "in"
    (source / "sub").mkdir(parents=True)
    for i, name in enumerate(("<b>.png", "big.png", "lost.png", "bad.png", "todo.png")):
        Image.new("RGB", (8, 8), (i, 0, 0)).save(source / name)
    (source / "sub" / "copy.png").write_bytes((source / "big.png").read_bytes())
    identity = {"settings": load_settings("laptop").model_dump(mode="json"), "model_digest": "abcd"}
    run = plan(str(source), open_store(str(tmp_path / "out")), identity)
    ids = {}
    for number in range(len(run.manifest)):
        path = run.manifest.path(number)
        ids[path] = image_id_of((source / path).read_bytes())
        if path != "todo.png":
            run.identities.learn(number, ids[path])
    run.identities.save()
    for name, tokens, side in (("<b>.png", 2, 64), ("big.png", None, 192)):
        verdict = example_runs.judged(ids[name], tokens)
        files = {
            "query.webp": webp(Image.new("RGB", (512, 512), "red")),
            "redraws.webp": sheet(verdict, side),
        }
        Ledger(run.store).commit(ids[name], verdict.row(), files)
    lost = example_runs.judged(ids["lost.png"], 1)
    Ledger(run.store).commit(lost.image_id, lost.row(), {"redraws.webp": b"RIFF cut short"})
    bad = example_runs.problem(ids["bad.png"], "rejected", "corrupt", "broken <i>data</i>")
    Ledger(run.store).commit(bad.image_id, bad.row(), {})
    return run


def test_the_counts_say_how_sure_the_verdicts_are(run: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    run.ledger.compact(SCHEMA)
    rows = [row for row in run.ledger.rows() if row["status"] == "judged"]
    found = summarise(run)
    assert found["mean_score"] == pytest.approx(np.mean([row["score"] for row in rows]))
    assert found["median_confidence"] == pytest.approx(np.median([row["confidence"] for row in rows]))
    assert sum(found["redrawn_at"].values()) == len(rows) == 3
    assert status.main([run.store.url]) == 0
    shown = capsys.readouterr().out
    assert f"score: {found['mean_score']:.2f} tokens in the mean" in shown and "redrawn at: 1: " in shown


def test_rows_of_an_older_version_have_no_score(run: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    later = ("score", "score_low", "score_high", "confidence", "redrawn_at", "in_distribution_at")
    for row in list(run.ledger.rows()):
        store, path = run.store, record_path(row["image_id"])
        older = {k: v for k, v in row.items() if k not in later and k != "sha256"}
        store.write(path, json.dumps(older).encode())
    found = summarise(run)
    assert (found["mean_score"], found["median_confidence"], found["redrawn_at"]) == (None, None, {})
    assert found["judged"] == 3
    assert status.main([run.store.url]) == 0 and "score" not in capsys.readouterr().out
    cards = report_data.gather(run).cards
    assert {(c.entry.score, c.entry.confidence, c.evidence.sure) for c in cards} == {(None, None, "")}


@pytest.mark.parametrize("compacted", [False, True])
def test_a_run_folder_becomes_a_page(run: RunFolder, compacted: bool) -> None:
    if compacted:
        run.ledger.compact(SCHEMA)
    path = report_data.write_report(run)
    assert path == f"{run.store.url}/report/index.html"
    page = Path(path).read_text(encoding="utf-8")
    assert "3 images: 1 needs one token" in page and phrases.remarks(0, 0, pending=1)[0] in page
    assert "&lt;b&gt;.png" in page
    assert "<dt>Files</dt><dd>6," in page
    assert "sub/copy.png" in page
    assert "broken &lt;i&gt;data&lt;/i&gt;" in page
    assert page.count(">picture not found<") == 2
    assert "model digest" in page and "abcd" in page


def test_pictures_are_cut_by_attempt_and_shrunk(run: RunFolder) -> None:
    data = report_data.gather(run)
    by_name = {card.entry.name: card.pictures for card in data.cards}
    small, big = by_name["<b>.png"], by_name["big.png"]
    assert list(small.redraws) == [1, 2]
    for row, strip in enumerate(small.redraws.values()):
        image = Image.open(io.BytesIO(strip)).convert("RGB")
        assert image.size == (512, 64)
        assert image.getpixel((500, 60)) == (40 * (row + 1),) * 3
    assert {Image.open(io.BytesIO(strip)).size for strip in big.redraws.values()} == {(1024, 128)}
    assert big.query is not None
    assert Image.open(io.BytesIO(big.query)).size == (320, 320)


def test_a_row_with_fewer_redraws_is_cut_to_them(run: RunFolder) -> None:
    attempt = example_runs.attempt(1, 0.2, True).model_copy(update={"redraws": 3})
    page = Image.new("RGB", (8 * 64, 64))
    ((tokens, strip),) = strips(page, [attempt])
    assert (tokens, Image.open(io.BytesIO(strip)).size) == (1, (3 * 64, 64))


def test_the_command_prints_the_path_of_the_page(
    run: RunFolder, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert report.main([run.store.url]) == 0
    assert capsys.readouterr().out.strip().endswith("report/index.html")
    assert report.main([str(tmp_path / "in")]) == 2
    assert "holds no run" in capsys.readouterr().err


@pytest.mark.parametrize("compacted", [False, True])
def test_reasons_are_counted_as_recorded(run: RunFolder, compacted: bool) -> None:
    stray = example_runs.problem("f" * 64, "rejected", "corrupt", "of no input")
    Ledger(run.store).commit(stray.image_id, stray.row(), {})
    if compacted:
        run.ledger.compact(SCHEMA)
    assert report_data.gather(run).reasons == {Reason("rejected", "corrupt"): 1}


def test_images_queued_by_a_simultaneous_retry_are_left_out(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def queue_again_between_the_passes(marks: Marks) -> np.ndarray:
        assert retry(run, "rejected", None) == {"corrupt": 1}
        return listed(marks)

    monkeypatch.setattr(report_data, "listed", queue_again_between_the_passes)
    data = report_data.gather(run)
    assert sorted(card.entry.name for card in data.cards) == ["<b>.png", "big.png", "lost.png"]
    assert len(data.listing) == 3
    assert "3 images" in render(data)


def beside(run: RunFolder) -> set[str]:
    return {found.path for found in run.store.list("report")} - {REPORT_PAGE}


def test_a_page_and_its_files_are_of_one_writing(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    report_data.write_report(run)
    assert beside(run) == set()  # few images: the page needs no other file
    monkeypatch.setattr("originality.report.page.WHOLE", 1)
    monkeypatch.setattr("originality.report.page.FIRST", 1)
    for _ in range(2):  # the same run, the same files
        report_data.write_report(run)
        first = beside(run)
        assert {path.split("/")[-1].partition("-")[0] for path in first} == {"rows", "evidence"}
    assert retry(run, "rejected", None) == {"corrupt": 1}

    def cut_off(data: ReportData) -> str:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(report_data, "render", cut_off)
        report_data.write_report(run)
    assert beside(run) > first  # the page that is there still has its files
    report_data.write_report(run)
    assert len(beside(run)) == 2 and not beside(run) & first
    page = run.store.read(REPORT_PAGE).decode()
    assert all(path.split("-")[1] in page for path in beside(run))
    assert not list(run.store.list("progress"))


def test_a_superseded_writer_does_not_touch_the_newer_report(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("originality.report.page.WHOLE", 1)
    monkeypatch.setattr("originality.report.page.FIRST", 1)
    later: list[bytes] = []

    def overtaken(data: ReportData) -> str:
        """The writer is suspended while it renders, and a different one writes a later state."""
        page = render(data)
        if not later:
            later.append(b"")
            for found in list(run.store.list("progress/reporting")):
                run.store.delete(found.path)
            assert retry(run, "rejected", None) == {"corrupt": 1}
            report_data.write_report(run)
            later[0] = run.store.read(REPORT_PAGE)
        return page

    monkeypatch.setattr(report_data, "render", overtaken)
    report_data.write_report(run)
    page = run.store.read(REPORT_PAGE)
    assert page == later[0]
    named = {path for path in beside(run) if path.split("-")[1] in page.decode()}
    assert len(named) == 2
    report_data.write_report(run)
    assert beside(run) == named
    assert not list(run.store.list("progress"))


def test_inputs_of_one_image_are_counted_and_the_first_of_them_named(tmp_path: Path) -> None:
    source = tmp_path / "in"
    source.mkdir()
    for i in range(9):
        Image.new("RGB", (8, 8)).save(source / f"{i}.png")
    run = plan(str(source), open_store(str(tmp_path / "out")), {"settings": {}})
    image_id = image_id_of((source / "0.png").read_bytes())
    for number in range(9):
        run.identities.learn(number, image_id)
    Ledger(run.store).commit(image_id, example_runs.judged(image_id, 1).row(), {})
    (card,) = report_data.gather(run).cards
    assert card.evidence.files == 9
    assert [uri.rpartition("/")[2] for uri in card.evidence.uris] == ["0.png", "1.png", "2.png"]
    assert "6 more files" in render(report_data.gather(run))


def test_columns_of_a_later_version_are_ignored() -> None:
    raw = json.loads(json.dumps(example_runs.judged("a", 1).row()))
    raw["sweep"][0]["later"] = 1
    assert report_data.verdict_of({**raw, "later": 2}).min_tokens == 1
