"""Tests do not repeat sentences of the code's messages: wording may change without a test that fails.

Ten messages are checked word for word, in `tests/jobs/test_messages.py`; everything else is checked by
exception type, exit code and one token.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.places import ROOT

PACKAGES = ("originality", "cluster", "jobs")
RUN = 7
"""So many words in a row that also stand in a string of the packages count as a repeated sentence."""
ALLOWED = {
    "tests/jobs/test_messages.py": "the ten messages that are checked word for word",
    "tests/originality/settings/test_domains.py": "the paper's edit prompts, which results depend on",
    "tests/originality/bench/test_confidence.py": "keys of committed results",
    "tests/originality/bench/test_report.py": "keys of committed results",
    "tests/originality/contract/test_redaction.py": "messages as inputs, which masking must not change",
}


def literals(source: str) -> Iterator[tuple[int, str]]:
    """Line and text of each string of a module, its docstrings and attribute docstrings left out."""
    tree = ast.parse(source)
    docs = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs:
            yield node.lineno, node.value


def runs(text: str) -> set[tuple[str, ...]]:
    """Each run of RUN words in a text, lower case and without the punctuation around them."""
    stripped = (re.sub(r"^\W+|\W+$", "", word) for word in text.lower().split())
    words = [word for word in stripped if word]
    return {tuple(words[first : first + RUN]) for first in range(len(words) - RUN + 1)}


def sentences(root: Path) -> set[tuple[str, ...]]:
    """Runs of words in all strings of the packages."""
    files = (file for package in PACKAGES for file in (root / package).rglob("*.py"))
    return {run for file in files for _, text in literals(file.read_text()) for run in runs(text)}


def repeated(root: Path) -> list[str]:
    """A line for each string of a test that repeats a sentence of the packages."""
    known, found = sentences(root), []
    for file in sorted((root / "tests").rglob("*.py")):
        where = str(file.relative_to(root))
        if where not in ALLOWED:
            texts = literals(file.read_text())
            found += [f"{where}:{line}: {text}" for line, text in texts if runs(text) & known]
    return found


def test_sentences_of_messages_are_not_repeated_in_tests() -> None:
    assert repeated(ROOT) == [], "check exception type, exit code and one token"


@pytest.mark.parametrize(
    "check",
    [
        'assert str(error) == "a.png: the file cannot be read twice today in a row"',
        'pytest.raises(ValueError, match=r"^The file cannot be read twice today")',
        'MESSAGE = f"{name}: the file cannot be read twice today"',
    ],
)
def test_a_repeated_sentence_would_be_found(tmp_path: Path, check: str) -> None:
    for folder in (*PACKAGES, "tests"):
        (tmp_path / folder).mkdir()
    (tmp_path / "jobs" / "x.py").write_text(
        '"""A."""\nraise ValueError(f"{n}: the file cannot be read twice today")\n'
    )
    (tmp_path / "tests" / "test_x.py").write_text(f'"""The file cannot be read twice today."""\n{check}\n')
    (line,) = repeated(tmp_path)
    assert line.startswith("tests/test_x.py:2: ")
    (tmp_path / "tests" / "test_x.py").write_text('assert "cannot be read twice" in str(error)\n')
    assert repeated(tmp_path) == []


def test_the_files_that_may_repeat_sentences_exist() -> None:
    assert [name for name in ALLOWED if not (ROOT / name).is_file()] == []
