"""The report page in a real browser: what it shows, and how its controls behave."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobs.auditing.report_data import write_report
from originality.report.page import render
from tests.scale.page import run_folder
from tests.support import chromium, example_runs
from tests.support.chromium import Page

BINARY = chromium.find()

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(BINARY is None, reason="no Chromium: run scripts/install-chromium.sh"),
]

NAMES = "[...document.querySelectorAll('.card h3')].map(name => name.textContent)"
"""Names of the cards, in their order on the page."""

ROWS = "[...document.querySelectorAll('.verdicts tbody th')].map(cell => cell.textContent)"
REASONS = "[...document.querySelectorAll('.verdicts tbody td:last-child')].map(cell => cell.textContent)"
STATUS = "document.querySelector('#status').textContent"
SORTED = "[...document.querySelectorAll('th[aria-sort]')].map(h => [h.innerText.trim(), h.ariaSort])"

MANY = 1_200
"""Images of the run with files beside its page; sixty of them were not judged."""

OUTSIDE = """
[...document.querySelectorAll('body *')].filter(
  e => !e.closest('.scroll, .skip, dialog') && e.getBoundingClientRect().right > innerWidth + 1
).map(e => e.className)
"""
"""Elements that stick out to the right, those aside that scroll by themselves."""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    assert BINARY is not None
    with chromium.browse(BINARY, tmp_path_factory.mktemp("browser") / "profile") as page:
        yield page


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pages")
    made = {"nine": example_runs.nine(), "hostile": example_runs.hostile(), "empty": example_runs.report([])}
    made["problems"] = example_runs.many_problems()
    for name, data in made.items():
        (folder / f"{name}.html").write_text(render(data), encoding="utf-8")
    many = folder / "a run" / "#1"  # names that an address must spell otherwise
    files = {name: folder / f"{name}.html" for name in made}
    files["many"] = Path(write_report(run_folder(many, MANY, tile=24)))
    return files


@pytest.fixture(autouse=True)
def nothing_fetched_nothing_amiss(page: Page) -> Iterator[None]:
    """Every page is free of errors and asks for nothing but its own files, whatever else a test looks at."""
    page.leave()
    page.requests.clear()
    page.complaints.clear()
    yield
    page.run("1")
    assert [url[:80] for url in page.requests if not url.startswith(("file:", "data:"))] == []
    assert page.complaints == []


def until(page: Page, script: str, expected: object) -> None:
    """Waits for what the page comes to show once its files are read."""
    late = time.monotonic() + chromium.PATIENCE
    while (found := page.run(script)) != expected:
        assert time.monotonic() < late, f"{script}: {found!r}, not {expected!r}"
        page.settle()


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


def test_a_page_of_few_images_sorts_and_filters_by_itself(page: Page, files: dict[str, Path]) -> None:
    page.open(files["nine"])
    assert [url for url in page.requests if url.startswith("file:")] == [files["nine"].as_uri()]
    first = page.run(NAMES)
    assert (first[0], first[8]) == ("unseen-3.png", "familiar-1.png")
    page.click("[data-sort=verdict] button")  # best known first, what was not judged still last
    until(page, NAMES, [*first[8::-1], *first[9:]])
    page.click("[data-sort=name] button")
    until(page, ROWS, sorted(first))
    assert page.run(NAMES) == sorted(first)
    page.click("input[value=never]")
    until(page, NAMES, ["unseen-2.png", "unseen-3.png"])
    assert page.run(STATUS) == "Images 1 to 2 of 2 (11 in total)."
    page.click("input[value=rejected]")
    until(page, NAMES, ["cut-off.jpg"])
    assert "copy it again" in page.run("document.querySelector('.cards').innerText")
    assert page.run("document.querySelector('.pager').checkVisibility()") is False


def test_pages_are_loaded_when_they_are_shown(page: Page, files: dict[str, Path]) -> None:
    page.open(files["many"])
    assert [url for url in page.requests if url.startswith("file:")] == [files["many"].as_uri()]
    assert page.run(STATUS) == "Images 1 to 20 of 1,200."
    assert page.run("document.querySelectorAll('*').length") < 4_000
    first = page.run(ROWS)
    page.click(".pager [name=next]")
    until(page, STATUS, "Images 21 to 40 of 1,200.")
    second = page.run(ROWS)
    assert second == page.run(NAMES) and len(set(first + second)) == 40
    asked = [url for url in page.requests if "/data/" in url]
    assert len(asked) == 2  # all rows, and the evidence of these twenty
    page.click(".pager [name=last]")
    until(page, STATUS, "Images 1,181 to 1,200 of 1,200.")
    assert set(page.run(REASONS)) == {"missing"}
    page.click(".pager [name=first]")
    until(page, ROWS, first)
    assert page.run("document.querySelector('.pager [name=previous]').ariaDisabled") == "true"
    seen = set()
    for number in range(1, 13):
        page.run(f"location.hash = 'size=100&page={number}'")
        until(page, STATUS, f"Images {number * 100 - 99:,} to {number * 100:,} of 1,200.")
        seen |= set(page.run(ROWS))
    assert len(seen) == MANY


def test_columns_sort_all_rows_and_not_those_of_the_page(page: Page, files: dict[str, Path]) -> None:
    page.open(files["many"])
    assert page.run(SORTED) == [["Verdict", "descending"]]
    page.click("[data-sort=name] button")
    until(page, SORTED, [["Image", "ascending"]])
    names = [f"{i // 1000:04}/photograph-{i:07}.jpg" for i in range(MANY)]
    until(page, ROWS, names[:20])
    page.click("[data-sort=name] button")
    until(page, ROWS, names[:-21:-1])
    assert page.run(SORTED) == [["Image", "descending"]]
    page.click("[data-sort=reason] button")
    until(page, REASONS, ["missing"] * 20)
    page.click("[data-sort=distance] button")
    until(page, SORTED, [["Last distance", "descending"]])
    column = "[...document.querySelectorAll('.verdicts tbody td:nth-child(3)')].map(c => c.textContent)"
    farthest = page.run(column)
    assert farthest == sorted(farthest, reverse=True)
    page.click("[data-sort=distance] button")
    until(page, SORTED, [["Last distance", "ascending"]])
    nearest = page.run(column)
    assert nearest == sorted(nearest) and float(nearest[-1]) < float(farthest[-1])


def test_images_that_were_not_judged_are_found_by_status_reason_and_name(
    page: Page, files: dict[str, Path]
) -> None:
    page.open(files["many"])
    page.click("input[value=rejected]")
    until(page, STATUS, "Images 1 to 20 of 40 (1,200 in total).")
    assert set(page.run(REASONS)) == {"truncated", "not-an-image"}
    page.open(files["many"])
    page.run("[...document.querySelectorAll('.reasons a')].find(a => a.hash.includes('truncated')).click()")
    until(page, REASONS, ["truncated"] * 20)
    assert page.run(STATUS) == "Images 1 to 20 of 20 (1,200 in total)."
    assert page.run("document.querySelector('select[name=reason]').value") == "truncated"
    page.open(files["many"])
    page.run("document.querySelector('[name=find]').focus()")
    page.call("Input.insertText", text="PHOTOGRAPH-000004")
    until(page, STATUS, "Images 1 to 10 of 10 (1,200 in total).")
    page.call("Input.insertText", text="x")
    until(page, STATUS, "No matching images.")


def test_a_link_leads_to_an_image_wherever_it_is(page: Page, files: dict[str, Path]) -> None:
    page.open(files["many"])
    page.run("location.hash = 'sort=name&down=false&page=31'")
    until(page, f"({ROWS})[0]", "0000/photograph-0000600.jpg")
    link = page.run("document.querySelector('.verdicts tbody a').hash")
    page.open(files["nine"])
    page.call("Page.navigate", url=files["many"].as_uri() + link)
    until(page, "document.activeElement?.querySelector('h3')?.textContent", "0000/photograph-0000600.jpg")
    until(page, "document.activeElement.getBoundingClientRect().top < innerHeight", True)
    page.run("location.hash = 'image-000000000000'")
    until(page, f"{STATUS}.includes('not in the report')", True)


def test_a_card_built_by_the_script_equals_the_one_in_the_page(
    page: Page, files: dict[str, Path], tmp_path: Path
) -> None:
    """The same image as the page holds it and as the script builds it, pictures aside."""
    told = """[...document.querySelectorAll('#images .card, #images tbody tr')].map(element => {
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
    written = page.run(told)
    for name, content in data.listing.files():
        (tmp_path / "data").mkdir(exist_ok=True)
        (tmp_path / "data" / name).write_bytes(content)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("originality.report.page.WHOLE", 0)
        patch.setattr("originality.report.page.FIRST", 0)
        (tmp_path / "index.html").write_text(render(example_runs.varied()), encoding="utf-8")
    page.call("Page.navigate", url=(tmp_path / "index.html").as_uri() + "#size=100")
    until(page, "document.querySelectorAll('.card').length", len(data.listing))
    assert page.run(told) == written
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


def test_the_keyboard_does_what_the_mouse_does(page: Page, files: dict[str, Path]) -> None:
    page.open(files["many"])
    page.press("Tab", 9)
    assert page.run("document.activeElement.innerText") == "Skip to the images"
    page.run("document.querySelector('input[value=all]').focus()")
    page.press("ArrowRight", 39)
    until(page, STATUS, "Images 1 to 20 of 206 (1,200 in total).")
    focused = "document.activeElement.name || document.activeElement.innerText"
    seen = []
    while len(seen) < 20 and "Reason" not in seen:
        page.press("Tab", 9)
        seen.append(page.run(focused).strip())
    order = [
        "reason",
        "find",
        "size",
        "first",
        "previous",
        "next",
        "last",
        "Image",
        "Verdict",
        "Last distance",
    ]
    assert [name for name in seen if name in order] == order
    page.run("document.querySelector('[data-sort=name] button').focus()")
    page.press("Enter", 13)
    until(page, SORTED, [["Image", "ascending"]])
    assert page.run("document.activeElement.innerText").strip() == "Image"
    page.run("document.querySelectorAll('.pager [name=next]')[1].focus()")
    page.press("Enter", 13)
    until(page, STATUS, "Images 21 to 40 of 206 (1,200 in total).")
    until(page, "document.activeElement.id", "images-title")
    page.run("document.querySelector('.zoom').focus()")
    page.press(" ", 32)
    assert page.run("document.querySelector('dialog').open")
    page.press("Escape", 27)
    assert not page.run("document.querySelector('dialog').open")


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
