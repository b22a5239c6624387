"""What is kept of an experiment in a folder that can be committed: a line for each training and measurement,
their pictures, and what the two runs were made with. Models are not kept."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from cluster.runfolder import RunFolder
from jobs.documents import made_with
from originality.settings import SettingsError

TRAININGS, MEASURES = "trainings", "measures"

MADE_WITH = "made-with.json"


def keep(folder: Path, models: RunFolder, run: RunFolder) -> None:
    """Writes what came of an experiment's two runs to a folder of this machine; the lines last, so that what
    they speak of is there."""
    folder.mkdir(parents=True, exist_ok=True)
    both = {TRAININGS: models, MEASURES: run}
    for record in judged(run):
        prefix, place = f"images/{record['image_id']}/", folder / str(record["name"])
        found = [of.path for of in run.store.list(prefix.rstrip("/"))]
        if found and place.exists():
            shutil.rmtree(place)  # pictures of an earlier run may have other names
        for path in found:
            file = place / path.removeprefix(prefix)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(run.store.read(path))
    described = {name: made_with(of.description) for name, of in both.items()}
    (folder / MADE_WITH).write_text(json.dumps(described, indent=1, sort_keys=True) + "\n")
    for name, of in both.items():
        lines = [json.dumps(record) + "\n" for record in judged(of)]
        (folder / f"{name}.jsonl").write_text("".join(lines))


def judged(run: RunFolder) -> list[dict[str, Any]]:
    """The records of what came to its end, by name."""
    records = [record for record in run.ledger.rows() if record["status"] == "judged"]
    return sorted(records, key=lambda record: str(record["name"]))


def is_kept(folder: str | Path) -> bool:
    """Whether a folder is one of :func:`keep`, and no run."""
    return (Path(folder) / f"{TRAININGS}.jsonl").is_file()


def check_room(folder: Path, ids: Iterable[str]) -> None:
    """That nothing is kept in a folder which this experiment would write over.

    Raises:
        SettingsError: there is.
    """
    if not is_kept(folder):
        return
    lines = (folder / f"{TRAININGS}.jsonl").read_text().splitlines()
    others = sorted(r["name"] for r in map(json.loads, lines) if r["image_id"] not in set(ids))
    if others:
        raise SettingsError(
            f"{folder} keeps {', '.join(others)} of another experiment; give another --keep, or remove it"
        )


class Kept:
    """What a folder keeps of one of the two runs. Implements jobs.documents.Source."""

    def __init__(self, folder: str, part: str) -> None:
        """Raises:
        SettingsError: it is not whole, or of before it was kept what runs are made with.
        """
        self.where = folder
        self._folder, self._pictures = Path(folder), part == MEASURES
        try:
            self.description: Mapping[str, Any] = json.loads((self._folder / MADE_WITH).read_text())[part]
            lines = (self._folder / f"{part}.jsonl").read_text().splitlines()
        except (OSError, KeyError, ValueError) as error:
            raise SettingsError(f"{folder} lacks {MADE_WITH} or {part}; leave it out of --before") from error
        self._records = {record["image_id"]: record for record in map(json.loads, lines)}

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
