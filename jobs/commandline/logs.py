"""What a command logs: on a terminal by rich, elsewhere plain lines with time, level and node."""

from __future__ import annotations

import argparse
import copy
import logging
import sys
from typing import TextIO, cast

from originality.contract.log_lines import LEVELS, PlainLines, log_to, safe_message
from originality.contract.printable import unescaped


def add_level(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--log-level",
        choices=LEVELS,
        default="info",
        help="least level of what is logged to stderr (default: info); results on stdout do not depend on it",
    )


def set_up(level: str) -> None:
    """Logs to stderr from now on."""
    log_to(_on_terminal() if sys.stderr.isatty() else _Plain(), level)


class _Plain(logging.StreamHandler):  # type: ignore[type-arg]
    """Writes to whatever ``sys.stderr`` is at the time: it is replaced while a command runs."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)
        self.setFormatter(PlainLines())

    @property
    def stream(self):  # type: ignore[no-untyped-def,override]
        return sys.stderr


def _on_terminal() -> logging.Handler:
    from rich.console import Console
    from rich.highlighter import NullHighlighter
    from rich.logging import RichHandler

    class Rich(RichHandler):
        def emit(self, record: logging.LogRecord) -> None:
            safe = copy.copy(record)
            safe.msg, safe.args = safe_message(record), None
            super().emit(safe)

    # The colours are ours, so they go past the stream that makes commands of terminals visible.
    console = Console(file=cast(TextIO, _Stderr()), force_terminal=True)
    return Rich(console=console, show_time=False, show_path=False, highlighter=NullHighlighter())


class _Stderr:
    """Whatever ``sys.stderr`` is at the time: the live view of the progress takes it over."""

    def write(self, text: str) -> int:
        return unescaped(sys.stderr).write(text)

    def flush(self) -> None:
        sys.stderr.flush()
