"""Log handlers of a command: rich on a terminal, elsewhere plain lines with time, level and node.

The packages are imported inside functions, so that ``--help`` imports none of them.
"""

from __future__ import annotations

import argparse
import copy
import logging
import sys
from typing import TextIO, cast

_LEVELS = ("debug", "info", "warning", "error")


def add_level(parser: argparse.ArgumentParser) -> None:
    """Add ``--log-level``."""
    parser.add_argument(
        "--log-level",
        choices=_LEVELS,
        default="info",
        help="lowest level of log lines on stderr (default: info); results on stdout do not depend on it",
    )


def set_up(level: str) -> None:
    """Send log lines of this level and above to stderr; workers of this process's runs log them too."""
    from originality.contract.log_lines import log_to

    log_to(_on_terminal() if sys.stderr.isatty() else _plain(), level)


def _plain() -> logging.Handler:
    from originality.contract.log_lines import PlainLines

    handler = logging.StreamHandler(cast(TextIO, _Stderr()))
    handler.setFormatter(PlainLines())
    return handler


def _on_terminal() -> logging.Handler:
    from rich.console import Console
    from rich.highlighter import NullHighlighter
    from rich.logging import RichHandler

    from originality.contract.log_lines import safe_message, safe_traceback

    class Rich(RichHandler):
        def emit(self, record: logging.LogRecord) -> None:
            safe = copy.copy(record)
            safe.msg, safe.args = safe_message(record) + safe_traceback(record), None
            safe.exc_info = safe.exc_text = None
            super().emit(safe)

    # Rich's colour codes must not be escaped, so they bypass the stream that escapes control characters; the
    # messages themselves were made safe above.
    console = Console(file=cast(TextIO, _Stderr()), force_terminal=True)
    return Rich(console=console, show_time=False, show_path=False, highlighter=NullHighlighter())


class _Stderr:
    """Stream that writes to the current ``sys.stderr``, which is replaced while a command runs."""

    def write(self, text: str) -> int:
        from originality.contract.printable import unescaped

        return unescaped(sys.stderr).write(text)

    def flush(self) -> None:
        sys.stderr.flush()
