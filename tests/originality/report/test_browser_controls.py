"""The controls of the report page in a real browser: sorting, filtering, paging, links and the keyboard."""

from __future__ import annotations

from pathlib import Path

from tests.support.chromium import Page
from tests.support.report_page import MANY, NAMES, NEEDS_CHROMIUM, REASONS, ROWS, SORTED, STATUS, until

pytestmark = NEEDS_CHROMIUM


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
    requested = [url for url in page.requests if "/data/" in url]
    assert len(requested) == 2  # all rows, and the evidence of these twenty
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
