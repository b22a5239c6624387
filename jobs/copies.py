"""The weights that settings name in a bucket or on the hub, brought to this machine."""

from __future__ import annotations

import functools
from pathlib import Path

from cluster.single_file import is_single_file, unpacked_copy
from cluster.store import NotFound
from cluster.weights import local_copy
from originality import pretrained
from originality.checkpoint import PARTS, Copies
from originality.settings import (
    AuditSettings,
    DistanceSettings,
    InDistributionSettings,
    ModelSettings,
    SettingsError,
)
from originality.similarity.dreamsim_weights import FORMATS, how_to_fetch, parts_of
from originality.towers import TOWERS


def copies_here(settings: AuditSettings) -> Copies:
    """Where the weights are on this machine; what is missing is brought.

    Raises:
        SettingsError, StoreError: with the fix.
    """
    several = len(settings.spoken.initial_words) > 1  # CLIP may have to choose
    return Copies(
        model=model_here(settings.model, towers=several),
        distance=metric_here(settings.distance),
        detector=detector_here(settings.in_distribution, chooses=several),
    )


def model_here(model: ModelSettings, *, towers: bool = False) -> Path | None:
    """The model's folder, brought to this machine or unpacked here; None where its settings name it.

    Args:
        towers: whether its image tower is wanted as well, where it has one.
    """
    if is_single_file(model.path) and not model.revision:
        from originality.single_file import FORMAT, unpack

        made = functools.partial(unpack, prediction=model.prediction)
        return unpacked_copy(model.path, made, f"{FORMAT} {model.prediction}")
    parts = (*PARTS, *TOWERS) if towers else PARTS
    return local_copy(model.path, parts, revision=model.revision)


def metric_here(settings: DistanceSettings) -> Path | None:
    """The metric's weights, where they lie in a bucket."""
    if settings.metric != "dreamsim" or "://" not in (settings.folder or ""):
        return None
    try:
        return local_copy(str(settings.folder), parts_of(settings.branch), suffixes=FORMATS)
    except NotFound as error:
        fix = how_to_fetch(settings.branch, str(settings.folder))
        raise SettingsError(f"{settings.folder} holds nothing of DreamSim; fill it first: {fix}") from error


def detector_here(settings: InDistributionSettings, *, chooses: bool = False) -> Path | None:
    """The detector's weights, where it has a folder or a name on the hub and is asked for: by the check, or
    as it chooses words."""
    wanted = settings.check == "editability" or chooses
    if not wanted or settings.detector == "imagenet" or not settings.folder:
        return None
    return local_copy(
        settings.folder, pretrained.PARTS, revision=settings.revision, setting="in_distribution"
    )
