"""The world of shapes as a tool: its image sets, models trained on them, what those draw, the experiments."""

from __future__ import annotations

JOBS: tuple[tuple[str, str, str], ...] = (
    ("render", "jobs.render", "an image set as files for other tools"),
    ("train", "jobs.train", "models from nothing, by their plans"),
    ("detect", "jobs.detect", "which elements images show"),
    ("experiment", "jobs.experiment", "the paper's synthetic experiments"),
)
