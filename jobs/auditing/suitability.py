"""Check whether the model that ships can judge given images: it knows drawings of simple shapes only."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from PIL import Image

from cluster.inputs.decoder import Decoder
from cluster.inputs.images import Rejection, check_size
from cluster.inputs.manifest import Manifest
from cluster.inputs.sources import Unreadable, read_image
from originality.settings.audit import AuditSettings
from originality.settings.domains import DOMAINS
from originality.settings.parts import SHIPPED_MODEL
from originality.shapes.drawing import RGB

_log = logging.getLogger(__name__)

UNSUITED = "unsuited"
"""Key of the finding in summary.json."""
_SAMPLE = 8
"""Number of inputs that are examined, spread evenly over all."""
_SIDE = 128
"""Larger images are shrunk to a square of this side in pixels. Lines of text stay dark at this size."""
_NEAR = 50.0
"""Distance in RGB (0 to 255) up to which a colour counts as one of a drawing; JPEG shifts colours so far."""
_WHITE = 60.0
"""Distance in RGB from white beyond which a pixel counts as ink."""
_GREY = 40.0
"""Difference between a pixel's channels below which it is grey, as the ink of text is and no element is."""
_MIN_SHARE = 0.9
"""Smallest share of pixels with the drawings' colours in a drawing: photographs and scans of scikit-image
reach 0.73, drawings as bad JPEGs have 0.95."""
_MAX_GREY = 0.5
"""Largest share of grey ink in a drawing: a page of text has 0.8, drawings as bad JPEGs 0.35."""


@dataclass(frozen=True)
class Unsuited:
    """Number of images that the model cannot judge, among the sampled ones."""

    sampled: int
    others: int

    def __str__(self) -> str:
        return (
            f"the model {SHIPPED_MODEL!r} knows only drawings of simple shapes, but {self.others} of "
            f"{self.sampled} sampled images are not such drawings: their verdicts are meaningless"
        )

    def fact(self) -> dict[str, Any]:
        """The finding as stored in summary.json."""
        return asdict(self)


def warn(settings: AuditSettings, manifest: Manifest, numbers: Sequence[int] | np.ndarray) -> Unsuited | None:
    """Warn on stderr if the model that ships is used for images that are not drawings of shapes.

    Returns:
        The finding; None if the images are suitable or a different model is used.
    """
    if settings.model.path != SHIPPED_MODEL:
        return None
    chosen = np.linspace(0, len(numbers) - 1, min(_SAMPLE, len(numbers))).round().astype(int)
    images = _images(manifest, [int(numbers[place]) for place in chosen])
    others = sum(not is_drawing(image) for image in images)
    if not others:
        return None
    unsuited = Unsuited(len(images), others)
    _log.warning(
        "%s; for photographs and art use a full model: originality audit %s --out FOLDER --preset fast "
        "--domain DOMAIN (DOMAIN: %s)",
        unsuited,
        shlex.quote(manifest.source or "INPUT"),
        ", ".join(name for name in DOMAINS if name != SHIPPED_MODEL),
    )
    return unsuited


def is_drawing(image: Image.Image) -> bool:
    """Whether an image has the colours of a drawing of shapes.

    These are white, the three colours of the elements, and their mixtures with white, as on smooth edges.
    """
    image = image.convert("RGB")
    if max(image.size) > _SIDE:
        image = image.resize((_SIDE, _SIDE), Image.Resampling.BOX)
    pixels = np.asarray(image, float).reshape(-1, 3) - 255.0
    away = np.full(
        len(pixels), np.inf
    )  # distance to the nearest segment from white to a colour of the drawings
    for colour in RGB.values():
        way = np.array(colour) - 255.0
        along = np.clip(pixels @ way / (way @ way), 0, 1)[:, None]
        away = np.minimum(away, np.linalg.norm(pixels - along * way, axis=1))
    ink = pixels[np.linalg.norm(pixels, axis=1) > _WHITE]
    grey = np.ptp(ink, axis=1) < _GREY
    return bool((away < _NEAR).mean() >= _MIN_SHARE and (not len(ink) or grey.mean() <= _MAX_GREY))


def _images(manifest: Manifest, numbers: Sequence[int]) -> list[Image.Image]:
    """The decoded images of these inputs; unreadable ones are skipped, as the audit reports them itself."""
    images = []
    with Decoder() as decoder:
        for number in numbers:
            try:
                data = read_image(
                    manifest.uri(number),
                    lambda size: check_size(size) if size else None,
                    manifest.location(number),
                )
                images.append(decoder.decode(data))
            except (Unreadable, Rejection):
                continue
    return images
