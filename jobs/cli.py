"""The command ``originality``, with one subcommand per job."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from jobs.commandline import exits

JOBS: tuple[tuple[str, str, str], ...] = (
    ("audit", "jobs.audit", "judge how original the images of a collection are to a model"),
    ("doctor", "jobs.doctor", "check that everything an audit needs is present and works, and how fast"),
    ("estimate", "jobs.estimate", "estimate the time and cost of an audit"),
    (
        "estimate-population",
        "jobs.estimate_population",
        "estimate min tokens of a whole collection from a sample",
    ),
    ("status", "jobs.status", "show the progress of a run"),
    ("report", "jobs.report", "write the report of a run again"),
    ("retry", "jobs.retry", "put failed or rejected images back to be judged again"),
    ("rejudge", "jobs.rejudge", "judge a run again under other thresholds, without a model"),
    ("export", "jobs.export", "write inputs, their list's columns and verdicts to one file"),
    ("explore", "jobs.explore", "browse a run on a local page: filter, sort, compare, export a selection"),
    ("calibrate", "jobs.calibrate", "choose the thresholds from labelled images"),
    ("settings", "jobs.settings", "list every setting with its unit, default and what it decides"),
    ("models", "jobs.models", "download weights to a folder or bucket, for use offline"),
    ("tokens", "jobs.tokens", "export learned pseudo-words to files for other tools"),
    ("synthetic", "jobs.synthetic", "world of shapes: image sets, models, detector, experiments"),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command ``originality``; the exit code."""
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
