"""The explorer's page in a real browser: what a person does with it, by mouse, keyboard and on a phone."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import pytest

from tests.support.chromium import Page
from tests.support.explored_run import CAPTION, NAMES, TOKEN, tokens_of
from tests.support.report_page import NEEDS_CHROMIUM, until

pytestmark = NEEDS_CHROMIUM

STATUS = "document.querySelector('#status').textContent"
SHOWN = "[...document.querySelectorAll('#results .open')].map(open => Number(open.dataset.number))"
FOCUSED = "Number(document.activeElement.dataset.number)"
SHEET = "document.querySelector('#sheet').open && document.querySelector('#sheet-title').textContent"
OUTSIDE = """
[...document.querySelectorAll('body *')].filter(
  e => !e.closest('.scroll, .skip, .unseen') && e.checkVisibility() &&
    e.getBoundingClientRect().right > innerWidth + 1
).map(e => e.outerHTML.slice(0, 80))
"""
"""Elements that stick out to the right, those aside that scroll by themselves."""
JUDGED = [number for number in range(len(NAMES) - 1) if number % 20 != 19]


def visit(
    page: Page, url: str, view: dict[str, Any] | None = None, width: int = 1280, scheme: str = "light"
) -> None:
    page.visit(f"{url}#{json.dumps(view)}" if view else url, width, scheme)
    until(page, f"/Image/.test({STATUS})", True)


def enter(page: Page, selector: str, text: str) -> None:
    """Type into a field, as a person does, and leave it."""
    page.click(selector)
    page.call("Input.insertText", text=text)
    page.run("document.activeElement.blur()")


def drag(page: Page, selector: str, start: tuple[float, float], end: tuple[float, float]) -> None:
    """Draw from one place of an element to another; places are shares of its width and height."""
    element = f"document.querySelector('{selector}')"
    page.run(f"{element}.scrollIntoView({{block: 'center', behavior: 'instant'}})")
    page.settle()
    sides = "({x, y, width, height}) => [x, y, width, height]"
    box = page.run(f"({sides})({element}.getBoundingClientRect())")
    points = [(box[0] + x * box[2], box[1] + y * box[3]) for x, y in (start, end)]
    for kind, (x, y) in (
        ("mousePressed", points[0]),
        ("mouseMoved", points[1]),
        ("mouseReleased", points[1]),
    ):
        page.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", buttons=1, clickCount=1)
    page.settle()


def test_it_filters_by_tokens_score_words_and_any_column(page: Page, url: str) -> None:
    visit(page, url)
    assert page.run(STATUS) == f"Images 1 to 60 of {len(NAMES)}."
    page.click("#tokens-choice label:last-child")
    expected = [number for number in JUDGED if tokens_of(number) is None]
    until(page, SHOWN, expected)
    enter(page, "[name='score from']", "4")
    until(page, f"{SHOWN}.length < {len(expected)}", True)
    page.click("#clear")
    until(page, f"{SHOWN}.length", 60)
    enter(page, "[name=find]", "number 4 klee")
    until(page, SHOWN, [number for number in range(len(NAMES)) if number % 4 == 0 and "4" in str(number)])
    page.click("#clear")
    page.click("[name=find]")
    page.call("Input.insertText", text="klee number 44")
    page.press("Enter", 13)  # without the wait after the last key
    until(page, SHOWN, [44])
    page.click("#clear")
    enter(page, "[name=value]", "Höch")
    page.click(".adding button")
    until(page, f"{SHOWN}.slice(0, 3)", [2, 6, 10])
    assert page.run("document.querySelector('#conditions li').textContent").startswith("artist contains Höch")
    page.call("Page.reload")  # the address holds the view
    until(page, f"{SHOWN}.slice(0, 3)", [2, 6, 10])


def test_it_sorts_by_any_column_and_turns_pages(page: Page, url: str) -> None:
    visit(page, url)
    page.click("th[data-sort=year] button")
    page.click("th[data-sort=year] button")
    until(page, f"{SHOWN}[0]", len(NAMES) - 1)
    assert page.run("document.querySelector('th[data-sort=year]').ariaSort") == "descending"
    assert page.run("document.activeElement.closest('th')?.dataset.sort") == "year"
    page.click(".pager [name=next]")
    until(page, STATUS, f"Images 61 to {len(NAMES)} of {len(NAMES)}.")
    page.run("sort.value = 'finished_at'; sort.dispatchEvent(new Event('change'))")
    until(page, f"/^Images 1 to/.test({STATUS})", True)


def test_the_keyboard_opens_turns_and_closes(page: Page, url: str) -> None:
    visit(page, url, {"mode": "grid"})
    page.run("document.querySelector('#grid .open').focus()")
    page.press("ArrowRight", 39)
    assert page.run(FOCUSED) == 1
    page.press("ArrowDown", 40)
    below = page.run(FOCUSED)
    assert below > 2
    assert page.run("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.press("Enter", 13)
    until(page, SHEET, NAMES[below])
    page.press("ArrowRight", 39)
    until(page, SHEET, NAMES[below + 1])
    page.press("Escape", 27)
    until(page, SHEET, False)
    assert page.run(FOCUSED) == below + 1


def test_a_sheet_shows_every_number_of_tokens_of_both_runs(page: Page, url: str) -> None:
    visit(page, url)
    page.click(".open[data-number='2']")
    until(page, SHEET, NAMES[2])
    tried = [len(range(1, (tokens_of(2, shift) or 5) + 1)) for shift in (0, 1)]
    assert page.run("document.querySelectorAll('#sheet .attempt').length") == sum(tried)
    assert page.run("document.querySelectorAll('#sheet .dots i').length") == 20 * sum(tried)
    text = page.run("document.querySelector('#sheet').innerText")
    assert "15 of 20" in text and "a drawing, number 2" in text and "75.0 %" in text
    loaded = "[...document.querySelectorAll('#sheet img')].every(image => image.naturalWidth > 0)"
    until(page, loaded, True)
    windows = """[...document.querySelectorAll('#sheet .window')].map(window => {
      const [outer, inner] = [window, window.firstElementChild].map(part => part.getBoundingClientRect());
      return [(outer.top - inner.top) / outer.height, inner.height / outer.height]
        .map(rows => Math.round(50 * rows) / 50);
    })"""
    assert page.run(windows) == [[row, rows] for rows in tried for row in range(rows)]
    page.click("#sheet [name=close]")
    page.click(".open[data-number='19']")
    until(page, "/truncated/.test(document.querySelector('#sheet').innerText)", True)


def test_columns_are_chosen(page: Page, url: str) -> None:
    visit(page, url)
    page.click("#chooser summary")
    page.click("#chooser input[value=finished_at]")
    until(page, "document.querySelector('th[data-sort=finished_at]') !== null", True)
    page.press("Escape", 27)
    assert not page.run("document.querySelector('#chooser').open")


def test_a_bar_and_a_rectangle_select(page: Page, url: str) -> None:
    visit(page, url)
    until(page, "document.querySelectorAll('.bar').length", 6)
    page.click(".bar:nth-child(2)")
    twos = [number for number in JUDGED if tokens_of(number) == 2]
    until(page, SHOWN, twos)
    heights = page.run(
        "[...document.querySelectorAll('.bar i')].map(bar => bar.getBoundingClientRect().height)"
    )
    assert heights[0] == max(heights) and heights[5] < heights[4] < heights[0]
    page.click(".bar:nth-child(2)")
    until(page, f"{SHOWN}.length", 60)
    drag(page, "#scatter svg", (0.5, 0.0), (1.0, 0.5))
    until(page, "document.querySelectorAll('#conditions .active').length", 4)
    scores = "[...document.querySelectorAll('#table tbody tr')].map(row => +row.cells[2].innerText)"
    until(page, f"{scores}.length > 0 && Math.min(...{scores}) > 2.5", True)
    until(page, "document.querySelectorAll('#scatter .chosen').length", 1)


def test_two_runs_are_compared(page: Page, url: str) -> None:
    visit(page, url)
    same = sum(tokens_of(number) == tokens_of(number, 1) for number in JUDGED)
    until(page, "document.querySelector('#agreement p')?.textContent.split(' ')[0]", str(same))
    page.click("#agreement tbody tr:first-child td:nth-of-type(2) button")
    moved = [number for number in JUDGED if (tokens_of(number), tokens_of(number, 1)) == (1, 2)]
    until(page, SHOWN, moved)
    page.click("#clear")
    page.click("#moved-most")
    until(page, "document.querySelector('th[aria-sort]')?.dataset.sort", "score_moved")


def test_a_selection_is_exported(page: Page, url: str) -> None:
    where = [{"column": "artist", "op": "in", "values": ["Arp"]}]
    visit(page, url, {"where": where})
    arps = [number for number in range(len(NAMES)) if number % 4 == 1]
    until(page, SHOWN, arps)
    text = page.run("fetch(document.querySelector('#export').href).then(answer => answer.text())")
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    assert [row["artist"] for row in rows] == ["Arp"] * len(arps)
    assert page.run("document.querySelector('#export').textContent") == f"Export {len(arps)} images as a list"


def test_hostile_names_and_captions_are_text(page: Page, url: str) -> None:
    visit(page, url, {"sort": "number", "down": True})
    until(page, f"{SHOWN}[0]", len(NAMES) - 1)
    assert "<script>" in page.run("document.querySelector('#table').innerText")
    visible = page.run("document.querySelector('#table').innerText")
    assert "\u202e" not in visible and "\\u202e" in visible
    page.run("location.hash = JSON.stringify({find: 'onerror'})")
    until(page, SHOWN, [7, 91])
    page.click(".open[data-number='7']")
    until(page, "document.querySelector('#sheet').innerText.includes('onerror')", True)
    assert CAPTION in page.run("document.querySelector('#sheet').innerText")
    assert page.run("window.owned") is None and page.run("document.scripts.length") == 1
    assert page.run("document.querySelectorAll('img[src=x], b bold').length") == 0


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_overflows(page: Page, url: str, width: int, scheme: str) -> None:
    for mode in ("table", "grid"):
        visit(page, url, {"mode": mode, "sort": "number", "down": True}, width, scheme)
        page.run("document.querySelectorAll('details').forEach(part => part.open = true)")
        until(
            page,
            "document.querySelectorAll('.bar').length > 0 && document.querySelectorAll('.cell').length > 0",
            True,
        )
        assert page.run("document.documentElement.scrollWidth") <= width
        assert page.run(OUTSIDE) == []
        page.leave()
    visit(page, url, {}, width, scheme)
    page.run("document.querySelector('.open').click()")
    until(page, SHEET, NAMES[0])
    assert page.run("document.querySelector('#sheet').scrollWidth") <= width
    ground = page.run("getComputedStyle(document.body).backgroundColor")
    assert (sum(int(part) for part in ground[4:-1].split(",")) < 200) == (scheme == "dark")


def test_everything_has_a_name(page: Page, url: str) -> None:
    visit(page, url)
    until(page, "document.querySelectorAll('.bar').length", 6)
    nodes = page.call("Accessibility.getFullAXTree")["nodes"]
    kinds = [
        (node["role"]["value"], node.get("name", {}).get("value", ""))
        for node in nodes
        if not node["ignored"] and "role" in node
    ]
    named = ("button", "link", "image", "textbox", "searchbox", "combobox", "spinbutton", "checkbox", "radio")
    assert [role for role, name in kinds if role in named and not name] == []
    assert {("main", ""), ("search", "Filter the images"), ("table", "The images")} <= set(kinds)


def test_a_page_with_a_wrong_token_shows_nothing(page: Page, url: str) -> None:
    page.visit(url.replace(TOKEN, "guessed"))
    assert page.run("document.body.innerText").startswith("403")
    page.leave()
    page.complaints.clear()  # of the browser, on the refusal
    page.requests.clear()
