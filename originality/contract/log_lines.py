"""Log lines as text: time, level, node and, if they are known, GPU and image.

Secrets are masked and control characters escaped.
"""

from __future__ import annotations

import logging
import socket
import time

from originality.contract.printable import printable
from originality.contract.redaction import masked

PACKAGES = ("originality", "cluster", "jobs")
"""One logger a package: ``logging.getLogger("cluster")`` and those below it."""
LOGGERS = (*PACKAGES, "__main__")
"""The same, and the name that ``python -m jobs.NAME`` gives to the command's own module."""
_IMAGE_DIGITS = 12
"""Digits of an image's id that a line shows: enough to find its folder."""


class PlainLines(logging.Formatter):
    """``2026-11-29T21:12:03Z WARNING node-7 GPU 0 image 4c82bf2d5329: message``.

    The image is that of the record's attribute ``image``: ``log.info("judged", extra={"image": image_id})``.
    """

    converter = staticmethod(time.gmtime)  # type: ignore[assignment]

    def __init__(self, gpu: str = "") -> None:
        """``gpu``: which GPUs of the node this process uses, e.g. "0"; empty on a CPU."""
        super().__init__(datefmt="%Y-%m-%dT%H:%M:%SZ")
        self._where = socket.gethostname() + (f" GPU {gpu}" if gpu else "")

    def format(self, record: logging.LogRecord) -> str:
        image = str(getattr(record, "image", ""))[:_IMAGE_DIGITS]
        where = f"{self._where} image {image}" if image else self._where
        message = safe_message(record)
        line = f"{self.formatTime(record, self.datefmt)} {record.levelname} {where}: {message}"
        return line + safe_traceback(record)


def safe_message(record: logging.LogRecord) -> str:
    """A record's message in one line, without secrets and control characters."""
    return " ".join(printable(masked(record.getMessage())).splitlines())


def safe_traceback(record: logging.LogRecord) -> str:
    """The traceback of a record on lines below it, without secrets and control characters; empty if it has
    none."""
    if not record.exc_info:
        return ""
    return "\n" + printable(masked(logging.Formatter().formatException(record.exc_info)), lines=True)


def current_level() -> str:
    """Lowest level that this process logs, e.g. "info"."""
    return logging.getLevelName(logging.getLogger(PACKAGES[0]).getEffectiveLevel()).lower()


def log_to(handler: logging.Handler, level: str) -> None:
    """Send the records of the three packages, from ``level`` on, to one handler alone."""
    for name in LOGGERS:
        logger = logging.getLogger(name)
        for before in list(logger.handlers):
            logger.removeHandler(before)
        logger.addHandler(handler)
        logger.propagate = False  # a handler of the root would write the record again, with its secrets
        logger.setLevel(level.upper())
