"""Reuse of an earlier experiment's results: a trained model together with all its measurements.

Both are taken from one place only, so that no measurement can belong to different weights than its model.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

from cluster.inputs.identities import image_id_of
from cluster.run.folder import RunFolder, RunMismatch, open_run
from cluster.run.layout import item_path
from cluster.run.record import artefacts_of
from cluster.storage.store import Damaged, NotFound
from jobs.auditing.damaged import warn_of_damage
from jobs.experimenting.kept import MEASURES, TRAININGS, Kept, is_kept
from jobs.experimenting.plan_runs import made_with
from originality.contract.config import SettingsError
from originality.settings.parts import SHIPPED_MODEL


class Source(Protocol):
    """Results of one of an experiment's two runs."""

    @property
    def where(self) -> str:
        """Folder or URL, for messages."""

    @property
    def description(self) -> Mapping[str, Any]:
        """The run's description, at least what :func:`jobs.experimenting.plan_runs.made_with` selects."""
        ...

    def record(self, image_id: str) -> dict[str, Any] | None:
        """Record of an item that succeeded; None otherwise."""
        ...

    def paths(self, image_id: str) -> list[str]:
        """Paths of an item's artefacts."""
        ...

    def read(self, image_id: str, path: str) -> bytes:
        """The bytes of an artefact of an item."""


class EarlierRun:
    """Results in a run folder. Implements :class:`Source`."""

    def __init__(self, uri: str, job: str) -> None:
        """Open the run.

        Raises:
            NotFound: there is no such run.
        """
        self.where = uri
        self._run = open_run(uri, job)
        self.description: Mapping[str, Any] = self._run.description

    def record(self, image_id: str) -> dict[str, Any] | None:
        """The record of an item; None if it has none, or a damaged one."""
        if not self._run.ledger.has_record(image_id):
            return None
        try:
            record = self._run.ledger.record(image_id)
        except Damaged as damaged:
            self._run.damage.note(damaged, "its item is not reused")
            warn_of_damage(self._run)
            return None
        return record if record["status"] == "judged" else None

    def paths(self, image_id: str) -> list[str]:
        """Paths of an item's artefacts, relative to its folder."""
        folder = self._folder(image_id)
        return [found.path.removeprefix(f"{folder}/") for found in self._run.store.list(folder)]

    def read(self, image_id: str, path: str) -> bytes:
        """The bytes of an artefact of an item."""
        return self._run.store.read(f"{self._folder(image_id)}/{path}")

    def _folder(self, image_id: str) -> str:
        return artefacts_of(self._run.ledger.record(image_id))


@dataclass(frozen=True)
class Earlier:
    """An earlier experiment: its two runs, or a folder of results."""

    trainings: Source
    measures: Source | None
    """None: it has measured nothing yet."""

    @classmethod
    def at(cls, where: str) -> Earlier:
        """Open an experiment's run folder or its folder of results.

        Raises:
            SettingsError: the place holds neither.
        """
        where = where.rstrip("/")
        if is_kept(where):
            return cls(Kept(where, TRAININGS), Kept(where, MEASURES))
        try:
            trainings = EarlierRun(f"{where}/train", "train")
        except NotFound as error:
            raise SettingsError(
                f"{where} is neither the --out of an experiment nor a local folder written by --keep"
            ) from error
        with suppress(NotFound):
            return cls(trainings, EarlierRun(f"{where}/measure", "measure"))
        return cls(trainings, None)

    def has(self, model: str, measures: Collection[str]) -> bool:
        """Whether a model can be reused. If the model itself is gone, all its measurements must be there.

        Args:
            model: id of its training, or "shapes".
            measures: ids of all its measurements.
        """
        if model == SHIPPED_MODEL:
            return True
        if self.trainings.record(model) is None:
            return False
        measured = self.measures is not None and all(map(self.measures.record, measures))
        return measured or bool(self.trainings.paths(model))


def take_over(
    models: RunFolder, run: RunFolder, wanted: Mapping[str, Collection[str]], before: Sequence[Earlier]
) -> None:
    """Copy models that are not trained yet, each with its measurements, from the first place that has them.

    Args:
        models: run of the trainings.
        run: run of the measurements.
        wanted: ids of the measurements, by the id of the model's training or "shapes".
        before: earlier experiments.

    Raises:
        RunMismatch: an earlier experiment differs from these runs in more than its items.
    """
    for earlier in before:
        check_made_alike(models, earlier.trainings)
        if earlier.measures is not None:
            check_made_alike(run, earlier.measures)
    for earlier in before:
        chosen = [
            model
            for model, measures in wanted.items()
            if not models.ledger.has_record(model) and earlier.has(model, measures)
        ]
        if earlier.measures is not None:
            adopt(run, earlier.measures, {measure for model in chosen for measure in wanted[model]})
        # Trainings come last: if the copying is cut off, the models lack records, so it is repeated.
        adopt(models, earlier.trainings, chosen)


def check_made_alike(run: RunFolder, source: Source) -> None:
    """Check that a source has the same identity as a run, apart from their items.

    Raises:
        RunMismatch: it differs.
    """
    ours, before = made_with(run.description), made_with(source.description)
    differ = [k for k in sorted(ours | before) if ours.get(k) != before.get(k)]
    if differ:
        details = "; ".join(f"{k}: {before.get(k)!r} there, {ours.get(k)!r} here" for k in differ)
        raise RunMismatch(f"{source.where} was made differently ({details}); leave it out of --before")


def adopt(run: RunFolder, source: Source, chosen: Collection[str]) -> None:
    """Copy records and artefacts of these items, as far as the run has the items and no records of them."""
    for number in range(len(run.manifest)):
        image_id = image_id_of(run.store.read(item_path(run.manifest.path(number))))
        run.identities.learn(number, image_id)  # so that no worker is started for an item that has a record
        if image_id not in chosen or run.ledger.has_record(image_id):
            continue
        record = source.record(image_id)
        if record is not None:
            files = {path: source.read(image_id, path) for path in source.paths(image_id)}
            run.ledger.commit(image_id, record, files)
    run.identities.save()
