"""The results of a run, from its folder or bucket."""

from __future__ import annotations

from functools import partial
from typing import Any

import pyarrow as pa

from cluster.run import folder
from cluster.run.folder import RunFolder
from cluster.run.record import artefacts_of
from cluster.storage.store import NotFound
from jobs.api.verdict import Verdict
from jobs.auditing.results_table import inputs_table, results_tables, verdicts_table
from jobs.auditing.status_object import status_object
from jobs.auditing.verdict_table import summarise


def open_run(uri: str) -> Run:
    """The run in a folder or bucket, finished or under way.

    Raises:
        NotFound: there is no run.
        StoreError: the store cannot be read, with the fix.
    """
    return Run(folder.open_run(uri))


class Run:
    """A run folder, read only."""

    def __init__(self, run: RunFolder) -> None:
        self._run = run

    @property
    def uri(self) -> str:
        """Where it is."""
        return self._run.store.url

    @property
    def settings(self) -> dict[str, Any]:
        """The settings that the run was planned with, as nested plain values."""
        return dict(self._run.description.get("settings") or {})

    def verdicts(self) -> pa.Table:
        """One row for each image that has a verdict, with the columns of ``verdicts/*.parquet``; of a run
        under way, those so far. ``to_pandas()`` makes a data frame of it."""
        return verdicts_table(self._reread())

    def inputs(self) -> pa.Table:
        """One row for each input: its number in the manifest, its URI, its bytes, the image's id, and the
        columns of its list."""
        return inputs_table(self._reread())

    def results(self) -> pa.Table:
        """One row for each input, with the columns of its list and those of its image's verdict; see
        ``originality export``."""
        return pa.concat_tables(results_tables(self._reread()))

    def image(self, image_id: str) -> Verdict:
        """The verdict of one image, with its redraws and words. A prefix of its id is enough, if it is the
        only one that begins so.

        Raises:
            KeyError: no image of this id has a verdict, or several have.
        """
        run = self._reread()
        known = [found for found in run.ledger.recorded().to_pylist() if found.startswith(image_id)]
        if len(known) != 1:
            what = "several images have" if known else "no image has"
            raise KeyError(f"{what} a verdict and an id that begins with {image_id!r} in {self.uri}")
        row = run.ledger.record(known[0])
        return Verdict(row, partial(self._artefact, row))

    def status(self) -> dict[str, Any]:
        """How far the run is: counts of inputs, images and verdicts, and who works on it, as ``originality
        status --json`` prints."""
        run = self._reread()
        return status_object(run, summarise(run))

    def _artefact(self, row: dict[str, Any], name: str) -> bytes | None:
        try:
            return self._run.store.read(f"{artefacts_of(row)}/{name}")
        except NotFound:
            return None

    def _reread(self) -> RunFolder:
        """The folder as it is now: others may be writing to it."""
        self._run = RunFolder(self._run.store)
        return self._run

    def __repr__(self) -> str:
        return f"<Run {self.uri}>"
