"""Write the report of a run: its verdicts with images and redraws, as a page for any browser.

``originality report OUTPUT``, or ``python -m jobs.report OUTPUT``. Works at any time, also while the run is
in progress.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from cluster.run.folder import open_run
from jobs.auditing.damaged import warn_of_damage
from jobs.auditing.report_data import write_report
from jobs.commandline import exits


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to a parser."""
    parser.add_argument("output", help="run folder of an audit")
    parser.add_argument("--by", metavar="COLUMN", help="also count by a column of the collection's list")


def run(arguments: argparse.Namespace) -> int:
    """Run the command with parsed arguments; the exit code."""
    folder = open_run(arguments.output, "audit")
    print(write_report(folder, by=arguments.by))
    warn_of_damage(folder)
    return exits.ALL_JUDGED


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``python -m jobs.report``; the exit code."""
    return exits.main("originality report", __doc__, add_arguments, run, argv)


if __name__ == "__main__":
    sys.exit(main())
