"""Commands of the documentation: what a reader would paste into a shell."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import NamedTuple

from tests.support.places import ROOT

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_SHELL = ("", "sh", "bash", "shell", "console")
"""Languages of a block that holds commands; output has the language "text"."""


class Command(NamedTuple):
    page: str
    """The page's path in the repository."""
    line: str
    """As it is written, on one line and without its comment."""

    @property
    def words(self) -> list[str]:
        """Its arguments, without assignments to the environment, the path of the environment and the file
        that its output goes to."""
        words = shlex.split(self.line)
        while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
            words = words[1:]
        words = [word for word in words if word != "&"]
        words = words[: words.index(">")] if ">" in words else words
        return [words[0].removeprefix(".venv/bin/"), *words[1:]]


def pages() -> list[Path]:
    """README, the pages of the site and of the cluster, and how to contribute and test."""
    docs = (file for file in (ROOT / "docs").rglob("*.md") if file.name != "notes.md")
    others = ("README.md", "CONTRIBUTING.md", "tests/README.md", "cluster/deploy/README.md")
    return [*(ROOT / name for name in others), *sorted(docs)]


def commands_of(text: str, page: str) -> list[Command]:
    """Each command of a page's blocks; a line that ends in a backslash is continued in the next."""
    blocks = [body for language, body in _FENCE.findall(text) if language in _SHELL]
    lines = [line for body in blocks for line in body.replace("\\\n", " ").splitlines()]
    plain = (re.sub(r"(^|\s)#\s.*", "", line).strip() for line in lines)
    parts = (part.strip() for line in plain for part in line.split(" && "))
    return [Command(page, re.sub(r"\s+", " ", part)) for part in parts if part]


def commands() -> list[Command]:
    found = (commands_of(file.read_text(), str(file.relative_to(ROOT))) for file in pages())
    return [command for of_page in found for command in of_page]
