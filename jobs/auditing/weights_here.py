"""The weights that settings name in a bucket or on the hub, brought to this machine."""

from __future__ import annotations

import functools
import sys
from pathlib import Path

from cluster.storage.store import NotFound
from cluster.weights.node_copy import local_copy
from cluster.weights.single_file import is_single_file, unpacked_copy
from originality.contract.config import SettingsError
from originality.contract.transfer_progress import to_stderr
from originality.evaluation.distance.dreamsim_fetch import fetch
from originality.evaluation.distance.dreamsim_weights import FORMATS, cache_folder, how_to_fetch, parts_of
from originality.model import transformers_folder
from originality.model.diffusers_folder import PARTS
from originality.settings.audit import AuditSettings
from originality.settings.local_weights import Copies
from originality.settings.parts import DistanceSettings, InDistributionSettings, ModelSettings
from originality.vision.clip_towers import TOWERS, text_tower


def copies_here(settings: AuditSettings, *, outlined: bool = False) -> Copies:
    """Where the weights are on this machine; what is missing is brought.

    Args:
        outlined: outlines of model and metric are enough, where their checksums are known without them: for
            a machine that plans a run and loads no model.

    Raises:
        SettingsError, StoreError, FetchError: with the fix.
    """
    several = len(settings.selected_domain.initial_words) > 1  # CLIP may have to choose
    model = model_here(settings.model, towers=several, outlined=outlined)
    if outlined and several and model is not None and text_tower(model) is not None:
        model = model_here(settings.model, towers=several)  # its towers are tried before the run
    return Copies(
        model=model,
        distance=metric_here(settings.distance, outlined=outlined),
        detector=detector_here(settings.in_distribution, chooses=several),
    )


def model_here(model: ModelSettings, *, towers: bool = False, outlined: bool = False) -> Path | None:
    """The model's folder, brought to this machine or unpacked here; None where its settings name it.

    Args:
        towers: whether its image tower is wanted as well, where it has one.
    """
    if is_single_file(model.path) and not model.revision:
        from originality.model.single_file import FORMAT, unpack

        if outlined and "://" in model.path:
            sys.stderr.write(f"{model.path} is one file, so its digest is known only after it is fetched\n")
        made = functools.partial(unpack, prediction=model.prediction)
        return unpacked_copy(model.path, made, f"{FORMAT} {model.prediction}")
    parts = (*PARTS, *TOWERS) if towers else PARTS
    return local_copy(model.path, parts, revision=model.revision, variant=model.variant, outlined=outlined)


def metric_here(settings: DistanceSettings, *, outlined: bool = False) -> Path | None:
    """The metric's weights, where they lie in a bucket or, by default, on the web; None where they come with
    the package or the settings name a folder."""
    if settings.metric != "dreamsim":
        return None
    if not settings.folder:
        if outlined:
            told = how_to_fetch(settings.branch, "s3://BUCKET/weights/dreamsim")
            to_stderr(
                "DreamSim's weights are fetched from the web, here and by every node; to fetch them once: "
                f"{told}, then --set distance.folder=… to that"
            )
        return fetch(cache_folder(), settings.branch, tell=to_stderr)
    if "://" not in settings.folder:
        return None
    parts = parts_of(settings.branch)
    try:
        return local_copy(settings.folder, parts, suffixes=FORMATS, outlined=outlined, setting="distance")
    except NotFound as error:
        fix = how_to_fetch(settings.branch, settings.folder)
        raise SettingsError(f"{settings.folder} holds nothing of DreamSim; fill it first: {fix}") from error


def detector_here(settings: InDistributionSettings, *, chooses: bool = False) -> Path | None:
    """The detector's weights, where it has a folder or a name on the hub and is asked for: by the check, or
    as it chooses words."""
    wanted = settings.check == "editability" or chooses
    if not wanted or settings.detector not in ("detr", "clip") or not settings.folder:
        return None
    return local_copy(
        settings.folder, transformers_folder.PARTS, revision=settings.revision, setting="in_distribution"
    )
