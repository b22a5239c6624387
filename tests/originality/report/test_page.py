"""The report page as text: its content and order, and that nothing from outside gets through as markup."""

from __future__ import annotations

import dataclasses
import json
import re
from html.parser import HTMLParser

import pytest

from originality.report import phrases
from originality.report.data import GroupRow, Groups, RunInfo, row_of
from originality.report.listing import EVIDENCE, ROWS
from originality.report.order import Histogram, listed
from originality.report.page import ReportData, data_uri, render
from tests.support import example_runs
from tests.support.example_runs import judged, problem


class Reader(HTMLParser):
    """Tags with their attributes, and the text that a person can read."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._silent = 0
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._silent += tag in ("script", "style")

    def handle_endtag(self, tag: str) -> None:
        self._silent -= tag in ("script", "style")

    def handle_data(self, data: str) -> None:
        if not self._silent:
            self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def headings(page: str) -> list[str]:
    return re.findall(r'<h3 id="name-[\w-]+"><bdi>(.*?)</bdi>', page)


def test_nine_images_are_answered_and_ordered_most_original_first() -> None:
    page = render(example_runs.nine())
    for part in (
        "9 images: 3 need one token",
        "2 need two",
        "1 needs three",
        "1 needs five",
        "2 could not be",
    ):
        assert part in page
    assert headings(page) == [
        "unseen-3.png",
        "unseen-2.png",
        "unseen-1.png",
        "rare-3.png",
        "rare-1.png",
        "rare-2.png",
        "familiar-3.png",
        "familiar-2.png",
        "familiar-1.png",
        "cut-off.jpg",
        "quarantine.png",
    ]
    assert page.count('class="attempt passed"') == 7


def test_each_image_has_its_evidence() -> None:
    text = " ".join(Reader(render(example_runs.nine())).text.split())
    assert "0.30) 0.240 ± 0.021 ✓" in text  # threshold, distance
    assert "0.50 or more) 0.87 ✓" in text  # threshold, in-distribution score
    assert f"What to do: {phrases.ADVICE['truncated']}" in text
    assert "workers died with it" in text
    assert all(remark in text for remark in phrases.remarks(1, 1, pending=1))


def test_each_image_says_how_sure_its_verdict_is() -> None:
    data = example_runs.nine()
    page = render(data)
    text = " ".join(Reader(page).text.split())
    heads = re.findall(r"<th scope=\"col\"[^>]*>(.*?)</th>", page)
    assert heads == ["Image", "Verdict", "Last distance", "Tokens tried", "Score", "Confidence", "Reason"]
    row = row_of(judged("a", 1), "a", [])
    assert (
        f"Score {row.score:.2f} tokens (95 % interval {row.score_low:.2f} to {row.score_high:.2f}), " in text
    )
    assert "check decided" not in phrases.sure(dataclasses.replace(row, redrawn_at=1))
    refused = dataclasses.replace(row, redrawn_at=1, min_tokens=3)
    assert phrases.sure(refused).endswith("the in-distribution check decided.")
    assert phrases.sure(dataclasses.replace(row, confidence=None)) == ""
    assert [phrases.percent(p) for p in (0, 0.29, 0.999, 1)] == [0, 29, 99, 99]


def test_the_page_refers_to_nothing_outside_itself() -> None:
    reader = Reader(render(example_runs.nine()))
    links = [
        value
        for _, attributes in reader.tags
        for key, value in attributes.items()
        if key in ("src", "href", "srcset", "action", "data", "poster") and value
    ]
    assert links
    assert [link for link in links if not link.startswith(("data:", "#"))] == []
    assert "@import" not in render(example_runs.nine())


def test_hostile_names_and_messages_are_text() -> None:
    page = render(example_runs.hostile())
    page.encode()  # a lone surrogate of a file name that is not UTF-8 would fail here
    reader = Reader(page)
    assert len(reader.all("script")) == 1
    assert "<b>bold</b>" not in page
    assert not [a for _, a in reader.tags if any(key.startswith("on") for key in a)]
    assert not [a for a in reader.all("img") if not str(a["src"]).startswith("data:image/")]
    for shown in (
        "<script>document.title='owned'</script>.png",
        "\"onerror='window.owned=1' x=\".png",
        "{{ 7 * 7 }} & <b>bold</b>.png",
        "invoice⟨U+202E⟩gnp.exe",
        "naïve 图像 🐈.png",
        "not-utf8-⟨U+DCFF⟩.png",
    ):
        assert shown in reader.text
    assert "\u202e" not in page


@pytest.mark.parametrize("rows", [[], [("a.txt", problem("a", "rejected", "corrupt", "no"))]])
def test_a_run_without_a_verdict_still_has_a_page(rows: list) -> None:
    page = render(example_runs.report(rows))
    assert phrases.answer(Histogram((0,), 0)) in page
    assert ('class="verdicts"' in page) == bool(rows)
    assert all(remark in page for remark in phrases.remarks(len(rows), 0, 0))


def test_missing_pictures_details_and_settings_are_shown_as_missing() -> None:
    shown = Reader(render(example_runs.report([("a.png", judged("a", 2))], pictures=False)))
    assert len([a for a in shown.all("p") if str(a.get("class")).startswith("missing ")]) == 3
    bare = Reader(render(ReportData.of_rows(RunInfo(), [row_of(judged("a", None), "a.png", [])], {}, {})))
    assert len([a for a in bare.all("p") if a.get("class") == "missing"]) == 1
    assert "not recorded" in bare.text


def test_a_failed_attempt_shows_its_error() -> None:
    verdict = judged("a", None, limit=1)
    failed = example_runs.attempt(2, None, False, failure="the loss of step 12 is nan")
    verdict = verdict.model_copy(update={"sweep": (*verdict.sweep, failed)})
    assert "loss of step 12 is nan" in render(example_runs.report([("a", verdict)]))


def policy(page: str) -> str:
    """The content security policy."""
    metas = Reader(page).all("meta")
    return str(next(m["content"] for m in metas if m.get("http-equiv") == "Content-Security-Policy"))


def many(images: int) -> ReportData:
    """Every tenth image was rejected; names are such as only a hostile person gives."""
    named = []
    for i in range(images):
        name = f"{i:05}-</script><!--\u2028\udcff.png"
        bad = problem(f"{i:064x}", "rejected", "truncated", "</script>\u2029" * 500)
        named.append((name, bad if i % 10 == 0 else judged(f"{i:064x}", 1 + i % 5)))
    return example_runs.report(named, pictures=False)


def test_a_page_holds_all_of_few_images_and_the_first_of_many() -> None:
    few = render(many(50))
    assert len(headings(few)) == few.count('<th scope="row"><a') == 50
    assert "note first" not in few and "nonce" not in policy(few) and "self" not in policy(few)
    page = render(many(51))
    assert headings(page) == headings(few)[:20] and page.count('<th scope="row"><a') == 20
    text = " ".join(Reader(page).text.split())
    assert "20 most original of 51" in text
    assert [int(n) for n in re.findall(r">(\d+)</text>", page)[::2]] == [5, 10, 10, 10, 10, 0]


def test_the_page_does_not_grow_with_the_number_of_images() -> None:
    hundred, hundreds = render(many(100)), render(many(600))
    assert abs(len(hundreds) - len(hundred)) < 200
    assert len(Reader(hundreds).tags) == len(Reader(hundred).tags)


def test_the_files_beside_the_page_have_every_image_once_and_are_plain_ascii() -> None:
    data = many(1100)
    files = dict(data.listing.files())
    assert len(files) == -(-1100 // ROWS) + -(-1100 // EVIDENCE)
    assert all(data.listing.generation in name for name in files)
    entries: dict[str, list] = {"rows": [], "evidence": []}
    for name, content in files.items():
        text = content.decode("ascii")
        assert not set("<>&") & set(text)
        call, _, rest = text.partition(",")
        assert call == f'reportPart("{name.removesuffix(".js")}"' and rest.endswith(");\n")
        entries[name.partition("-")[0]] += json.loads(rest.removesuffix(");\n"))
    ids = [int(image_id, 16) for image_id, *_ in entries["evidence"]]
    assert sorted(ids) == list(range(1100))
    assert [name for _, name, *_ in entries["rows"]][-1] == "01090-</script><!--⟨U+2028⟩⟨U+DCFF⟩.png"
    reasons = [reason for *_, reason in entries["rows"]]
    assert reasons == [""] * 990 + ["truncated"] * 110
    assert max(len(message) for *_, message, _, _, _ in entries["evidence"]) < 10_000


def test_a_different_report_has_files_with_different_names() -> None:
    one, other = many(60), many(61)
    assert one.listing.generation == many(60).listing.generation != other.listing.generation
    assert f"'nonce-{one.listing.generation}'" in policy(render(one))


def test_the_page_names_the_files_of_images_that_cannot_be_browsed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("originality.report.page.listed", lambda marks: listed(marks, 5))
    text = " ".join(Reader(render(example_runs.nine())).text.split())
    assert "5 of 11 images" in text
    assert "2 of 2 not redrawn, 1 of 7 redrawn, 1 of 1 rejected, 1 of 1 failed." in text
    assert "/runs/one/verdicts/*.parquet" in text and "inputs/*.parquet" in text


def test_unread_inputs_have_distinct_links() -> None:
    ids = [f"unread-{i:064x}" for i in range(3)] + [f"unread-{i << 240:064x}" for i in range(1, 4)]
    page = render(example_runs.report([(i, problem(i, "failed", "missing", "gone")) for i in ids]))
    assert len(set(re.findall(r'id="image-(unread-\w{12})"', page))) == 4


def test_reasons_are_counted_of_all_images_the_most_frequent_first() -> None:
    page = render(example_runs.many_problems())
    text = " ".join(Reader(page).text.split())
    assert f"60 truncated rejected {phrases.ADVICE['truncated']}" in text and "71 images" in text
    listed = re.findall(r'<b class="number">(\d+)</b>\s*<code>(.*?)</code>', page)
    assert [int(count) for count, _ in listed] == [60, 5, 3, 2, 1]
    assert [code for _, code in listed][:3] == ["truncated", "missing", "not-an-image"]
    assert "SomeErrorOf" in text and phrases.STATUS_ADVICE["failed"] in text
    assert re.findall(r"<option>(.*?)</option>", page)[:2] == ["truncated", "missing"]


def test_images_that_a_retry_may_fix_come_with_the_command() -> None:
    page = render(example_runs.nine())
    text = " ".join(Reader(page).text.split())
    assert "originality retry /runs/one --status rejected" in text
    assert "originality retry /runs/one --status failed" in text
    assert page.count('Then <a href="#again">') == 2 and page.count('id="again"') == 1
    assert "not judged" not in Reader(render(example_runs.report([("a.png", judged("a", 1))]))).text


def test_an_error_that_the_same_settings_repeat_comes_without_a_retry() -> None:
    page = render(example_runs.report([("a.png", problem("a", "failed", "InversionFailed", "nan"))]))
    assert phrases.ADVICE["InversionFailed"] in page
    assert "originality retry" not in page and 'href="#again"' not in page


def test_the_retry_command_quotes_the_run_folder_for_a_shell() -> None:
    assert phrases.retry_command("my run; ls", "failed") == "originality retry 'my run; ls' --status failed"


@pytest.mark.parametrize("image", [None, b"", b"<svg onload=alert(1)>", b"RIFF0000WAVE"])
def test_only_raster_pictures_are_embedded(image: bytes | None) -> None:
    assert data_uri(image) is None


def test_skipped_files_are_listed_by_extension() -> None:
    data = example_runs.nine()
    run = dataclasses.replace(data.run, skipped=1_020, skipped_kinds="8 .txt, 3 .<b>\u202e")
    text = " ".join(Reader(render(dataclasses.replace(data, run=run))).text.split())
    assert "1,020 files: 8 .txt, 3 .<b>⟨U+202E⟩" in text
    assert "Skipped" not in Reader(render(data)).text


def test_a_judged_image_shows_its_note() -> None:
    noted = judged("a" * 64, 1).model_copy(update={"note": "the file <lacks> its end"})
    assert "the file &lt;lacks&gt; its end" in render(example_runs.report([("a.jpg", noted)]))


def test_groups_are_counted_in_a_table_and_their_values_are_text() -> None:
    hostile = example_runs.HOSTILE[0]
    rows = tuple(GroupRow(value, 3, 2, {"2": 1, "+": 1, "3": 1}, 2.5) for value in (hostile, None, "x" * 100))
    shown = example_runs.report([("a", judged("a", 1))])
    run = dataclasses.replace(shown.run, groups=Groups("<i>artist</i>", rows, more=7))
    page = render(dataclasses.replace(shown, run=run))
    section = page[page.index('id="groups-title"') :].split("</section>")[0]
    assert hostile not in section and "&lt;script&gt;" in section and "<i>" not in section
    assert "(none)" in section and "7 further values" in section and "x" * 61 not in section
    heads = re.findall(r'<th scope="col">([^<]*)</th>', section)
    assert heads[3:-1] == ["2", "3", "+"]
