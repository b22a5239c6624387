"""Collections whose files hold the images in rows beside other columns: Parquet files.

Each row is an input, named ``FILE#ROW``, with rows counted from 0. Listing reads the footers and the other
columns; an image is read with its row group (see :mod:`cluster.inputs.parquet_cells`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

import pyarrow as pa
import pyarrow.compute as pc

from cluster.inputs.container_listings import Kept, list_containers, manifest_of
from cluster.inputs.image_columns import image_column
from cluster.inputs.list_columns import kept_columns
from cluster.inputs.manifest import InputError, Manifest
from cluster.inputs.parquet_files import list_parquet, open_parquet
from cluster.inputs.sources import Unreadable, describe, read_member
from cluster.inputs.table_options import ImageTable, TableOptions

PARQUET = r"(?i)[^/]\.parquet$"
"""Recognises Parquet files by their extension."""
_LOOKED_AT = 20
"""Files of which one has to be readable."""


def image_table(shown_as: str, uris: Sequence[str], options: TableOptions) -> ImageTable | None:
    """The columns of Parquet files whose rows hold images, by the first file that can be read; None if they
    are a list of uris, or none of the first files can be read.

    Raises:
        InputError: it is not clear which column holds the images, or a wanted column does not exist.
        Outage, Refused, MachineFault: a store or disk fails.
    """
    for uri in uris[:_LOOKED_AT]:
        try:
            opened, file = open_parquet(describe(uri), read_member)
            with file.errors(uri):
                schema: pa.Schema = opened.schema_arrow
        except Unreadable:
            continue
        found = image_column(shown_as, schema, options.image_column)
        if found is None:
            return None
        if options.columns is not None:
            kept_columns(shown_as, schema.names, [found], options.columns)
        return ImageTable(found, options.columns)
    return None


def read_parquet(
    shown_as: str,
    source: str,
    uris: Sequence[str],
    how: ImageTable,
    kept: Kept | None = None,
    skipped: Mapping[str, int] = {},
) -> Manifest:
    """The images of Parquet files, in the order of the files and of their rows.

    Args:
        shown_as: the input as the user named it, for messages.
        source: the folder or prefix of all files.
        uris: of the files.
        how: which columns they have.
        kept: keeps the listing of each file until all are listed.
        skipped: the number of files that were skipped beside them, by kind.

    Raises:
        InputError: no file has a row.
        Outage, Refused, MachineFault: a store or disk fails.
    """
    list_one = partial(list_parquet, how=how, fetch=read_member)
    found = list_containers(uris, list_one, kept, how.key)
    manifest = manifest_of(source, found, skipped, how.image)
    if not pc.any(pc.is_valid(manifest.table["container_row"])).as_py():
        raise _without_images(shown_as, manifest.table)
    path = f"{how.image}_path"
    if path in manifest.extra and manifest.missing(path) == len(manifest):
        return replace(manifest, table=manifest.table.drop_columns(path))
    return manifest


def _without_images(shown_as: str, table: pa.Table) -> InputError:
    problems = table["problem"].drop_null()
    if len(problems):
        return InputError(f"{shown_as} contains no image that can be read: {problems[0]}")
    if table.num_rows:
        return InputError(f"{shown_as} does not exist; give a folder of images or of .parquet files")
    return InputError(f"{shown_as} has no rows")
