"""World of shapes: image sets, models trained on them, an element detector and the paper's experiments."""

from __future__ import annotations

JOBS: tuple[tuple[str, str, str], ...] = (
    ("render", "jobs.render", "render an image set to files for other tools"),
    ("train", "jobs.train", "train small models from scratch, as plans describe"),
    ("detect", "jobs.detect", "detect which elements images show"),
    ("experiment", "jobs.experiment", "run one of the paper's synthetic experiments"),
)
