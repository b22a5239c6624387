"""Log handlers of a command: rich on a terminal, elsewhere plain lines with time, level and node."""

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
        help="lowest level of log lines on stderr (default: info); results on stdout do not depend on it",
    )


def set_up(level: str) -> None:
    """Send log lines of this level and above to stderr."""
    log_to(_on_terminal() if sys.stderr.isatty() else _Plain(), level)


class _Plain(logging.StreamHandler):  # type: ignore[type-arg]
    """Handler that writes to the current ``sys.stderr``, which is replaced while a command runs."""

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

    # Rich's colour codes must not be escaped, so they bypass the stream that escapes control characters; the
    # messages themselves were made safe above.
    console = Console(file=cast(TextIO, _Stderr()), force_terminal=True)
    return Rich(console=console, show_time=False, show_path=False, highlighter=NullHighlighter())


class _Stderr:
    """Stream that writes to the current ``sys.stderr``, which the live progress view replaces."""

    def write(self, text: str) -> int:
        return unescaped(sys.stderr).write(text)

    def flush(self) -> None:
        sys.stderr.flush()
