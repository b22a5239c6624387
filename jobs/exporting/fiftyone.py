"""Results as a CSV data set of FiftyOne, which reads local files: others are copied beside it."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from cluster.inputs.manifest import Manifest
from cluster.inputs.sources import local_path
from cluster.run.folder import RunFolder
from cluster.storage.store import Store
from jobs.auditing.results_table import results_tables
from jobs.auditing.verdict_table import min_tokens_text
from jobs.exporting.pictures import ending_of, parts, pictures
from jobs.exporting.tables import cell

SAMPLES = "samples.csv"
_DATA = "data"


def write_samples(run: RunFolder, store: Store) -> int:
    """Write the samples into a local folder; their number. Inputs whose image cannot be read are left out."""
    text = io.StringIO(newline="")
    writer: csv.DictWriter[str] | None = None
    count = 0
    for table in parts(results_tables(run)):
        files = _files(run.manifest, store, table["number"].to_pylist())
        for row, file in zip(table.drop_columns(["sweep"]).to_pylist(), files, strict=True):
            if file is None:
                continue
            sample = {"filepath": file, "verdict": min_tokens_text(row), **row}
            if writer is None:
                writer = csv.DictWriter(text, list(sample))
                writer.writeheader()
            writer.writerow({name: cell(value) for name, value in sample.items()})
            count += 1
    store.write(SAMPLES, text.getvalue().encode())
    return count


def _files(manifest: Manifest, store: Store, numbers: Sequence[int]) -> list[str | None]:
    """Paths of some inputs on this machine, where those are copied that are not files of it; None where one
    cannot be read."""
    here = {
        number: str(local_path(manifest.uri(number)))
        for number in numbers
        if manifest.location(number) is None and "://" not in manifest.uri(number)
    }
    elsewhere = [number for number in numbers if number not in here]
    for number, data in zip(elsewhere, pictures(manifest, elsewhere), strict=True):
        if data is not None:
            name = f"{_DATA}/{number:08}{ending_of(manifest, number)}"
            store.write(name, data)
            here[number] = f"{store.url.rstrip('/')}/{name}"
    return [here.get(number) for number in numbers]
