"""Makes text safe to print: names and messages may contain anything, including terminal commands.

All that a job prints goes through streams that escape it (:func:`printable_streams`). Code that draws with
rich needs terminal commands itself: it escapes its texts and draws on the underlying stream
(:func:`unescaped`).
"""

from __future__ import annotations

import re
import sys
import unicodedata
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TextIO, cast

from originality.contract.redaction import masked

_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
"""Unicode categories of invisible characters: controls (ESC, DEL, C1), format characters (direction
marks and overrides, zero-width ones, tags), lone surrogates, private and unassigned ones, separators of lines
and paragraphs."""
_JOINERS = "\u200c\u200d"
"""Zero-width characters that some scripts and emoji need. Beside Latin letters they would only make two
different names look the same, so there they are escaped."""
_BEYOND_LATIN = 0x300
_SUSPECT = re.compile(r"[^ -~]")
_OF_LINES = re.compile(r"[^ -~\n\t]")


def printable(text: str, *, lines: bool = False) -> str:
    """Replace invisible and control characters by Python escapes: ``\\x1b``, ``\\u202e``. Letters of all
    scripts, emoji and their sequences are kept.

    Args:
        lines: whether to keep line breaks and tabs too.
    """
    if (_OF_LINES if lines else _SUSPECT).search(text) is None:
        return text
    return "".join(
        c if _is_visible(text, place) or (lines and _is_layout(text, place)) else ascii(c)[1:-1]
        for place, c in enumerate(text)
    )


class PrintableStream:
    """A text stream that escapes and masks what is written to it, and passes it on."""

    def __init__(self, unescaped: TextIO) -> None:
        self.unescaped = unescaped

    def write(self, text: str) -> int:
        self.unescaped.write(printable(masked(text), lines=True))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.unescaped, name)


def unescaped(stream: TextIO) -> TextIO:
    """The underlying stream, for code that writes terminal commands and escapes all texts itself."""
    return stream.unescaped if isinstance(stream, PrintableStream) else stream


@contextmanager
def printable_streams() -> Iterator[None]:
    """Escape and mask all output to stdout and stderr while the context is open."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (
        stream if isinstance(stream, PrintableStream) else cast(TextIO, PrintableStream(stream))
        for stream in before
    )
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


def _is_layout(text: str, place: int) -> bool:
    return text[place] in "\n\t" or text[place : place + 2] == "\r\n"


def _is_visible(text: str, place: int) -> bool:
    char = text[place]
    if char in _JOINERS:
        return all(map(_is_joinable, (text[max(place - 1, 0)], text[min(place + 1, len(text) - 1)])))
    return unicodedata.category(char) not in _HIDDEN


def _is_joinable(char: str) -> bool:
    return ord(char) >= _BEYOND_LATIN and unicodedata.category(char) not in _HIDDEN
