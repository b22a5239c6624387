"""What tests read of a report page in a browser, as JavaScript."""

from __future__ import annotations

import time

import pytest

from tests.support import chromium
from tests.support.chromium import Page

NEEDS_CHROMIUM = [
    pytest.mark.browser,
    pytest.mark.skipif(chromium.find() is None, reason="no Chromium: run scripts/install-chromium.sh"),
]

NAMES = "[...document.querySelectorAll('.card h3')].map(name => name.textContent)"
"""Names of the cards, in their order on the page."""

ROWS = "[...document.querySelectorAll('.verdicts tbody th')].map(cell => cell.textContent)"
REASONS = "[...document.querySelectorAll('.verdicts tbody td:last-child')].map(cell => cell.textContent)"
STATUS = "document.querySelector('#status').textContent"
SORTED = "[...document.querySelectorAll('th[aria-sort]')].map(h => [h.innerText.trim(), h.ariaSort])"

MANY = 1_200
"""Images of the run with files beside its page; sixty of them were not judged."""


def until(page: Page, script: str, expected: object) -> None:
    """Waits for what the page comes to show once its files are read."""
    late = time.monotonic() + chromium.PATIENCE
    while (found := page.run(script)) != expected:
        assert time.monotonic() < late, f"{script}: {found!r}, not {expected!r}"
        page.settle()
