"""What is kept of an experiment in a folder that can be committed: a line for each training and measurement,
their pictures, and what the two runs were made with. Models are not kept."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from cluster.runfolder import RunFolder
from jobs.documents import made_with
from originality.settings import SettingsError

TRAININGS, MEASURES = "trainings", "measures"

MADE_WITH = "made-with.json"


def keep(folder: Path, models: RunFolder, run: RunFolder) -> None:
    """Writes what came of an experiment's two runs to a folder of this machine."""
    folder.mkdir(parents=True, exist_ok=True)
    both = {TRAININGS: models, MEASURES: run}
    for name, of in both.items():
        lines = [json.dumps(record) + "\n" for record in judged(of)]
        (folder / f"{name}.jsonl").write_text("".join(lines))
    described = {name: made_with(of.description) for name, of in both.items()}
    (folder / MADE_WITH).write_text(json.dumps(described, indent=1, sort_keys=True) + "\n")
    for record in judged(run):
        prefix = f"images/{record['image_id']}"
        for found in run.store.list(prefix):
            file = folder / str(record["name"]) / found.path.removeprefix(f"{prefix}/")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(run.store.read(found.path))


def judged(run: RunFolder) -> list[dict[str, Any]]:
    """The records of what came to its end, by name."""
    records = [record for record in run.ledger.rows() if record["status"] == "judged"]
    return sorted(records, key=lambda record: str(record["name"]))


def is_kept(folder: str) -> bool:
    """Whether a folder is one of :func:`keep`, and no run."""
    return (Path(folder) / f"{TRAININGS}.jsonl").is_file()


class Kept:
    """What a folder keeps of one of the two runs. Implements jobs.documents.Source."""

    def __init__(self, folder: str, part: str, only: Collection[str] | None = None) -> None:
        """``only``: ids of the items that are to be taken over; None: all.

        Raises:
            SettingsError: it was written before it was kept what runs are made with.
        """
        self.where = folder
        self._folder = Path(folder)
        described = self._folder / MADE_WITH
        if not described.is_file():
            raise SettingsError(f"{folder} has no {MADE_WITH}; leave it out of --before")
        self.description: Mapping[str, Any] = json.loads(described.read_text())[part]
        lines = (self._folder / f"{part}.jsonl").read_text().splitlines()
        records = {record["image_id"]: record for record in map(json.loads, lines)}
        self._records = {k: v for k, v in records.items() if only is None or k in only}

    @property
    def ids(self) -> frozenset[str]:
        return frozenset(self._records)

    def record(self, image_id: str) -> dict[str, Any] | None:
        return self._records.get(image_id)

    def files(self, image_id: str) -> dict[str, bytes]:
        folder = self._folder / str(self._records[image_id]["name"])
        files = (file for file in sorted(folder.rglob("*")) if file.is_file())
        return {file.relative_to(folder).as_posix(): file.read_bytes() for file in files}
