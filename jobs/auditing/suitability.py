"""Whether the model that ships can judge these images: it knows drawings of shapes and nothing else."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from PIL import Image

from cluster.inputs.decoder import Decoder
from cluster.inputs.images import Rejection, check_size
from cluster.inputs.manifest import Manifest
from cluster.inputs.sources import Unreadable, read_image
from jobs.commandline import process
from originality.settings.audit import AuditSettings
from originality.settings.domains import DOMAINS
from originality.settings.parts import SHIPPED_MODEL
from originality.shapes.drawing import RGB

UNSUITED = "unsuited"
"""Where summary.json has what was found."""
_SAMPLE = 8
"""Inputs that are looked at, spread over all."""
_SIDE = 128
"""Larger images are shrunk to a square of this side; a line of text is still dark then."""
_NEAR = 50.0
"""Distance of an RGB colour from those of the drawings that counts as the same: JPEG moves them so far."""
_WHITE = 60.0
"""Distance from white from which a pixel counts as drawn on."""
_GREY = 40.0
"""Difference of a pixel's colours under which it is grey, as ink of text is and no element."""
_LEAST = 0.9
"""Share of a drawing's pixels that have its colours: photographs and scans of scikit-image reach 0.73,
drawings as bad JPEGs have 0.95."""
_MOST_GREY = 0.5
"""Share of the pixels drawn on that may be grey: 0.8 on a page of text, 0.35 in drawings as bad JPEGs."""


@dataclass(frozen=True)
class Unsuited:
    """Images that the model cannot judge, among those that were looked at."""

    sampled: int
    others: int

    def __str__(self) -> str:
        return (
            f"the model {SHIPPED_MODEL!r} knows drawings of simple shapes only, and {self.others} of "
            f"{self.sampled} sampled images are something else: their verdicts mean nothing"
        )

    def fact(self) -> dict[str, Any]:
        """As summary.json has it."""
        return asdict(self)


def warn(settings: AuditSettings, manifest: Manifest, numbers: Sequence[int] | np.ndarray) -> Unsuited | None:
    """Says on stderr, in one line, that a model which knows only shapes is given other images, and how to use
    another; None where that is not so."""
    if settings.model.path != SHIPPED_MODEL:
        return None
    chosen = np.linspace(0, len(numbers) - 1, min(_SAMPLE, len(numbers))).round().astype(int)
    images = _images(manifest, [int(numbers[place]) for place in chosen])
    others = sum(not is_drawing(image) for image in images)
    if not others:
        return None
    unsuited = Unsuited(len(images), others)
    sys.stderr.write(
        f"warning: {unsuited}; for photographs and art use a real model: originality audit "
        f"{process.one_line(shlex.quote(manifest.source or 'INPUT'))} --out FOLDER --preset fast "
        f"--domain DOMAIN, which is one of {', '.join(name for name in DOMAINS if name != SHIPPED_MODEL)}\n"
    )
    return unsuited


def is_drawing(image: Image.Image) -> bool:
    """Whether an image has the colours of the world of shapes: white, its three, and what lies between white
    and one of them at an edge."""
    image = image.convert("RGB")
    if max(image.size) > _SIDE:
        image = image.resize((_SIDE, _SIDE), Image.Resampling.BOX)
    pixels = np.asarray(image, float).reshape(-1, 3) - 255.0
    away = np.full(len(pixels), np.inf)
    for colour in RGB.values():
        way = np.array(colour) - 255.0
        along = np.clip(pixels @ way / (way @ way), 0, 1)[:, None]
        away = np.minimum(away, np.linalg.norm(pixels - along * way, axis=1))
    drawn = pixels[np.linalg.norm(pixels, axis=1) > _WHITE]
    grey = np.ptp(drawn, axis=1) < _GREY
    return bool((away < _NEAR).mean() >= _LEAST and (not len(drawn) or grey.mean() <= _MOST_GREY))


def _images(manifest: Manifest, numbers: Sequence[int]) -> list[Image.Image]:
    """Those that can be read."""
    images = []
    with Decoder() as decoder:
        for number in numbers:
            try:
                data = read_image(manifest.uri(number), lambda size: check_size(size) if size else None)
                images.append(decoder.decode(data))
            except (Unreadable, Rejection):
                continue
    return images
