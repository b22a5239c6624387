"""DreamSim's published check: the distances that its README gives for pictures of its repository (MIT).

It is the cheapest proof that the weights here are the published ones, and are used as by the authors.
"""

from __future__ import annotations

import os
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from originality.contract.config import Precision

REFERENCE = "ref_1.png"
PUBLISHED = {"img_a_1.png": 0.4453, "img_b_1.png": 0.2756}
"""Distances from the reference picture, by the ensemble."""
NAMES = (REFERENCE, *PUBLISHED)
FOLDER = "images"
"""Folder of the pictures, in the repository and, if present, in a folder of weights."""
SOURCE = (
    "https://raw.githubusercontent.com/ssundaram21/dreamsim/077b5571ebe171c41a2f41efa4da0644b48fb3f5/images"
)
"""Address of the pictures, at the commit that added them."""
TOLERANCES: dict[Precision, float] = {"fp32": 0.005, "fp16": 0.02, "bf16": 0.02}
"""Largest accepted error of a distance, by precision. Our choice: machines and versions of libraries round
differently, while different weights are off by tenths."""
_TIMEOUT_S = 30


def missing(folder: Path) -> list[str]:
    """Names of the pictures that a folder lacks."""
    return [name for name in NAMES if not (folder / name).is_file()]


def fetch(folder: Path, source: str | None = None) -> None:
    """Download the pictures that a folder lacks, each completely or not at all.

    Args:
        source: address to download from; None for ``SOURCE``.

    Raises:
        OSError: no connection, or no space.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name in missing(folder):
        part = folder / f"{name}.{os.getpid()}.part"
        try:
            with urllib.request.urlopen(f"{source or SOURCE}/{name}", timeout=_TIMEOUT_S) as answer:
                part.write_bytes(answer.read())
            part.replace(folder / name)
        finally:
            part.unlink(missing_ok=True)


def measured(distance: Any, folder: Path) -> dict[str, float]:
    """Measured distances of the pictures from the reference, by name.

    Args:
        distance: a DreamSim.

    Raises:
        OSError: a picture cannot be read.
    """

    def embedded(name: str) -> Any:
        with Image.open(folder / name) as image:
            return distance.embed(np.asarray(image.convert("RGB"))[None])[0]

    reference = embedded(REFERENCE)
    return {name: float(distance.between(reference, [embedded(name)])[0]) for name in PUBLISHED}


def off(found: Mapping[str, float], expected: Mapping[str, float] = PUBLISHED) -> float:
    """The largest difference from the expected distances; infinite if a distance is not finite."""
    differences = [abs(found[name] - expected[name]) for name in expected]
    return max(differences) if np.isfinite(differences).all() else float("inf")
