"""Lets the scorers of a test's workers wait for a progress line of the driver, instead of for a time."""

from __future__ import annotations

import io
import sys
from pathlib import Path


class TouchOnText(io.StringIO):
    """Writes to stderr, and creates a file when a certain text is written."""

    def __init__(self, words: str, file: Path) -> None:
        super().__init__()
        self._words, self._file = words, file

    def write(self, text: str) -> int:
        if self._words in text:
            self._file.touch()
        return sys.stderr.write(text)
