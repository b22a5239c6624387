"""Checks before an audit for whatever would stop every image."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from originality.contract import outline
from originality.evaluation.distance import load_distance
from originality.evaluation.in_distribution import load_check
from originality.inversion.initial_words import InitialWords
from originality.model.attention import choose
from originality.model.device import DTYPES, torch_device
from originality.model.model_folder import ModelFolder, open_model
from originality.model.noise_schedule import check_schedule
from originality.model.prompt_embeddings import tokenise
from originality.model.weights_check import check_weights
from originality.settings.audit import AuditSettings
from originality.settings.domains import edit_prompt
from originality.settings.local_weights import Copies
from originality.settings.parts import DistanceSettings


def preflight(
    settings: AuditSettings,
    copies: Copies = Copies(),
    model: ModelFolder | None = None,
    gpus_elsewhere: bool = False,
) -> dict[str, str]:
    """Check settings, model, metric and detector before anything is written, without loading the model.

    Args:
        model: the opened model; None opens the one that settings and copies name.
        gpus_elsewhere: Whether the images are judged on other machines, so that what this one's device can do
            says nothing.

    Returns:
        The digests that verdicts depend on besides the settings: "model_digest" of the model's weights, and
        "judge_digest" of the weights of metric and check, and of CLIP if it chooses words.

    Raises:
        SettingsError: something would stop every image; one line with the fix.
    """
    if not gpus_elsewhere:
        choose(settings.model.attention, [], torch_device(settings.model), DTYPES[settings.model.dtype])
    model = model or open_model(settings.model, copies.model)
    about = model.description
    check_weights(model)
    check_schedule(settings.model, about.scheduler, settings.redraw)
    domain = settings.selected_domain
    words = InitialWords(settings, model, copies)
    subjects = list(dict.fromkeys(map(domain.subject_for, domain.initial_words)))
    prompts = [*domain.templates, settings.redraw.prompt, *map(edit_prompt, subjects)]
    tokenise(about.tokenizers, prompts, settings.max_tokens)
    distance = _distance_digest(settings.distance, about.side, copies.distance)
    if settings.in_distribution.check != "editability":
        del subjects[1:]
    checks = [load_check(settings.in_distribution, s, folder=copies.detector) for s in subjects]
    judges = f"{distance} {checks[0].digest() if checks[0] else ''}"
    if words.chooser is not None:
        judges += f" {words.chooser.digest()}"
    return {
        "model_digest": model.digest,
        "judge_digest": hashlib.sha256(judges.encode()).hexdigest()[:16],
    }


def _distance_digest(settings: DistanceSettings, side: int, folder: Path | None) -> str:
    """Digest of the metric; if its weights are on this machine, it is also tried on an image."""
    if folder is not None and outline.absent(folder):
        from originality.evaluation.distance.dreamsim import digest_without_loading

        return digest_without_loading(folder, settings.branch)
    distance = load_distance(settings, folder=folder)
    distance.embed(np.full((1, side, side, 3), 255, np.uint8))
    return distance.digest()
