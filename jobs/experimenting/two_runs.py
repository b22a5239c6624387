"""The two runs of an experiment: one trains its models, one measures them."""

from __future__ import annotations

import functools
import hashlib
import logging
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from cluster.run.folder import RunFolder, RunMismatch
from cluster.run.ledger import Ledger
from cluster.run.record import artefacts_of
from cluster.settings import ClusterSettings
from cluster.storage.store import open_store
from jobs.auditing.worker_gpu import check_gpu
from jobs.commandline import exits, options
from jobs.experimenting.plan_runs import carry_out, id_of, plan_items
from originality.contract.scorer import Scorer
from originality.settings.parts import SHIPPED_MODEL

_log = logging.getLogger(__name__)

_TRAINING_MEMORY = 4 * 2**30
"""Bytes of a worker that trains on CPU."""
_MEASURING_MEMORY = 3 * 2**30
"""Bytes of a worker that measures on CPU."""


def trainer(device: str) -> Scorer[Any]:
    """Build the scorer of a worker that trains models. Called once per worker.

    Raises:
        MachineFault: the worker's GPU is not usable.
    """
    from originality.experiments.tasks.long_task import OneAtATime
    from originality.experiments.tasks.plans import ModelPlan
    from originality.experiments.tasks.train_model import Training
    from originality.model.device import torch_device
    from originality.settings.parts import ModelSettings
    from originality.training.stage import default_folder

    check_gpu()
    where = torch_device(ModelSettings.model_validate({"device": device}))
    cache = default_folder("experiments")
    return OneAtATime(lambda document: Training(ModelPlan.model_validate(document), where, cache))


def trainings(out: str, plans: Sequence[Any]) -> RunFolder:
    """Plan or open the run that trains the models of these plans."""
    items = {f"{k:03}-{plan.name}": plan.document() for k, plan in enumerate(plans)}
    identity = {"models": [plan.digest() for plan in plans], "autoencoder": _digest("shapes/vae")}
    return plan_items(out, items, {"job": "train", **identity, "code_version": version("originality")})


def train(run: RunFolder, plans: Sequence[Any], device: str, how: ClusterSettings) -> None:
    """Train the models of a run that are not trained yet."""
    from originality.training.shapes_model.vocabulary import location_of

    for plan in plans:
        if plan.recipe.text.pretrained is not None and not run.ledger.has_record(id_of(plan.document())):
            location_of(plan.recipe.text)  # fails now, not on a worker, if the text encoder is missing
    carry_out(run, functools.partial(trainer, device), how, gpu=options.GPU[device], memory=_TRAINING_MEMORY)


def measurer(models: str, device: str) -> Scorer[Any]:
    """Build the scorer of a worker that measures models. Called once per worker.

    Args:
        models: URI of the run that trained them.

    Raises:
        MachineFault: the worker's GPU is not usable.
    """
    from pydantic import TypeAdapter

    from jobs.auditing.weights_here import model_here
    from originality.experiments.tasks.long_task import Document, OneAtATime, Work
    from originality.experiments.tasks.measure_elements import ElementsMeasure, ElementsMeasuring
    from originality.experiments.tasks.measure_pairs import PairsMeasure, PairsMeasuring
    from originality.experiments.tasks.train_model import MODEL
    from originality.model.diffusers_folder import MODELS
    from originality.settings.parts import ModelSettings

    check_gpu()
    either: TypeAdapter[PairsMeasure | ElementsMeasure] = TypeAdapter(
        Annotated[PairsMeasure | ElementsMeasure, Field(discriminator="kind")]
    )

    def begin(document: Document) -> Work:
        plan = either.validate_python(document)
        if plan.model == SHIPPED_MODEL:
            folder = MODELS / SHIPPED_MODEL
        else:
            trained = Ledger(open_store(models, create=False)).record(plan.model)
            where = f"{models}/{artefacts_of(trained)}/{MODEL}"
            folder = model_here(ModelSettings(path=where)) or Path(where)
        if isinstance(plan, PairsMeasure):
            return PairsMeasuring(plan, folder, device)
        return ElementsMeasuring(plan, folder, device)

    return OneAtATime(begin)


def _plans_of_measures(experiment: Any) -> list[Any]:
    return list(experiment.measures({plan.name: id_of(plan.document()) for plan in experiment.plans()}))


def wanted_of(experiment: Any) -> dict[str, list[str]]:
    """Ids of an experiment's measurements, by the id of the model's training or "shapes"."""
    from originality.experiments.tasks.plans import document

    wanted: dict[str, list[str]] = {}
    for plan in _plans_of_measures(experiment):
        wanted.setdefault(plan.model, []).append(id_of(document(plan)))
    return wanted


def measures(out: str, experiment: Any) -> RunFolder:
    """Plan or open the run that measures an experiment's models.

    Raises:
        RunMismatch: the folder holds a run of different measurements.
    """
    from originality.experiments.tasks.plans import document

    items = {f"{k:03}-{plan.name}": document(plan) for k, plan in enumerate(_plans_of_measures(experiment))}
    identity = {"items": items, "detector": _digest("detector"), "code_version": version("originality")}
    if SHIPPED_MODEL in wanted_of(experiment):
        identity["shipped"] = _digest(SHIPPED_MODEL)
    try:
        return plan_items(out, items, {"job": "measure", **identity})
    except RunMismatch as error:
        raise RunMismatch(
            f"{error}; to measure the same models differently, choose a different --out and reuse this one "
            "by --before"
        ) from error


def measure(run: RunFolder, models: RunFolder, device: str, how: ClusterSettings) -> None:
    """Carry out the measurements of a run that are not done yet."""
    factory = functools.partial(measurer, models.store.url, device)
    carry_out(run, factory, how, gpu=options.GPU[device], memory=_MEASURING_MEMORY)


def _digest(weights: str) -> str:
    """Short digest of weights that ship with the package."""
    from originality.model.diffusers_folder import MODELS

    digest = hashlib.sha256()
    for file in sorted((MODELS / weights).rglob("*.safetensors")):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def report_failures(run: RunFolder) -> int:
    """Report on stderr which items failed and how to retry them; the exit code."""
    failed = [record for record in run.ledger.rows() if record["status"] != "judged"]
    names = {run.identities[number]: run.manifest.path(number) for number in range(len(run.manifest))}
    for record in failed:
        _log.error("%s: %s", names.get(record["image_id"]), record["error_message"])
    if not failed:
        return exits.ALL_JUDGED
    _log.error(
        "%d failed; to retry them, run originality retry %s --status failed, then the same command again",
        len(failed),
        run.store.url,
    )
    return exits.SOME_UNJUDGED
