"""What is kept of an experiment in a folder that can be committed: a line for each training and measurement,
their pictures, and what the two runs were made with. Models are not kept."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from cluster.run.folder import RunFolder
from cluster.run.ledger import ARTEFACTS, artefacts_of
from jobs.experimenting.plan_runs import made_with
from originality.contract.config import SettingsError

TRAININGS, MEASURES = "trainings", "measures"

MADE_WITH = "made-with.json"


def keep(folder: Path, models: RunFolder, run: RunFolder) -> list[str]:
    """Writes what came of an experiment's two runs to a folder of this machine; the lines last, so that what
    they speak of is there.

    Returns:
        Names of measurements that the folder keeps and the run does not have: where there are any, nothing is
        written, as a run that was stopped would write over what a whole one left.
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
    """Without the folder of its artefacts, which is the run's."""
    return json.dumps({key: value for key, value in record.items() if key != ARTEFACTS}) + "\n"


def _replace(file: Path, text: str) -> None:
    """Writes a file whole or not at all, also where a stop takes too long and is cut off."""
    aside = file.with_name(f"{file.name}.part")
    aside.write_text(text)
    aside.replace(file)


def judged(run: RunFolder) -> list[dict[str, Any]]:
    """The records of what came to its end, by name."""
    records = [record for record in run.ledger.rows() if record["status"] == "judged"]
    return sorted(records, key=lambda record: str(record["name"]))


def _lines(folder: Path, part: str) -> list[dict[str, Any]]:
    """The records that a folder keeps; none where it is no such folder.

    Raises:
        SettingsError: they are damaged.
    """
    file = folder / f"{part}.jsonl"
    try:
        return [json.loads(line) for line in file.read_text().splitlines()]
    except FileNotFoundError:
        return []
    except ValueError as error:
        raise SettingsError(f"{file} is damaged; remove it, or bring it back") from error


def is_kept(folder: str | Path) -> bool:
    """Whether a folder is one of :func:`keep`, and no run."""
    return (Path(folder) / f"{TRAININGS}.jsonl").is_file()


def check_disk_space(folder: Path, trained: Iterable[str], measured: Iterable[str]) -> None:
    """That nothing is kept in a folder which an experiment of these ids would write over.

    Raises:
        SettingsError: there is, or what is kept is damaged.
    """
    for part, ids in ((TRAININGS, set(trained)), (MEASURES, set(measured))):
        others = sorted(record["name"] for record in _lines(folder, part) if record["image_id"] not in ids)
        if others:
            raise SettingsError(
                f"{folder} keeps {part} of another experiment, or by other settings: {', '.join(others)}; "
                "give another --keep, or remove it"
            )


class Kept:
    """What a folder keeps of one of the two runs. Implements jobs.experimenting.plan_runs.Source."""

    def __init__(self, folder: str, part: str) -> None:
        """Raises:
        SettingsError: it is not whole, or of before it was kept what runs are made with.
        """
        self.where = folder
        self._folder, self._pictures = Path(folder), part == MEASURES
        try:
            self.description: Mapping[str, Any] = json.loads((self._folder / MADE_WITH).read_text())[part]
        except (OSError, KeyError, ValueError) as error:
            raise SettingsError(f"{folder} lacks a whole {MADE_WITH}; leave it out of --before") from error
        self._records = {record["image_id"]: record for record in _lines(self._folder, part)}

    def record(self, image_id: str) -> dict[str, Any] | None:
        return self._records.get(image_id)

    def paths(self, image_id: str) -> list[str]:
        """Pictures of a measurement; no model."""
        if not self._pictures:
            return []
        return sorted(file.name for file in self._place(image_id).glob("*.webp"))

    def read(self, image_id: str, path: str) -> bytes:
        return (self._place(image_id) / path).read_bytes()

    def _place(self, image_id: str) -> Path:
        return self._folder / str(self._records[image_id]["name"])
