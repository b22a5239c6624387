"""Shell patterns for the names of files."""

from __future__ import annotations

import re

from cluster.inputs.hidden import SYSTEM

WILD = r"[*?\[]"
"""Recognises patterns."""


def names_hidden(part: str) -> bool:
    """Whether a part of a pattern matches hidden names on purpose, as in a shell: by more than a wildcard."""
    if part[:1] in ("", "*", "?", "["):
        return False
    matches = re.compile(glob_regex(part), re.IGNORECASE).search
    return part.startswith(".") or any(matches(name) for name in SYSTEM)


def glob_regex(pattern: str) -> str:
    """A shell pattern as a regular expression: ``*`` and ``?`` match within a folder, ``**/`` any number of
    folders, ``[a-z]`` one of these letters."""
    tokens = re.split(r"(\*\*/|\*\*|\*|\?|\[!?[^\]/]+\])", pattern)
    meaning = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}

    def translated(token: str) -> str:
        if token in meaning:
            return meaning[token]
        if re.fullmatch(r"\[!?[^\]/]+\]", token):
            body = token[1:-1].replace("\\", r"\\")
            return f"[^{body[1:]}]" if body.startswith("!") else f"[{body}]"
        return re.escape(token)

    return "^" + "".join(map(translated, tokens)) + "$"
