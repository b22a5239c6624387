"""The command ``originality``: one subcommand a job."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from types import ModuleType

from jobs import audit, calibrate, doctor, estimate, exits, models, report, retry, status, synthetic, tokens

JOBS: tuple[tuple[str, ModuleType, str], ...] = (
    ("audit", audit, "judge the images of a collection"),
    ("doctor", doctor, "look whether all is there, works, and how fast"),
    ("estimate", estimate, "what an audit would take, from a sample"),
    ("status", status, "how far a run is"),
    ("report", report, "write a run's report anew"),
    ("retry", retry, "put failed or rejected images back"),
    ("calibrate", calibrate, "choose the thresholds from labelled images"),
    ("models", models, "bring weights to a folder or bucket, for use offline"),
    ("tokens", tokens, "learned words as files for other tools"),
    ("synthetic", synthetic, "the world of shapes: image sets, models, detector, experiments"),
)


def main(argv: Sequence[str] | None = None) -> int:
    arguments = _parser().parse_args(argv)
    return exits.run(lambda: arguments.run(arguments))


def _parser() -> argparse.ArgumentParser:
    parser = exits.Parser(prog="originality", description="How original is an image to a generative model?")
    exits.add_commands(parser, JOBS)
    return parser


if __name__ == "__main__":
    sys.exit(main())
