"""A cheap number for each input, which makes estimates for a collection more precise.

It is a column of the collection's list, or a Parquet or CSV file with a column ``value`` and one that names
the input: ``uri`` (absolute, or as the list has it) or ``number``, its row in the manifest.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from cluster.inputs.manifest import LISTED_AS
from cluster.run.folder import RunFolder
from cluster.storage.store import NotFound, absolute, open_store
from originality.contract.config import SettingsError, nearest

_ENDINGS = (".parquet", ".csv")
_VALUE, _URI, _NUMBER = "value", "uri", "number"


def proxy_of(run: RunFolder, given: str) -> np.ndarray:
    """The proxy of each input: float64 (inputs,), NaN where there is none.

    Args:
        run: of an audit.
        given: a column of its list, or a path or URL of a file.

    Raises:
        SettingsError: there is no such column or file, or it has no numbers for these inputs.
    """
    if given in run.manifest.extra:
        found = _numbers(run.manifest.table[given], given)
    elif given.lower().endswith(_ENDINGS):
        found = _matched(run, _read(given), given)
    else:
        known = nearest(given, run.manifest.extra) if run.manifest.extra else ""
        raise SettingsError(
            f"--proxy {given}: neither a column of the collection nor a .parquet or .csv file{known}"
        )
    if not np.isfinite(found).any():
        raise SettingsError(f"--proxy {given}: it has no number for any input of this run")
    return found


def _read(given: str) -> pa.Table:
    folder, _, name = absolute(given).rpartition("/")
    try:
        data = open_store(folder or "/", create=False).read(name)
    except NotFound as error:
        raise SettingsError(f"--proxy {given}: no such file") from error
    reader = pa.BufferReader(data)
    try:
        return pq.read_table(reader) if name.lower().endswith(".parquet") else pa.csv.read_csv(reader)
    except (pa.ArrowException, OSError) as error:
        raise SettingsError(f"--proxy {given}: cannot be read ({type(error).__name__})") from error


def _matched(run: RunFolder, table: pa.Table, given: str) -> np.ndarray:
    """The values of a file by input. Of an input that is named twice, the last one counts."""
    keys = [name for name in (_NUMBER, _URI) if name in table.column_names]
    if not keys or _VALUE not in table.column_names:
        have = ", ".join(table.column_names)[:200]
        raise SettingsError(
            f"--proxy {given}: needs a column 'value', and 'uri' or 'number' (its columns are {have})"
        )
    values = _numbers(table[_VALUE], given)
    found = np.full(len(run.manifest), np.nan)
    if keys[0] == _NUMBER:
        numbers = _numbers(table[_NUMBER], given)
        inside = (numbers >= 0) & (numbers < len(found))
        found[numbers[inside].astype(np.int64)] = values[inside]
        return found
    uris, last_first = table[_URI].cast(pa.string()).combine_chunks(), values[::-1]
    backwards = uris.take(pa.array(np.arange(len(uris))[::-1]))
    names = [name for name in (_URI, LISTED_AS) if name in run.manifest.table.column_names]
    for name in names:
        at = pc.index_in(run.manifest.table[name].combine_chunks(), value_set=backwards)
        places = pc.fill_null(at, -1).to_numpy(zero_copy_only=False)
        found = np.where((places >= 0) & np.isnan(found), last_first[places], found)
    return found


def _numbers(column: pa.ChunkedArray, given: str) -> np.ndarray:
    """Float64, NaN for null and infinite values."""
    try:
        values = column.cast(pa.float64()).to_numpy()
    except (pa.ArrowException, NotImplementedError) as error:
        raise SettingsError(f"--proxy {given}: its values are of type {column.type}, not numbers") from error
    return np.where(np.isfinite(values), values, np.nan)
