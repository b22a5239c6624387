"""Prints the help of every ``originality`` command, as one JSON object."""

from __future__ import annotations

import contextlib
import importlib
import io
import json

from jobs import cli


def help_of(*words: str) -> str:
    """What ``originality WORDS --help`` prints."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
        cli.main([*words, "--help"])
    return printed.getvalue()


def commands() -> list[tuple[str, ...]]:
    """Every command, those below a command included."""
    found: list[tuple[str, ...]] = []
    for name, module, _ in cli.JOBS:
        below = getattr(importlib.import_module(module), "JOBS", None)
        found += [(name, inner) for inner, _, _ in below] if below else [(name,)]
    return found


if __name__ == "__main__":
    print(json.dumps({" ".join(("originality", *words)): help_of(*words) for words in commands()}))
