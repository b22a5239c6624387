"""Preparation of an audit: find what would stop it before anything is written or started."""

from __future__ import annotations

import functools
import logging
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cluster.driver.progress import size
from cluster.inputs.manifest import WORD, Manifest
from cluster.inputs.table_options import DEFAULTS, TableOptions
from cluster.ray_runtime.ray_address import on_cluster
from cluster.ray_runtime.runtime import check_ray
from cluster.run.folder import RunFolder
from cluster.run.layout import RUN_FILE
from cluster.settings import ClusterSettings
from cluster.storage.store import (
    open_store,
    removing_empty_folders,
)
from cluster.worker.messages import ScorerFactory, Task
from jobs.auditing.suitability import Unsuited
from jobs.auditing.worker_gpu import check_gpu
from jobs.commandline import options
from originality.contract.config import SettingsError
from originality.contract.scorer import Scorer
from originality.settings.audit import AuditSettings

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PreparedAudit:
    """Everything an audit needs beside its images, checked."""

    settings: AuditSettings
    factory: ScorerFactory
    """Called once per worker to load the model."""
    digests: Mapping[str, str]
    """Digests of all weights that affect verdicts (originality.sweep.preflight)."""
    memory: int = Task.memory
    """Bytes of a worker on CPU."""
    loading: str = Task.loading
    """What a worker does until its model is loaded, for progress messages."""
    doubts: Sequence[str] = ()
    """Differences between this audit and the one that the thresholds were calibrated for."""
    unsuited: Unsuited | None = None
    """Finding that the model cannot judge these images; None if there is no such finding."""
    table_options: TableOptions = DEFAULTS
    """How a list or a table of images is read."""
    words_missing: str | None = None
    """Message for images whose list names no word (originality.inversion.initial_words); None if they need
    none."""

    def check(self, manifest: Manifest) -> None:
        """Check that some images of a collection can be judged.

        Reports on stderr the skipped files and the number of images that cannot be judged.

        Raises:
            SettingsError: no image can be judged.
        """
        if manifest.skipped:
            _log.warning("%s", manifest.skipped_text)
        if self.words_missing is None or not (missing := manifest.missing(WORD.name)):
            return
        if missing == len(manifest):
            raise SettingsError(self.words_missing)
        _log.warning("%d inputs have no word and will fail: %s", missing, self.words_missing)


def scorer_of(settings: AuditSettings, model_digest: str) -> Scorer:
    """Build the scorer of a worker: copy the model to its node and load it. Called once per worker.

    Raises:
        SettingsError: the node has a different model under that name than the run was planned with.
        MachineFault: the node's GPU, disk or network failed.
    """
    from jobs.auditing.weights_here import copies_here
    from originality.sweep.sweep import build_scorer

    check_gpu()
    scorer = build_scorer(settings, copies_here(settings))
    if scorer.model.digest != model_digest:
        raise SettingsError(
            f"model {settings.model.path!r} has digest {scorer.model.digest} on {socket.gethostname()}, but "
            f"{model_digest} where the run was started; copy the same model to all nodes"
        )
    return scorer


def check_first(settings: AuditSettings, how: ClusterSettings, output: str | None) -> None:
    """Check, within a second, what would otherwise stop a run minutes later, after downloads and Ray's start.

    Raises:
        SettingsError: a kind of worker has no price, or Ray cannot be used.
        StoreError, Refused: the run folder cannot be written.
    """
    options.check_price(settings, how)
    check_ray()
    if output:
        with removing_empty_folders(output):
            store = open_store(output)
            RunFolder(store).check()
            if not store.exists(RUN_FILE):
                store.check_create()


def prepare(settings: AuditSettings) -> PreparedAudit:
    """Prepare an audit: check settings, model, metric and detector, and find their digests.

    Writes nothing. Warns on stderr if the thresholds were calibrated for a different model, metric or method.

    Raises:
        SettingsError: something would fail for every image.
    """
    # Imported late: torch and the models take seconds to import, and mistakes in flags are reported before.
    from jobs.auditing.weights_here import copies_here
    from originality.calibration.thresholds import doubts
    from originality.cost.memory_plan import CPU_ROOM
    from originality.inversion.initial_words import subject_switched, words_missing
    from originality.model.model_folder import open_model
    from originality.sweep.preflight import preflight

    _look_for_gpu(settings)
    # Nodes of a cluster download their own weights, so its head need not hold gigabytes before they start.
    copies = copies_here(settings, outlined=on_cluster())
    model = open_model(settings.model, copies.model)
    digests = preflight(settings, copies, model, gpus_elsewhere=on_cluster())
    doubted = doubts(settings, digests)
    if doubted:
        _log.warning(
            "the thresholds were calibrated for a different model, metric or method: %s", "; ".join(doubted)
        )
    factory = functools.partial(scorer_of, settings, digests["model_digest"])
    # Three times the weights: they are read as stored, then converted to fp32. Passes of small models are
    # small, so their room grows with the weights up to CPU_ROOM. Task.memory covers torch and the networks
    # that judge.
    weights = model.weights_bytes
    memory = Task.memory + 3 * weights + min(CPU_ROOM, 2 * weights)
    if (switched := subject_switched(settings)) is not None:
        _log.info("%s", switched)
    missing = words_missing(settings, model, copies)
    loading = f"loading the model {settings.model.path} ({size(weights)}) and the networks that judge redraws"
    return PreparedAudit(settings, factory, digests, memory, loading, doubted, words_missing=missing)


def _look_for_gpu(settings: AuditSettings) -> None:
    """Warn on stderr if torch cannot use this machine's GPU, with the reason. Does nothing on a cluster.

    Raises:
        SettingsError: the settings require a GPU.
    """
    from originality.model import nvidia
    from originality.model.device import torch_device

    if on_cluster():  # the GPUs are on other machines
        return
    device = torch_device(settings.model)
    problem = nvidia.missing() if settings.model.device == "auto" and device.type == "cpu" else None
    if problem is not None:
        _log.warning("torch sees no GPU, using the CPU: %s", problem)
