"""The command ``originality``: one subcommand a job."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from jobs.commandline import exits

JOBS: tuple[tuple[str, str, str], ...] = (
    ("audit", "jobs.audit", "judge the images of a collection"),
    ("doctor", "jobs.doctor", "look whether all is there, works, and how fast"),
    ("estimate", "jobs.estimate", "what an audit would take, from a sample"),
    ("status", "jobs.status", "how far a run is"),
    ("report", "jobs.report", "write a run's report anew"),
    ("retry", "jobs.retry", "put failed or rejected images back"),
    ("calibrate", "jobs.calibrate", "choose the thresholds from labelled images"),
    ("settings", "jobs.settings", "list every setting with its unit, default and what it decides"),
    ("models", "jobs.models", "bring weights to a folder or bucket, for use offline"),
    ("tokens", "jobs.tokens", "learned words as files for other tools"),
    ("synthetic", "jobs.synthetic", "the world of shapes: image sets, models, detector, experiments"),
)


def main(argv: Sequence[str] | None = None) -> int:
    given = sys.argv[1:] if argv is None else list(argv)
    return exits.run(lambda: _run(given))


def _run(argv: Sequence[str]) -> int:
    parser = exits.Parser(prog="originality", description="How original is an image to a generative model?")
    exits.add_version(parser)
    exits.add_commands(parser, JOBS, argv)
    arguments = parser.parse_args(argv)
    return exits.carry_out(arguments.run, arguments)


if __name__ == "__main__":
    sys.exit(main())
