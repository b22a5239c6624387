"""The page in a real browser: what a person sees, and what happens when they touch it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from originality.report.page import render
from tests.report import chromium, examples
from tests.report.chromium import Page

BINARY = chromium.find()

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(BINARY is None, reason="no Chromium: run scripts/install-chromium.sh"),
]

NAMES = """
[...document.querySelectorAll('.card')].filter(card => !card.hidden)
  .map(card => card.querySelector('h3').textContent)
"""
"""Names of the cards that can be seen, in their order on the page."""

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
    made = {"nine": examples.nine(), "hostile": examples.hostile(), "empty": examples.report([])}
    made["problems"] = examples.many_problems()
    pages = {name: render(data) for name, data in made.items()}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("originality.report.page.TABLE_LIMIT", 10)
        pages["short"] = render(examples.nine())
    for name, text in pages.items():
        (folder / f"{name}.html").write_text(text, encoding="utf-8")
    return {name: folder / f"{name}.html" for name in pages}


@pytest.fixture(autouse=True)
def nothing_fetched_nothing_amiss(page: Page) -> Iterator[None]:
    """Every page is self-contained and free of errors, whatever else a test looks at."""
    page.requests.clear()
    page.complaints.clear()
    yield
    page.run("1")
    assert [url[:80] for url in page.requests if not url.startswith(("file:", "data:"))] == []
    assert len([url for url in page.requests if url.startswith("file:")]) <= 1
    assert page.complaints == []


def test_a_person_sees_the_answer_and_the_evidence(page: Page, files: dict[str, Path]) -> None:
    page.open(files["nine"])
    text = page.run("document.body.innerText")
    assert "How original are these images to shapes?" in text
    assert "2 could not be redrawn with up to five tokens" in text
    assert "What this measures, and what it does not" in text
    assert "distance.threshold" in text
    assert page.run("[...document.querySelectorAll('.chart .count')].map(t => t.textContent)") == [*"321012"]
    sizes = page.run("[...document.images].map(i => [i.naturalWidth, i.naturalHeight])")
    assert sizes.count([64, 64]) == 9
    assert sizes.count([512, 64]) == len(sizes) - 9 == 25
    assert page.run("[...document.images].every(i => i.alt && i.getBoundingClientRect().width > 0)")


def test_the_order_switches_when_clicked(page: Page, files: dict[str, Path]) -> None:
    page.open(files["nine"])
    first = page.run(NAMES)
    assert (first[0], first[8]) == ("unseen-3.png", "familiar-1.png")
    page.click("input[value=familiar]")
    assert page.run(NAMES) == [*first[8::-1], *first[9:]]
    page.click("input[value=name]")
    assert page.run(NAMES) == sorted(first)
    table = "[...document.querySelectorAll('.verdicts tbody th')].map(c => c.innerText)"
    assert page.run(table) == sorted(first)


def test_the_filter_shows_one_group_and_says_so(page: Page, files: dict[str, Path]) -> None:
    page.open(files["nine"])
    page.click("input[value=never]")
    assert page.run(NAMES) == ["unseen-3.png", "unseen-2.png"]
    status = page.run("document.querySelector('.status').innerText")
    assert status == "Showing 2 of 11 images with their details."
    page.click("input[value=rejected]")
    assert page.run(NAMES) == ["cut-off.jpg"]
    assert "copy it again" in page.run("document.querySelector('#images').innerText")


def test_a_table_that_lacks_images_says_so_for_each_group(page: Page, files: dict[str, Path]) -> None:
    page.open(files["short"])
    listed = "document.querySelector('#table-status').innerText"
    assert page.run(listed) == "Listed here: 10 of 11."
    for group, said in {"redrawn": "7 of 7", "rejected": "1 of 1", "failed": "0 of 1"}.items():
        page.click(f"input[value={group}]")
        assert page.run(listed) == f"Listed here: {said}."


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
    page.open(files["nine"])
    page.press("Tab", 9)
    assert page.run("document.activeElement.innerText") == "Skip to the images"
    page.press("Tab", 9)
    page.press("ArrowRight", 39)
    assert page.run("document.activeElement.value") == "familiar"
    assert page.run(NAMES)[0] == "familiar-1.png"
    page.run("document.querySelector('.zoom').focus()")
    page.press(" ", 32)
    assert page.run("document.querySelector('dialog').open")
    page.press("Escape", 27)
    assert not page.run("document.querySelector('dialog').open")


def test_a_picture_is_enlarged_and_put_away(page: Page, files: dict[str, Path]) -> None:
    page.open(files["nine"])
    page.click(".redraws .zoom")
    assert page.run("document.querySelector('dialog img').naturalWidth") == 512
    height = "document.querySelector('%s img').getBoundingClientRect().height"
    assert page.run(height % "dialog") > 3 * page.run(height % ".redraws")
    page.click("dialog .close")
    assert not page.run("document.querySelector('dialog').open")


@pytest.mark.parametrize("name", ["nine", "hostile", "problems", "empty"])
@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_sticks_out_at_any_width(
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
    assert set(examples.HOSTILE[:3]) <= set(page.run(NAMES))


def test_without_its_script_the_page_still_tells_all(page: Page, files: dict[str, Path]) -> None:
    page.call("Emulation.setScriptExecutionDisabled", value=True)
    try:
        page.open(files["nine"])
        assert len(page.run(NAMES)) == 11
        assert page.run("getComputedStyle(document.querySelector('.tools')).display") == "none"
    finally:
        page.call("Emulation.setScriptExecutionDisabled", value=False)
