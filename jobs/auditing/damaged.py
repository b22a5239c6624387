"""Warnings about damaged files in a run folder. Commands skip these files and continue with the rest."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from cluster.run.folder import RunFolder
from jobs.commandline import process

_log = logging.getLogger(__name__)

_MOST_LINES = 20
"""Most warnings at once: if a disk lost thousands of files, more lines would hide all other output."""
_MOST_NAMES = 8
"""Most files that a summary names."""


def warn_of_damage(run: RunFolder) -> None:
    """Write a line to stderr for each damaged file that was found in the folder since the last call."""
    lines = run.damage.take()
    for line in lines[:_MOST_LINES]:
        _log.warning("%s", line)
    if len(lines) > _MOST_LINES:
        _log.warning("%d more files in %s are damaged", len(lines) - _MOST_LINES, run.store.url)


def damage_text(paths: Sequence[str]) -> str:
    """Summary in words, such as "2 damaged files: records/ab/….json, inputs/….parquet"."""
    named = [process.one_line(path) for path in paths[:_MOST_NAMES]]
    if len(paths) > _MOST_NAMES:
        named.append(f"and {len(paths) - _MOST_NAMES} more")
    return f"{len(paths)} damaged file{'s' * (len(paths) != 1)}: {', '.join(named)}"
