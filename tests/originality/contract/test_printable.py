"""What a terminal would obey, or what would hide, is shown as an escape; what people write stays."""

from __future__ import annotations

import io
import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from originality.contract.printable import PrintableStream, printable, printable_streams, unescaped

HIDDEN = {
    "a command of terminals": ("a\x1b[2Jb", "a\\x1b[2Jb"),
    "one of C1": ("a\x9b2Jb", "a\\x9b2Jb"),
    "delete": ("a\x7f", "a\\x7f"),
    "a carriage return": ("good\rbad", "good\\rbad"),
    "a line break": ("a\nb", "a\\nb"),
    "an override": ("a\u202egpj.exe", "a\\u202egpj.exe"),
    "isolates": ("\u2066a\u2069", "\\u2066a\\u2069"),
    "direction marks": ("a\u200e\u200f\u061c", "a\\u200e\\u200f\\u061c"),
    "separators of lines and paragraphs": ("a\u2028b\u2029c", "a\\u2028b\\u2029c"),
    "zero width": ("a\u200bb\ufeff\u2060", "a\\u200bb\\ufeff\\u2060"),
    "tags": ("a\U000e0041", "a\\U000e0041"),
    "a name that is no UTF-8": ("a\udcff", "a\\udcff"),
    "a joiner between Latin letters": ("pay\u200dpal", "pay\\u200dpal"),
    "a joiner at the end": ("漢\u200d", "漢\\u200d"),
}


@pytest.mark.parametrize("name", HIDDEN)
def test_invisible_and_control_characters_are_escaped(name: str) -> None:
    text, shown = HIDDEN[name]
    assert printable(text) == shown


@pytest.mark.parametrize(
    "text",
    [
        "a b.png",
        "é ü ñ ß",
        "漢字 かな 한글",
        "עברית",
        "🙂 👩🏽\u200d🚀 🏳️\u200d🌈",
        "می\u200cخواهم",
        "e\u0301",
        "10\u00a0€",
    ],
)
def test_ordinary_text_is_kept(text: str) -> None:
    assert printable(text) == text


@given(st.text(st.characters(categories=None)))
def test_every_invisible_character_is_escaped(text: str) -> None:
    shown = printable(text)
    categories = {unicodedata.category(c) for c in shown if c not in "\u200c\u200d"}
    assert not categories & {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
    assert printable(shown) == shown


def test_streams_keep_line_breaks_only() -> None:
    behind = io.StringIO()
    stream = PrintableStream(behind)
    print("a\tb", "c\x1b[0m\rd", sep="\n", file=stream)
    stream.writelines(["e\r\n", "http://joe:s3cr3t@host/\n"])
    assert behind.getvalue() == "a\tb\nc\\x1b[0m\\rd\ne\r\nhttp://***@host/\n"
    assert not stream.isatty() and unescaped(stream) is behind and unescaped(behind) is behind


def test_streams_are_restored(capsys: pytest.CaptureFixture[str]) -> None:
    before = sys.stdout, sys.stderr
    with printable_streams(), printable_streams():
        print("\x1b")
        print("\u202e", file=sys.stderr)
    assert (sys.stdout, sys.stderr) == before
    assert capsys.readouterr() == ("\\x1b\n", "\\u202e\n")
