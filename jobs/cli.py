"""The command ``originality``: one subcommand a job."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from jobs import audit, calibrate, doctor, estimate, exits, models, report, retry, status, tokens


def main(argv: Sequence[str] | None = None) -> int:
    arguments = _parser().parse_args(argv)
    return exits.run(lambda: arguments.run(arguments))


def _parser() -> argparse.ArgumentParser:
    parser = exits.Parser(prog="originality", description="How original is an image to a generative model?")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    command = commands.add_parser("audit", help="judge the images of a collection")
    audit.add_arguments(command)
    command.set_defaults(run=audit.run)
    command = commands.add_parser("estimate", help="what an audit would take, from a sample")
    estimate.add_arguments(command)
    command.set_defaults(run=estimate.run)
    command = commands.add_parser("calibrate", help="thresholds from images labelled common or original")
    calibrate.add_arguments(command)
    command.set_defaults(run=calibrate.run)
    command = commands.add_parser("status", help="how far a run is")
    status.add_arguments(command)
    command.set_defaults(run=status.run)
    command = commands.add_parser("report", help="write a run's report anew")
    report.add_arguments(command)
    command.set_defaults(run=report.run)
    command = commands.add_parser("retry", help="put failed or rejected images back")
    retry.add_arguments(command)
    command.set_defaults(run=retry.run)
from jobs import audit, calibrate, doctor, estimate, exits, models, report, retry, status, tokens
    return parser


if __name__ == "__main__":
    sys.exit(main())
