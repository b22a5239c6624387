"""Lists a collection: a folder or prefix, a pattern, a list of uris, a WebDataset, or one image. No image is
read."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from cluster.inputs.braces import expanded, has_braces
from cluster.inputs.combined import combined, common_folder
from cluster.inputs.folder_files import IMAGE, below, images_of, listed_files
from cluster.inputs.formats import EXTENSIONS
from cluster.inputs.globs import WILD, glob_regex, names_hidden
from cluster.inputs.hidden import hidden
from cluster.inputs.image_tables import ARROW, PARQUET, image_table, read_arrow, read_tables
from cluster.inputs.kept_listings import KeptListings
from cluster.inputs.list_formats import LISTS, fix_of
from cluster.inputs.lists import read_list, read_parts
from cluster.inputs.manifest import SCHEMA, InputError, Manifest
from cluster.inputs.saved_datasets import STATE, data_files
from cluster.inputs.sources import bounded, exists, local_uri, size_of, walk
from cluster.inputs.table_options import DEFAULTS, TableOptions
from cluster.inputs.webdataset import SHARD, check_compression, read_shards
from cluster.run.layout import MANIFEST_FILE, RUN_FILE
from cluster.storage import hub_datasets
from cluster.storage.store import NotFound, absolute, open_store, patience_seconds

_log = logging.getLogger(__name__)
_MOST_WORDS = 1_000_000
"""Names to which a brace pattern may expand."""


def scan(
    input_uri: str | Sequence[str], options: TableOptions = DEFAULTS, kept: KeptListings | None = None
) -> Manifest:
    """List the images of a collection, or of several that are given together.

    Each is a folder or prefix, a glob pattern ("s3://bucket/a/**/*.jpg"), a CSV or Parquet list with a column
    of uris and optionally one of words, a folder of Parquet files of such a list, one image file, or files
    that hold the images: the .tar of a WebDataset or .parquet; one, a folder that holds no loose images, a
    glob or a brace pattern ("s3://bucket/{00000..00999}.tar").

    Args:
        input_uri: of the collection.
        options: how lists and tables are read.
        kept: keeps the listings of files that hold images until all are listed.

    Raises:
        InputError: it does not exist, or contains nothing that is an image by its extension.
    """
    if not isinstance(input_uri, str):
        return combined([scan(uri, options, kept) for uri in input_uri])
    if not input_uri:
        raise InputError("the input is empty; give a folder of images ('.' for this one)")
    if options.delimiter is not None and not re.search(r"(?i)\.[ct]sv(\.\w+)?$", input_uri):
        raise InputError(f"--delimiter is of lists in CSV, and {input_uri} is none; leave it out")
    found = _scan(input_uri, options, kept)
    if options.image_column is not None and "container_column" not in found.table.column_names:
        raise InputError(
            f"--image-column {options.image_column}: {input_uri} is no table that holds images; leave it out"
        )
    return found


def _scan(input_uri: str, options: TableOptions, kept: KeptListings | None) -> Manifest:
    uri = absolute(input_uri)
    if uri.startswith(hub_datasets.PREFIX):
        uri = _pinned(uri)
    if uri != local_uri(uri):
        raise InputError(f"{uri!a} is not UTF-8; rename the folder, or give it by another path")
    if _is_folder(uri):
        return _scan_folder(input_uri, uri, options, kept)
    if _is_special(uri):
        raise InputError(f"{input_uri} is a pipe, socket or device; save it as a file, and give that")
    if has_braces(uri) and not exists(uri):
        return _scan_braces(input_uri, uri, options, kept)
    if re.search(WILD, uri) and not exists(uri):
        return _scan_glob(input_uri, uri, options, kept)
    if uri.lower().endswith(LISTS):
        return _scan_list(input_uri, uri, options, kept)
    if re.search(SHARD, uri) and size_of(uri) is not None:
        return read_shards(input_uri, uri.rpartition("/")[0], [uri], kept)
    if re.search(ARROW, uri) and size_of(uri) is not None:
        return read_arrow(input_uri, uri.rpartition("/")[0], [uri], options)
    if fix_of(uri) and size_of(uri) is not None:
        check_compression(input_uri, uri)
        raise InputError(f"{input_uri} cannot be read as a list; {fix_of(uri)}")
    if "://" in uri and not re.search(IMAGE, uri):
        return _scan_folder(input_uri, uri, options, kept)
    return _one_file(input_uri, uri)


def _pinned(uri: str) -> str:
    """The uri in a data set of the hub at the commit that its revision is now."""
    try:
        found = hub_datasets.pinned(uri, patience_seconds())
    except NotFound as error:
        raise InputError(str(error)) from error
    if found != uri:
        _log.info("auditing %s", found)
    return found


def _is_folder(uri: str) -> bool:
    return "://" not in uri and bounded(uri, Path(uri).is_dir)


def _is_special(uri: str) -> bool:
    """Whether a local path is neither a file nor a folder. Reading a pipe would block in obstore's code,
    where no signal interrupts it."""
    path = Path(uri)
    return "://" not in uri and bounded(uri, lambda: path.exists() and not path.is_file())


def _scan_folder(shown_as: str, root: str, options: TableOptions, kept: KeptListings | None) -> Manifest:
    table, vanished = listed_files(shown_as, root)
    if not table.num_rows:
        raise InputError(f"no files in {shown_as}; give a folder or prefix that holds images")
    files = {f"{root}/{RUN_FILE}", f"{root}/{MANIFEST_FILE}"}
    if pc.sum(pc.is_in(table["uri"], pa.array(files))).as_py() == len(files):
        raise InputError(f"{shown_as} is the run folder of an audit; give the folder that holds the images")
    found = images_of(table, root, vanished=vanished)
    if not len(found):
        if len(tars := images_of(table, root, vanished=vanished, pattern=SHARD)):
            return _read_tars(shown_as, tars, kept)
        if parts := _parts(shown_as, table, root):
            return _read_parts(shown_as, root, parts, options, kept, found.skipped_kinds)
        if arrow := _arrow(table, root):
            return read_arrow(shown_as, root, arrow, options, kept)
        for uri in table["uri"].to_pylist():
            check_compression(f"{shown_as}: {uri.removeprefix(f'{root}/')}", uri)
        count = f"{table.num_rows} file{'s' if table.num_rows > 1 else ''}"
        accepted = f"accepted are {' '.join(EXTENSIONS)}"
        heic = "; .heic is read if pillow-heif is installed" if ".heic" in found.skipped_kinds else ""
        raise InputError(f"{shown_as} contains {count} but no image; {accepted}; {found.skipped_text}{heic}")
    return found


def _read_tars(shown_as: str, tars: Manifest, kept: KeptListings | None) -> Manifest:
    return read_shards(shown_as, tars.source, tars.table["uri"].to_pylist(), kept, tars.skipped_kinds)


def _read_parts(
    shown_as: str,
    root: str,
    parts: Sequence[str],
    options: TableOptions,
    kept: KeptListings | None,
    skipped: Mapping[str, int],
) -> Manifest:
    """Read Parquet files, which hold images or are a list."""
    if (table := image_table(shown_as, parts, options)) is None:
        return read_parts(shown_as, root, parts, options.columns)
    others = {kind: count for kind, count in skipped.items() if kind != ".parquet"}
    return read_tables(shown_as, root, parts, table, kept, others)


def _parts(shown_as: str, table: pa.Table, root: str) -> list[str]:
    """The Parquet files of a list in several files. Names that begin with "_" belong to the program that
    wrote them, such as Spark.

    Raises:
        InputError: it is a Delta table, where files that no longer count may remain.
    """
    paths = below(table["uri"], root)
    if pc.any(pc.match_substring(paths, "/_delta_log/")).as_py():
        raise InputError(f"{shown_as} is a Delta table; export it as plain Parquet")
    own = pc.or_(hidden(paths), pc.match_substring(paths, "/_"))
    parquet = pc.match_substring_regex(paths, r"(?i)[^/]\.parquet$")
    return table["uri"].filter(pc.and_not(parquet, own)).to_pylist()


def _arrow(table: pa.Table, root: str) -> list[str]:
    """The Arrow files of data sets in a listing."""
    uris = table["uri"].filter(pc.invert(hidden(below(table["uri"], root))))
    states = uris.filter(pc.ends_with(uris, f"/{STATE}")).to_pylist()
    return data_files(uris.filter(pc.match_substring_regex(uris, ARROW)).to_pylist(), states)


def _scan_braces(shown_as: str, pattern: str, options: TableOptions, kept: KeptListings | None) -> Manifest:
    """List the .tar or .parquet files of a brace pattern, whose words may be globs. Each that is named has to
    exist."""
    words = list(islice(expanded(pattern), _MOST_WORDS + 1))
    if len(words) > _MOST_WORDS:
        raise InputError(f"{shown_as} expands to more than {_MOST_WORDS} names; give their folder")
    uris: list[str] = []
    for word in words:
        check_compression(shown_as, word)
    kinds = {SHARD: ".tar", PARQUET: ".parquet", ARROW: ".arrow"}
    kind = next((kind for kind in kinds if re.search(kind, words[0])), SHARD)
    for word in words:
        if not re.search(kind, word):
            raise InputError(
                f"{shown_as}: braces are expanded for files of one of {' '.join(kinds.values())}; give a "
                "folder, or a glob as *.jpg"
            )
        if re.search(WILD, word) and not exists(word):
            matching, root, named, _ = _matching(shown_as, word)
            uris += images_of(matching, root, named, pattern=kind).table["uri"].to_pylist()
        else:
            uris.append(word)
    if not uris:
        raise InputError(f"{shown_as} matches no {kinds[kind]} file; quote it for the shell")
    folder = common_folder([uri.rpartition("/")[0] for uri in uris])
    if kind == SHARD:
        return read_shards(shown_as, folder, uris, kept)
    if kind == ARROW:
        return read_arrow(shown_as, folder, uris, options, kept)
    return _read_parts(shown_as, folder, uris, options, kept, {})


def _matching(shown_as: str, pattern: str) -> tuple[pa.Table, str, list[str], int]:
    """The files that match a glob, the folder that they are below, the regular expressions of hidden names
    in the pattern, and the number of vanished folders."""
    parts = pattern.split("/")
    fixed = next(i for i, part in enumerate(parts) if re.search(WILD, part))
    if "/".join(parts[:fixed]).endswith(":/"):
        raise InputError(f"{shown_as}: name the bucket; wildcards are allowed only behind it")
    # A part that exists by that name is not a pattern.
    while fixed < len(parts) - 1 and exists("/".join(parts[: fixed + 1])):
        fixed += 1
    named = "/".join(parts[:fixed])
    table, vanished = listed_files(shown_as, named or "/")
    root = named or "/"
    wild = re.escape(f"{named}/") + glob_regex("/".join(parts[fixed:]))[1:]
    try:
        matching = table.filter(pc.match_substring_regex(table["uri"], f"^{wild}"))
    except pa.ArrowInvalid as error:
        raise InputError(f"{shown_as} is not a valid pattern: {str(error).splitlines()[0]}") from error
    return matching, root, [glob_regex(p)[1:-1] for p in parts[fixed:] if names_hidden(p)], vanished


def _scan_glob(shown_as: str, pattern: str, options: TableOptions, kept: KeptListings | None) -> Manifest:
    matching, root, hidden_names, vanished = _matching(shown_as, pattern)
    found = images_of(matching, root, hidden_names, vanished)
    if not len(found):
        if len(tars := images_of(matching, root, hidden_names, vanished, SHARD)):
            return _read_tars(shown_as, replace(tars, source=root.rstrip("/")), kept)
        if lists := _parts(shown_as, matching, root):
            return _read_parts(shown_as, root.rstrip("/"), lists, options, kept, found.skipped_kinds)
        if arrow := _arrow(matching, root):
            return read_arrow(shown_as, root.rstrip("/"), arrow, options, kept)
        raise InputError(
            f"{shown_as} matches no image; quote it for the shell, and use ** for any number of folders"
        )
    return replace(found, source=root.rstrip("/"))


def _scan_list(shown_as: str, uri: str, options: TableOptions, kept: KeptListings | None) -> Manifest:
    parent, _, name = uri.rpartition("/")
    if re.search(PARQUET, uri) and (table := image_table(shown_as, [uri], options)) is not None:
        return read_tables(shown_as, parent, [uri], table)
    try:
        data = open_store(parent or "/", create=False).read(name)
    except NotFound as error:
        # A prefix of that name: Spark writes folders named like files.
        if "://" in uri and next(walk(uri), None):
            return _scan_folder(shown_as, uri, options, kept)
        raise InputError(f"{shown_as} does not exist; give a folder or a list") from error
    return read_list(shown_as, name, data, parent, options)


def _one_file(shown_as: str, uri: str) -> Manifest:
    size = size_of(uri)
    if size is None:
        fix = "an image or a folder" if re.search(IMAGE, uri) else "a folder of images"
        raise InputError(f"{shown_as} does not exist; give {fix}")
    if not re.search(IMAGE, uri):
        raise InputError(f"{shown_as} is not an image by its name; accepted are {' '.join(EXTENSIONS)}")
    table = pa.table([[uri], [size]], SCHEMA)
    return Manifest(uri.rpartition("/")[0], table)


def documents(folder: str) -> Manifest:
    """List the JSON documents of a folder or prefix, sorted by name.

    Raises:
        InputError: there is none.
    """
    root = absolute(folder)
    table, _ = listed_files(folder, root)
    table = table.filter(pc.ends_with(table["uri"], ".json"))
    if not table.num_rows:
        raise InputError(f"{folder} contains no .json; give a folder of plans")
    return Manifest(root, table)
