"""The command ``originality``: one subcommand a job."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from cluster.runfolder import open_run
from jobs import audit, exits, status


def main(argv: Sequence[str] | None = None) -> int:
    arguments = _parser().parse_args(argv)
    return exits.run(lambda: arguments.run(arguments))


def _parser() -> argparse.ArgumentParser:
    parser = exits.Parser(prog="originality", description="How original is an image to a generative model?")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    command = commands.add_parser("audit", help="judge the images of a collection")
    audit.add_arguments(command)
    command.set_defaults(run=audit.run)
    command = commands.add_parser("status", help="how far a run is")
    status.add_arguments(command)
    command.set_defaults(run=status.run)
    command = commands.add_parser("report", help="write a run's report anew")
    command.add_argument("output", help="run folder of an audit")
    command.set_defaults(run=_report)
    return parser


def _report(arguments: argparse.Namespace) -> int:
    from jobs.report import write_report

    print(write_report(open_run(arguments.output)))
    return exits.ALL_JUDGED


if __name__ == "__main__":
    sys.exit(main())
