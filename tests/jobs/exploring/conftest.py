"""Two runs of the same images, the explorer that serves them, and a browser."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from cluster.run.folder import RunFolder
from tests.support.chromium import Page
from tests.support.explored_run import explored_run, served


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunFolder, RunFolder]:
    folder = tmp_path_factory.mktemp("explored")
    return explored_run(str(folder / "run")), explored_run(str(folder / "other"), shift=1)


@pytest.fixture(scope="session")
def url(runs: tuple[RunFolder, RunFolder]) -> Iterator[str]:
    """Address of the explorer of one run against the other."""
    with served(*runs) as address:
        yield address


@pytest.fixture
def page(browser: Page, url: str) -> Iterator[Page]:
    """A tab. Whatever else a test looks at, its page has no error and asks this server alone."""
    browser.leave()
    browser.requests.clear()
    browser.complaints.clear()
    yield browser
    browser.leave()
    assert [url_ for url_ in browser.requests if not url_.startswith((url, "about:blank"))] == []
    assert browser.complaints == []
