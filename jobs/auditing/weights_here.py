"""Local copies of the weights that settings name in a bucket, on the hub or on the web."""

from __future__ import annotations

import functools
import logging
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

_log = logging.getLogger(__name__)


def copies_here(settings: AuditSettings, *, outlined: bool = False) -> Copies:
    """Paths of all weights on this machine. Downloads what is missing.

    Args:
        outlined: download only the configuration files of model and metric, where their checksums are known
            without the weights: for a machine that plans a run and loads no model.

    Raises:
        SettingsError, StoreError, FetchError: a source is invalid, unavailable, or cannot be copied here.
    """
    several = len(settings.selected_domain.initial_words) > 1  # CLIP may have to choose the initial word
    model = model_here(settings.model, towers=several, outlined=outlined)
    if outlined and several and model is not None and text_tower(model) is not None:
        # The preflight runs CLIP's towers before the run starts, so their weights are needed here.
        model = model_here(settings.model, towers=several)
    return Copies(
        model=model,
        distance=metric_here(settings.distance, outlined=outlined),
        detector=detector_here(settings.in_distribution, chooses=several),
    )


def model_here(model: ModelSettings, *, towers: bool = False, outlined: bool = False) -> Path | None:
    """Local copy of the model's folder, downloaded or unpacked; None if the settings name a local folder.

    Args:
        towers: include its CLIP image tower, if it has one.
        outlined: see :func:`copies_here`.
    """
    if is_single_file(model.path) and not model.revision:
        from originality.model.single_file import FORMAT, unpack

        if outlined and "://" in model.path:
            _log.info("%s is a single file: it is downloaded here too, to compute its digest", model.path)
        made = functools.partial(unpack, prediction=model.prediction)
        return unpacked_copy(model.path, made, f"{FORMAT} {model.prediction}")
    parts = (*PARTS, *TOWERS) if towers else PARTS
    return local_copy(model.path, parts, revision=model.revision, variant=model.variant, outlined=outlined)


def metric_here(settings: DistanceSettings, *, outlined: bool = False) -> Path | None:
    """Local copy of the metric's weights, from a bucket or, by default, from the web.

    None if they come with the package or the settings name a local folder.
    """
    if settings.metric != "dreamsim":
        return None
    if not settings.folder:
        if outlined:
            command = how_to_fetch(settings.branch, "s3://BUCKET/weights/dreamsim")
            to_stderr(
                "every node downloads DreamSim's weights from the web; to download them only once, run: "
                f"{command}, then add --set distance.folder=s3://BUCKET/weights/dreamsim"
            )
        return fetch(cache_folder(), settings.branch, tell=to_stderr)
    if "://" not in settings.folder:
        return None
    parts = parts_of(settings.branch)
    try:
        return local_copy(settings.folder, parts, suffixes=FORMATS, outlined=outlined, setting="distance")
    except NotFound as error:
        fix = how_to_fetch(settings.branch, settings.folder)
        raise SettingsError(f"{settings.folder} has no DreamSim weights; fill it first: {fix}") from error


def detector_here(settings: InDistributionSettings, *, chooses: bool = False) -> Path | None:
    """Local copy of the detector's weights; None if no detector is used, or its weights need no download.

    Args:
        chooses: the detector also chooses the initial word.
    """
    wanted = settings.check == "editability" or chooses
    if not wanted or settings.detector not in ("detr", "clip") or not settings.folder:
        return None
    return local_copy(
        settings.folder, transformers_folder.PARTS, revision=settings.revision, setting="in_distribution"
    )
