"""Names what is damaged in a run folder to people, while the job goes on with the rest."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from cluster.run.folder import RunFolder
from jobs.commandline import process

_MOST_LINES = 20
"""Where a disk lost thousands of files, more would hide everything else."""
_MOST_NAMES = 8


def warn_of_damage(run: RunFolder) -> None:
    """A line on stderr for each damaged file that readers of the folder came upon since the last call."""
    lines = run.damage.take()
    for line in lines[:_MOST_LINES]:
        sys.stderr.write(f"warning: {process.one_line(line)}\n")
    if len(lines) > _MOST_LINES:
        sys.stderr.write(f"warning: {len(lines) - _MOST_LINES} more files of {run.store.url} are damaged\n")


def damage_text(paths: Sequence[str]) -> str:
    """For people: "2 damaged files: records/ab/….json, inputs/….parquet"."""
    named = [process.one_line(path) for path in paths[:_MOST_NAMES]]
    if len(paths) > _MOST_NAMES:
        named.append(f"and {len(paths) - _MOST_NAMES} more")
    return f"{len(paths)} damaged file{'s' * (len(paths) != 1)}: {', '.join(named)}"
