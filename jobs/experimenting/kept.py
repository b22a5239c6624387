"""Results of an experiment in a folder small enough to commit.

The folder holds a JSON line per training and measurement, their pictures, and the identity of the two runs
(made-with.json). Models are left out.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from cluster.run.folder import RunFolder
from cluster.run.record import ARTEFACTS, artefacts_of
from jobs.experimenting.plan_runs import made_with
from originality.contract.config import SettingsError

TRAININGS, MEASURES = "trainings", "measures"
"""Names of the files of lines, and the keys of made-with.json."""

MADE_WITH = "made-with.json"
"""File that records, for each of the two runs, everything that decides its results."""


def keep(folder: Path, models: RunFolder, run: RunFolder) -> list[str]:
    """Copy the results of an experiment's two runs to a local folder.

    The files of lines are written last, so that every picture they refer to is there.

    Returns:
        Names of measurements that the folder holds and the run lacks. If there are any, nothing is written:
        an incomplete run must not overwrite the results of a complete one.
    """
    done = {record["image_id"] for record in judged(run)}
    lacking = [str(record["name"]) for record in _lines(folder, MEASURES) if record["image_id"] not in done]
    if lacking:
        return lacking
    folder.mkdir(parents=True, exist_ok=True)
    both = {TRAININGS: models, MEASURES: run}
    for record in judged(run):
        theirs, place = artefacts_of(record), folder / str(record["name"])
        found = [of.path for of in run.store.list(theirs)]
        if found and place.exists():
            shutil.rmtree(place)  # pictures of an earlier run may have other names
        for path in found:
            file = place / path.removeprefix(f"{theirs}/")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(run.store.read(path))
    described = {name: made_with(of.description) for name, of in both.items()}
    _replace(folder / MADE_WITH, json.dumps(described, indent=1, sort_keys=True) + "\n")
    for name, of in both.items():
        _replace(folder / f"{name}.jsonl", "".join(map(_line, judged(of))))
    return []


def _line(record: Mapping[str, Any]) -> str:
    """A record as a line of JSON, without its artefacts' folder, which exists only in the run."""
    return json.dumps({key: value for key, value in record.items() if key != ARTEFACTS}) + "\n"


def _replace(file: Path, text: str) -> None:
    """Write a file atomically, so that a process killed while stopping leaves no partial file."""
    aside = file.with_name(f"{file.name}.part")
    aside.write_text(text)
    aside.replace(file)


def judged(run: RunFolder) -> list[dict[str, Any]]:
    """Records of the items that succeeded, sorted by name."""
    records = [record for record in run.ledger.rows() if record["status"] == "judged"]
    return sorted(records, key=lambda record: str(record["name"]))


def _lines(folder: Path, part: str) -> list[dict[str, Any]]:
    """Records in a folder of results; none if the folder has no such file.

    Raises:
        SettingsError: the file is damaged.
    """
    file = folder / f"{part}.jsonl"
    try:
        return [json.loads(line) for line in file.read_text().splitlines()]
    except FileNotFoundError:
        return []
    except ValueError as error:
        raise SettingsError(f"{file} is damaged; restore it or remove it") from error


def is_kept(folder: str | Path) -> bool:
    """Whether a folder was written by :func:`keep` (and is not a run)."""
    return (Path(folder) / f"{TRAININGS}.jsonl").is_file()


def check_room(folder: Path, trained: Iterable[str], measured: Iterable[str]) -> None:
    """Check that an experiment with these ids would overwrite no other experiment's results in a folder.

    Raises:
        SettingsError: it would, or the folder's files are damaged.
    """
    for part, ids in ((TRAININGS, set(trained)), (MEASURES, set(measured))):
        others = sorted(record["name"] for record in _lines(folder, part) if record["image_id"] not in ids)
        if others:
            raise SettingsError(
                f"{folder} holds {part} of a different experiment or of different settings: "
                f"{', '.join(others)}; choose a different --keep, or remove the folder"
            )


class Kept:
    """Results of one of an experiment's two runs, from a folder written by :func:`keep`.

    Implements jobs.experimenting.takeover.Source.
    """

    def __init__(self, folder: str, part: str) -> None:
        """Read the records.

        Raises:
            SettingsError: the folder is incomplete, or was written before made-with.json existed.
        """
        self.where = folder
        self._folder, self._pictures = Path(folder), part == MEASURES
        try:
            self.description: Mapping[str, Any] = json.loads((self._folder / MADE_WITH).read_text())[part]
        except (OSError, KeyError, ValueError) as error:
            raise SettingsError(f"{folder} has no complete {MADE_WITH}; leave it out of --before") from error
        self._records = {record["image_id"]: record for record in _lines(self._folder, part)}

    def record(self, image_id: str) -> dict[str, Any] | None:
        """The record of an item; None if it is not kept."""
        return self._records.get(image_id)

    def paths(self, image_id: str) -> list[str]:
        """Paths of a measurement's pictures. Trainings have none, as models are not kept."""
        if not self._pictures:
            return []
        return sorted(file.name for file in self._place(image_id).glob("*.webp"))

    def read(self, image_id: str, path: str) -> bytes:
        """The bytes of one of an item's files."""
        return (self._place(image_id) / path).read_bytes()

    def _place(self, image_id: str) -> Path:
        return self._folder / str(self._records[image_id]["name"])
