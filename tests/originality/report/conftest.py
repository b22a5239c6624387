"""A browser, and the report pages that tests open in it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from jobs.auditing.report_data import write_report
from originality.report.page import render
from tests.support import example_runs
from tests.support.chromium import Page
from tests.support.large_run import run_folder
from tests.support.report_page import MANY


@pytest.fixture
def page(browser: Page) -> Iterator[Page]:
    """A tab. Whatever else a test looks at, its page has no error and requests only its own files."""
    browser.leave()
    browser.requests.clear()
    browser.complaints.clear()
    yield browser
    browser.run("1")
    assert [url[:80] for url in browser.requests if not url.startswith(("file:", "data:"))] == []
    assert browser.complaints == []


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Report pages by name."""
    folder = tmp_path_factory.mktemp("pages")
    made = {"nine": example_runs.nine(), "hostile": example_runs.hostile(), "empty": example_runs.report([])}
    made["problems"] = example_runs.many_problems()
    for name, data in made.items():
        (folder / f"{name}.html").write_text(render(data), encoding="utf-8")
    many = folder / "a run" / "#1"  # names that an address must spell otherwise
    files = {name: folder / f"{name}.html" for name in made}
    files["many"] = Path(write_report(run_folder(many, MANY, tile=24)))
    return files
