"""The report of a run: what its folder holds, as a page that anyone can open.

``python -m jobs.report OUTPUT``, or ``originality report OUTPUT``. It may be written at any time, also
while the run is being worked on.
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
    parser.add_argument("output", help="run folder of an audit")


def run(arguments: argparse.Namespace) -> int:
    folder = open_run(arguments.output, "audit")
    print(write_report(folder))
    warn_of_damage(folder)
    return exits.ALL_JUDGED


def main(argv: Sequence[str] | None = None) -> int:
    return exits.main("originality report", "Write a run's report anew.", add_arguments, run, argv)


if __name__ == "__main__":
    sys.exit(main())
