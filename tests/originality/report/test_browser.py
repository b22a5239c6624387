"""The report page in a real browser: what it shows, at any width, on paper, and to a screen reader."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from originality.report.page import render
from tests.support import example_runs
from tests.support.chromium import Page
from tests.support.report_page import NAMES, NEEDS_CHROMIUM, ROWS, STATUS, until

pytestmark = NEEDS_CHROMIUM

OUTSIDE = """
[...document.querySelectorAll('body *')].filter(
  e => !e.closest('.scroll, .skip, dialog') && e.getBoundingClientRect().right > innerWidth + 1
).map(e => e.className)
"""
"""Elements that stick out to the right, those aside that scroll by themselves."""


def test_the_page_shows_the_answer_and_the_evidence(page: Page, files: dict[str, Path]) -> None:
    page.open(files["nine"])
    text = page.run("document.body.innerText")
    assert "How original" in text and "shapes" in text
    assert "2 could not be redrawn" in text

    assert "distance.threshold" in text
    assert page.run("[...document.querySelectorAll('.chart .count')].map(t => t.textContent)") == [*"321012"]
    sizes = page.run("[...document.images].map(i => [i.naturalWidth, i.naturalHeight])")
    assert sizes.count([64, 64]) == 9
    assert sizes.count([512, 64]) == len(sizes) - 9 == 25
    assert page.run("[...document.images].every(i => i.alt && i.getBoundingClientRect().width > 0)")


def test_a_card_built_by_the_script_equals_the_one_in_the_page(
    page: Page, files: dict[str, Path], tmp_path: Path
) -> None:
    """The same image as the page holds it and as the script builds it, pictures aside."""
    messages = """[...document.querySelectorAll('#images .card, #images tbody tr')].map(element => {
      const copy = element.cloneNode(true);
      for (const picture of copy.querySelectorAll('.zoom, .missing.strip, .missing.query-image')) {
        picture.replaceWith('picture');
      }
      return copy.outerHTML
        .replace(/> /g, '>').replace(/ </g, '<').replace(/ "/g, '"').replace(/: /g, ':').replace(/; /g, ';')
        .replace(/;"/g, '"').replace(/[.]0%/g, '%').replace(/\\s+/g, ' ').replace(/> | </g, s => s.trim());
    })"""
    data = example_runs.varied()
    (tmp_path / "whole.html").write_text(render(data), encoding="utf-8")
    page.open(tmp_path / "whole.html")
    written = page.run(messages)
    for name, content in data.listing.files():
        (tmp_path / "data").mkdir(exist_ok=True)
        (tmp_path / "data" / name).write_bytes(content)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("originality.report.page.WHOLE", 0)
        patch.setattr("originality.report.page.FIRST", 0)
        (tmp_path / "index.html").write_text(render(example_runs.varied()), encoding="utf-8")
    page.call("Page.navigate", url=(tmp_path / "index.html").as_uri() + "#size=100")
    until(page, "document.querySelectorAll('.card').length", len(data.listing))
    assert page.run(messages) == written
    page.leave()
    page.complaints.clear()  # the pictures of this run are nowhere


def test_pictures_are_those_of_the_run_folder(page: Page, files: dict[str, Path]) -> None:
    page.open(files["many"])
    page.run("location.hash = 'page=2'")
    until(page, STATUS, "Images 21 to 40 of 1,200.")
    page.run("document.querySelector('.card').scrollIntoView()")
    loaded = "[...document.querySelector('.card').querySelectorAll('img')].every(i => i.naturalWidth > 0)"
    until(page, loaded, True)
    windows = """[...document.querySelector('.card').querySelectorAll('.window')].map(window => {
      const outer = window.getBoundingClientRect();
      const inner = window.firstElementChild.getBoundingClientRect();
      return [(outer.top - inner.top) / outer.height, inner.height / outer.height, inner.width / outer.width]
        .map(length => Math.round(10 * length) / 10);
    })"""
    assert page.run(windows) == [[row, 5, 1] for row in range(5)]
    label = "document.querySelector('.card .attempt .zoom').ariaLabel"
    built = page.run(label)
    page.run("location.hash = 'page=1'")
    until(page, STATUS, "Images 1 to 20 of 1,200.")
    written = page.run(label)
    assert built.startswith("Enlarge: redraws with 1 token")
    assert written.startswith("Enlarge: redraws with 1 token")
    page.run("location.hash = 'page=2'")
    until(page, STATUS, "Images 21 to 40 of 1,200.")
    page.click(".window")
    assert page.run("document.querySelector('dialog').open")
    assert page.run("document.querySelector('dialog .window').getBoundingClientRect().height") > 200


def test_a_page_copied_without_its_run_folder_reports_what_is_missing(
    page: Page, files: dict[str, Path], tmp_path: Path
) -> None:
    shutil.copy(files["many"], tmp_path / "copy.html")
    page.open(tmp_path / "copy.html")
    text = page.run("document.body.innerText")
    assert "1,140 images" in text and "20 most original of 1,200 images" in text
    first = page.run(ROWS)
    assert len(first) == 20
    assert page.run("[...document.images].every(i => i.naturalWidth > 0)")
    page.click(".pager [name=next]")
    until(page, f"{STATUS}.includes('run folder')", True)
    assert page.run(ROWS) == first
    page.leave()
    page.complaints.clear()  # of the browser, on the files that are not there


@pytest.mark.long
def test_thousands_are_printed_on_a_few_sheets(page: Page, files: dict[str, Path]) -> None:
    page.open(files["many"])
    few = page.printed_pages()
    assert few <= 8
    page.run("location.hash = 'size=50&page=2'")
    until(page, STATUS, "Images 51 to 100 of 1,200.")
    assert page.printed_pages() <= few


def test_a_screen_reader_finds_its_way(page: Page, files: dict[str, Path]) -> None:
    page.open(files["many"])
    nodes = page.call("Accessibility.getFullAXTree")["nodes"]
    kinds = [
        (node["role"]["value"], node.get("name", {}).get("value", ""))
        for node in nodes
        if not node["ignored"] and "role" in node
    ]
    assert {("main", ""), ("search", "Filter the images"), ("navigation", "Pages of images")} <= set(kinds)
    assert ("table", "The images") in kinds and ("region", "Table of verdicts") in kinds
    headers = [name for role, name in kinds if role == "columnheader"]
    assert headers == ["Image", "Verdict", "Last distance", "Tokens tried", "Score", "Confidence", "Reason"]
    assert len([1 for role, _ in kinds if role == "rowheader"]) >= 20
    assert [name for role, name in kinds if role in ("button", "link", "image", "textbox") and not name] == []
    assert (
        ("searchbox", "Name") in kinds
        and ("combobox", "Reason") in kinds
        and ("spinbutton", "Page") in {(role, name.split()[0]) for role, name in kinds if name}
    )


def test_the_reasons_stand_beside_their_advice_and_below_on_a_phone(
    page: Page, files: dict[str, Path]
) -> None:
    lefts = "[...document.querySelectorAll('.reasons p')].map(p => p.getBoundingClientRect().left)"
    page.open(files["problems"], 1280)
    assert len(set(page.run(lefts))) == 1 and page.run(lefts)[0] > 300
    page.resize(390)
    page.settle()
    assert len(set(page.run(lefts))) == 1 and page.run(lefts)[0] < 60


def test_a_picture_is_enlarged_and_closed(page: Page, files: dict[str, Path]) -> None:
    page.open(files["nine"])
    page.click(".redraws .zoom")
    assert page.run("document.querySelector('dialog img').naturalWidth") == 512
    height = "document.querySelector('%s img').getBoundingClientRect().height"
    assert page.run(height % "dialog") > 3 * page.run(height % ".redraws")
    page.click("dialog .close")
    assert not page.run("document.querySelector('dialog').open")


@pytest.mark.parametrize("name", ["nine", "many", "hostile", "problems", "empty"])
@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_overflows_at_any_width(
    page: Page, files: dict[str, Path], name: str, width: int, scheme: str
) -> None:
    page.open(files[name], width, scheme)
    assert page.run("innerWidth") == width
    assert page.run("document.documentElement.scrollWidth") <= width
    assert page.run(OUTSIDE) == []
    ground = page.run("getComputedStyle(document.body).backgroundColor")
    brightness = sum(int(part) for part in ground[4:-1].split(","))
    assert (brightness < 200) == (scheme == "dark")


def test_hostile_names_do_nothing(page: Page, files: dict[str, Path]) -> None:
    page.open(files["hostile"])
    assert page.run("document.title").startswith("Originality report")
    assert page.run("window.owned === undefined")
    assert page.run("document.scripts.length") == 1
    assert set(example_runs.HOSTILE[:3]) <= set(page.run(NAMES))


def test_the_page_works_without_its_script(page: Page, files: dict[str, Path]) -> None:
    page.call("Emulation.setScriptExecutionDisabled", value=True)
    try:
        page.open(files["nine"])
        assert len(page.run(NAMES)) == 11
        assert len(page.run(ROWS)) == 11
        page.open(files["many"])
        assert len(page.run(NAMES)) == len(page.run(ROWS)) == 20
        assert page.run("document.querySelector('.plain').checkVisibility()")
        hidden = "[...document.querySelectorAll('.scripted')].every(element => !element.checkVisibility())"
        assert page.run(hidden)
    finally:
        page.call("Emulation.setScriptExecutionDisabled", value=False)
