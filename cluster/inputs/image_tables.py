"""Collections whose files hold the images in rows beside other columns: Parquet and Arrow files.

Each row is an input, named ``FILE#ROW``, with rows counted from 0. Listing reads all but the images. An image
of a Parquet file is read with its row group (see :mod:`cluster.inputs.parquet_cells`), one of an Arrow file
by itself.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import pyarrow as pa
import pyarrow.compute as pc

from cluster.inputs.arrow_files import arrow_schema, list_arrow
from cluster.inputs.container_file import Fetch
from cluster.inputs.container_listings import ContainerListing, Kept, list_containers, manifest_of
from cluster.inputs.image_columns import image_column
from cluster.inputs.list_columns import kept_columns
from cluster.inputs.locations import Container
from cluster.inputs.manifest import InputError, Manifest
from cluster.inputs.parquet_files import list_parquet, parquet_schema
from cluster.inputs.sources import Unreadable, describe, read_member
from cluster.inputs.table_options import ImageTable, TableOptions

PARQUET = r"(?i)[^/]\.parquet$"
"""Recognises Parquet files by their extension."""
ARROW = r"(?i)[^/]\.arrow$"
"""Recognises Arrow files by their extension."""
_LOOKED_AT = 20
"""Files of which one has to be readable."""


@dataclass(frozen=True)
class Format:
    """How files of one format are read."""

    ending: str
    schema: Callable[[Container, Fetch], pa.Schema]
    list_one: Callable[..., ContainerListing]


_PARQUET = Format(".parquet", parquet_schema, lambda *args, **how: list_parquet(*args, **how))
_ARROW = Format(".arrow", arrow_schema, lambda *args, **how: list_arrow(*args, **how))


def _format_of(uri: str) -> Format:
    return _ARROW if re.search(ARROW, uri) else _PARQUET


def image_table(shown_as: str, uris: Sequence[str], options: TableOptions) -> ImageTable | None:
    """The columns of files whose rows hold images, by the first file that can be read; None if they are a
    list of uris, or none of the first files can be read.

    Raises:
        InputError: it is not clear which column holds the images, or a wanted column does not exist.
        Outage, Refused, MachineFault: a store or disk fails.
    """
    for uri in uris[:_LOOKED_AT]:
        try:
            schema = _format_of(uri).schema(describe(uri), read_member)
        except Unreadable:
            continue
        found = image_column(shown_as, schema, options.image_column)
        if found is None:
            return None
        kept_columns(shown_as, schema.names, [found], options.columns)
        return ImageTable(found, options.columns)
    return None


def read_arrow(
    shown_as: str,
    source: str,
    uris: Sequence[str],
    options: TableOptions,
    kept: Kept | None = None,
    skipped: Mapping[str, int] = {},
) -> Manifest:
    """The images of Arrow files; see :func:`read_tables`.

    Raises:
        InputError: they hold no images.
    """
    how = image_table(shown_as, uris, options)
    if how is None:
        raise _unusable(shown_as, uris[0])
    return read_tables(shown_as, source, uris, how, kept, skipped)


def read_tables(
    shown_as: str,
    source: str,
    uris: Sequence[str],
    how: ImageTable,
    kept: Kept | None = None,
    skipped: Mapping[str, int] = {},
) -> Manifest:
    """The images of files, in the order of the files and of their rows.

    Args:
        shown_as: the input as the user named it, for messages.
        source: the folder or prefix of all files.
        uris: of the files, all of one format.
        how: which columns they have.
        kept: keeps the listing of each file until all are listed.
        skipped: the number of files that were skipped beside them, by kind.

    Raises:
        InputError: no file has a row.
        Outage, Refused, MachineFault: a store or disk fails.
    """
    list_one = partial(_format_of(uris[0]).list_one, how=how, fetch=read_member)
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


def _unusable(shown_as: str, uri: str) -> InputError:
    """The error for Arrow files without images."""
    try:
        arrow_schema(describe(uri), read_member)
    except Unreadable as error:
        return InputError(f"{shown_as} contains no image that can be read: {error.message}")
    return InputError(f"{shown_as} has no column of images; write lists of uris as CSV or Parquet")
