"""The world of shapes as a tool: its image sets, models trained on them, what those draw, the experiments."""

from __future__ import annotations

import argparse
from types import ModuleType

from jobs import detect, exits, experiment, render, train

JOBS: tuple[tuple[str, ModuleType, str], ...] = (
    ("render", render, "an image set as files for other tools"),
    ("train", train, "models from nothing, by their plans"),
    ("detect", detect, "which elements images show"),
    ("experiment", experiment, "the paper's synthetic experiments"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    exits.add_commands(parser, JOBS)
