"""What an experiment takes over of what was done before: a model with all that was measured of it, so that no
number is of other weights than the model that it is told of."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

from cluster.inputs.identities import image_id_of
from cluster.run.folder import RunFolder, RunMismatch, open_run
from cluster.run.ledger import artefacts_of
from cluster.storage.store import Damaged, NotFound
from jobs.auditing.damaged import warn_of_damage
from jobs.experimenting.kept import MEASURES, TRAININGS, Kept, is_kept
from jobs.experimenting.plan_runs import made_with
from originality.contract.config import SettingsError
from originality.settings.parts import SHIPPED_MODEL


class Source(Protocol):
    """What came of the items of one of an experiment's two runs."""

    @property
    def where(self) -> str: ...

    @property
    def description(self) -> Mapping[str, Any]:
        """At least what :func:`jobs.experimenting.plan_runs.made_with` leaves of a run's."""
        ...

    def record(self, image_id: str) -> dict[str, Any] | None:
        """Of an item that came to its end; None where it did not."""
        ...

    def paths(self, image_id: str) -> list[str]:
        """Of what came of an item beside its record."""
        ...

    def read(self, image_id: str, path: str) -> bytes: ...


class EarlierRun:
    """A run. Implements :class:`Source`."""

    def __init__(self, uri: str, job: str) -> None:
        """Raises:
        NotFound: there is no such run.
        """
        self.where = uri
        self._run = open_run(uri, job)
        self.description: Mapping[str, Any] = self._run.description

    def record(self, image_id: str) -> dict[str, Any] | None:
        if not self._run.ledger.has_record(image_id):
            return None
        try:
            record = self._run.ledger.record(image_id)
        except Damaged as damaged:
            self._run.damage.note(damaged, "nothing of its item is taken over")
            warn_of_damage(self._run)
            return None
        return record if record["status"] == "judged" else None

    def paths(self, image_id: str) -> list[str]:
        folder = self._folder(image_id)
        return [found.path.removeprefix(f"{folder}/") for found in self._run.store.list(folder)]

    def read(self, image_id: str, path: str) -> bytes:
        return self._run.store.read(f"{self._folder(image_id)}/{path}")

    def _folder(self, image_id: str) -> str:
        return artefacts_of(self._run.ledger.record(image_id))


@dataclass(frozen=True)
class Earlier:
    """An experiment of before: its two runs, or what was kept of them."""

    trainings: Source
    measures: Source | None
    """None: it has not come to measuring."""

    @classmethod
    def at(cls, where: str) -> Earlier:
        """Raises:
        SettingsError: there is neither.
        """
        where = where.rstrip("/")
        if is_kept(where):
            return cls(Kept(where, TRAININGS), Kept(where, MEASURES))
        try:
            trainings = EarlierRun(f"{where}/train", "train")
        except NotFound as error:
            raise SettingsError(
                f"{where} is neither the --out of an experiment nor a folder of --keep on this machine"
            ) from error
        with suppress(NotFound):
            return cls(trainings, EarlierRun(f"{where}/measure", "measure"))
        return cls(trainings, None)

    def has(self, model: str, measures: Collection[str]) -> bool:
        """Whether a model can be taken over, by the ids of its training and of all that is to be measured of
        it: where the model itself is not there any more, every measurement must be."""
        if model == SHIPPED_MODEL:
            return True
        if self.trainings.record(model) is None:
            return False
        measured = self.measures is not None and all(map(self.measures.record, measures))
        return measured or bool(self.trainings.paths(model))


def take_over(
    models: RunFolder, run: RunFolder, wanted: Mapping[str, Collection[str]], before: Sequence[Earlier]
) -> None:
    """Takes over what there is of models that are not trained yet, each with its measurements from one place.

    Args:
        models: run of the trainings.
        run: run of the measurements.
        wanted: ids of the measurements, by that of the model's training or "shapes".

    Raises:
        RunMismatch: something was made with something else than these runs, by more than its items.
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
        adopt(models, earlier.trainings, chosen)  # last: so one that is cut off begins again


def check_made_alike(run: RunFolder, source: Source) -> None:
    """Raises:
    RunMismatch: a source was made with something else than a run.
    """
    ours, before = made_with(run.description), made_with(source.description)
    differ = [k for k in sorted(ours | before) if ours.get(k) != before.get(k)]
    if differ:
        told = "; ".join(f"{k}: {before.get(k)!r} there, {ours.get(k)!r} here" for k in differ)
        raise RunMismatch(f"{source.where} was made with something else ({told}); leave it out of --before")


def adopt(run: RunFolder, source: Source, chosen: Collection[str]) -> None:
    """Takes over what there is of these items, where the run has them and has no record of them."""
    for number in range(len(run.manifest)):
        image_id = image_id_of(run.store.read(f"items/{run.manifest.path(number)}"))
        run.identities.learn(number, image_id)  # so that nobody is hired for what has its record
        if image_id not in chosen or run.ledger.has_record(image_id):
            continue
        record = source.record(image_id)
        if record is not None:
            files = {path: source.read(image_id, path) for path in source.paths(image_id)}
            run.ledger.commit(image_id, record, files)
    run.identities.save()
