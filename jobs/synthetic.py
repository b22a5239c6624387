"""The world of shapes as a tool: its image sets, models trained on them, what those draw, the experiments."""

from __future__ import annotations

import argparse
from types import ModuleType

from jobs import detect, experiment, render, train

JOBS: tuple[tuple[str, ModuleType, str], ...] = (
    ("render", render, "an image set as files for other tools"),
    ("train", train, "models from nothing, by their plans"),
    ("detect", detect, "which elements images show"),
    ("experiment", experiment, "the paper's synthetic experiments"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, job, what in JOBS:
        plain = argparse.RawDescriptionHelpFormatter
        command = commands.add_parser(name, help=what, description=job.__doc__, formatter_class=plain)
        job.add_arguments(command)
        command.set_defaults(job=job.run)


def run(arguments: argparse.Namespace) -> int:
    code: int = arguments.job(arguments)
    return code
