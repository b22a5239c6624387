"""Lists a collection: a folder or prefix, a pattern, a list of uris, a WebDataset, or one image. No image is
read."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice, takewhile
from pathlib import Path
from urllib.parse import quote_from_bytes

import pyarrow as pa
import pyarrow.compute as pc

from cluster.inputs.braces import expanded, has_braces
from cluster.inputs.formats import EXTENSIONS
from cluster.inputs.globs import WILD, glob_regex, names_hidden
from cluster.inputs.hidden import hidden
from cluster.inputs.image_tables import PARQUET, image_table, read_parquet
from cluster.inputs.kept_listings import KeptListings
from cluster.inputs.lists import LISTS, fix_of, read_list, read_parts
from cluster.inputs.manifest import SCHEMA, InputError, Manifest
from cluster.inputs.sources import bounded, exists, local_uri, size_of, walk
from cluster.inputs.table_options import DEFAULTS, TableOptions
from cluster.inputs.webdataset import SHARD, check_compression, read_shards
from cluster.run.layout import MANIFEST_FILE, RUN_FILE
from cluster.storage.store import NotFound, absolute, open_store

_BATCH = 50_000
_MOST_WORDS = 1_000_000
"""Names to which a brace pattern may expand."""
_IMAGE = r"(?i)[^/](" + "|".join(re.escape(e) for e in EXTENSIONS) + ")$"
"""Recognises images by their extension alone; their contents are checked when they are decoded."""
_EXTENSION = r"(?P<extension>\.[A-Za-z0-9_]{1,10})$"
"""Extensions that are counted by name. Longer or stranger ones are not repeated: names may contain
anything."""


def scan(input_uri: str, options: TableOptions = DEFAULTS, kept: KeptListings | None = None) -> Manifest:
    """List the images of a collection: a folder or prefix, a glob pattern ("s3://bucket/a/**/*.jpg"), a CSV
    or Parquet list with a column of uris and optionally one of words, a folder of Parquet files of such a
    list, one image file, or files that hold the images: the .tar of a WebDataset or .parquet; one, a folder
    that holds no loose images, a glob or a brace pattern ("s3://bucket/{00000..00999}.tar").

    Args:
        input_uri: of the collection.
        options: how lists and tables are read.
        kept: keeps the listings of files that hold images until all are listed.

    Raises:
        InputError: it does not exist, or contains nothing that is an image by its extension.
    """
    if not input_uri:
        raise InputError("the input is empty; give a folder of images ('.' for this one)")
    found = _scan(input_uri, options, kept)
    if options.image_column is not None and "container_column" not in found.table.column_names:
        raise InputError(
            f"--image-column {options.image_column}: {input_uri} is no table that holds images; leave it out"
        )
    return found


def _scan(input_uri: str, options: TableOptions, kept: KeptListings | None) -> Manifest:
    uri = absolute(input_uri)
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
    if fix_of(uri) and size_of(uri) is not None:
        check_compression(input_uri, uri)
        raise InputError(f"{input_uri} cannot be read as a list; {fix_of(uri)}")
    if "://" in uri and not re.search(_IMAGE, uri):
        return _scan_folder(input_uri, uri, options, kept)
    return _one_file(input_uri, uri)


def _is_folder(uri: str) -> bool:
    return "://" not in uri and bounded(uri, Path(uri).is_dir)


def _is_special(uri: str) -> bool:
    """Whether a local path is neither a file nor a folder. Reading a pipe would block in obstore's code,
    where no signal interrupts it."""
    path = Path(uri)
    return "://" not in uri and bounded(uri, lambda: path.exists() and not path.is_file())


def _scan_folder(shown_as: str, root: str, options: TableOptions, kept: KeptListings | None) -> Manifest:
    table, vanished = _listed(shown_as, root)
    if not table.num_rows:
        raise InputError(f"no files in {shown_as}; give a folder or prefix that holds images")
    files = {f"{root}/{RUN_FILE}", f"{root}/{MANIFEST_FILE}"}
    if pc.sum(pc.is_in(table["uri"], pa.array(files))).as_py() == len(files):
        raise InputError(f"{shown_as} is the run folder of an audit; give the folder that holds the images")
    found = _images(table, root, vanished=vanished)
    if not len(found):
        if len(tars := _images(table, root, vanished=vanished, pattern=SHARD)):
            return _read_tars(shown_as, tars, kept)
        if parts := _parts(shown_as, table, root):
            return _read_parts(shown_as, root, parts, options, kept, found.skipped_kinds)
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
    return read_parquet(shown_as, root, parts, table, kept, others)


def _parts(shown_as: str, table: pa.Table, root: str) -> list[str]:
    """The Parquet files of a list in several files. Names that begin with "_" belong to the program that
    wrote them, such as Spark.

    Raises:
        InputError: it is a Delta table, where files that no longer count may remain.
    """
    paths = _below(table["uri"], root)
    if pc.any(pc.match_substring(paths, "/_delta_log/")).as_py():
        raise InputError(f"{shown_as} is a Delta table; export it as plain Parquet")
    own = pc.or_(hidden(paths), pc.match_substring(paths, "/_"))
    parquet = pc.match_substring_regex(paths, r"(?i)[^/]\.parquet$")
    return table["uri"].filter(pc.and_not(parquet, own)).to_pylist()


def _listed(shown_as: str, root: str) -> tuple[pa.Table, int]:
    """All files under a folder or prefix, each once, sorted by uri; and the number of vanished folders."""
    vanished: list[str] = []
    try:
        table = _table(walk(root, vanished.append))
    except NotFound as error:
        raise InputError(f"{shown_as} does not exist; give a folder of images") from error
    # A string array holds at most 2 GiB, and Table.sort_by would make a single one of all uris. So they are
    # sorted as large strings, and taken in batches.
    uris = table["uri"].cast(pa.large_string()).combine_chunks()
    order = pc.sort_indices(uris)
    if len(order) > 1:
        ordered = uris.take(order)
        new = pc.not_equal(ordered[1:], ordered[:-1])
        order = order.filter(pa.concat_arrays([pa.array([True]), new]))
        del ordered
    parts = [order[start : start + _BATCH] for start in range(0, len(order), _BATCH)]
    sizes = table["bytes"].combine_chunks()
    columns = ([uris.take(part).cast(pa.string()), sizes.take(part)] for part in parts)
    ordered = pa.Table.from_batches([pa.record_batch(column, SCHEMA) for column in columns], SCHEMA)
    return ordered, len(vanished)


def _table(found: Iterator[tuple[str, int]]) -> pa.Table:
    """A listing as a table, in batches: a million names never exist as Python objects at the same time."""
    batches = []
    while batch := list(islice(found, _BATCH)):
        uris, sizes = zip(*batch, strict=True)
        batches.append(pa.record_batch([pa.array(uris, pa.string()), pa.array(sizes, pa.int64())], SCHEMA))
    return pa.Table.from_batches(batches, SCHEMA)


def _images(
    table: pa.Table, root: str, named: Sequence[str] = (), vanished: int = 0, pattern: str = _IMAGE
) -> Manifest:
    """The images of a listing, without hidden files and the pictures in run folders.

    Args:
        named: regular expressions of hidden parts of paths that the user gave by name.
        vanished: how many folders are listed incompletely.
        pattern: what an image's uri matches.
    """
    uris = table["uri"]
    left_out = hidden(_below(uris, root), named)
    kinds = Counter({"hidden": pc.sum(left_out).as_py() or 0, "vanished": vanished})
    manifests = pc.filter(uris, pc.ends_with(uris, f"/{MANIFEST_FILE}")).to_pylist()
    folders = pa.array([uri.removesuffix(MANIFEST_FILE) for uri in manifests], pa.string())
    runs = pc.binary_join_element_wise(folders, pa.scalar(RUN_FILE), "")
    there = pc.filter(uris, pc.is_in(uris, runs)).combine_chunks()
    for folder in folders.filter(pc.is_in(runs, there)).to_pylist():
        inside = pc.and_not(pc.starts_with(uris, folder), left_out)
        kinds["in runs of audits"] += pc.sum(inside).as_py()
        left_out = pc.or_(left_out, inside)
    image = pc.match_substring_regex(uris, pattern)
    kinds.update(_extensions(uris.filter(pc.invert(pc.or_(image, left_out)))))
    images = table.filter(pc.and_not(image, left_out))
    return Manifest(
        root,
        images,
        table.num_rows - images.num_rows + vanished,
        dict(sorted((+kinds).items(), key=lambda kind: (-kind[1], kind[0]))),
    )


def _extensions(uris: pa.ChunkedArray) -> Counter[str]:
    """The number of files by extension, in lower case."""
    extension = pc.struct_field(pc.extract_regex(uris, _EXTENSION), "extension")
    counts = pc.utf8_lower(extension).value_counts().to_pylist()
    return Counter({found["values"] or "other": found["counts"] for found in counts})


def _below(uris: pa.ChunkedArray, root: str) -> pa.ChunkedArray:
    """Paths below a folder, with a leading "/"."""
    quoted = "file://" + quote_from_bytes(os.fsencode(root))  # for names that are not UTF-8
    begin = "|".join(re.escape(start.rstrip("/")) for start in (root, quoted))
    return pc.replace_substring_regex(uris, f"^(?:{begin})/", "/", max_replacements=1)


def _scan_braces(shown_as: str, pattern: str, options: TableOptions, kept: KeptListings | None) -> Manifest:
    """List the .tar or .parquet files of a brace pattern, whose words may be globs. Each that is named has to
    exist."""
    words = list(islice(expanded(pattern), _MOST_WORDS + 1))
    if len(words) > _MOST_WORDS:
        raise InputError(f"{shown_as} expands to more than {_MOST_WORDS} names; give their folder")
    uris: list[str] = []
    for word in words:
        check_compression(shown_as, word)
    kind = SHARD if re.search(SHARD, words[0]) else PARQUET
    for word in words:
        if not re.search(kind, word):
            raise InputError(
                f"{shown_as}: braces are expanded for .tar files only, or for .parquet files only; give a "
                "folder, or a glob as *.jpg"
            )
        if re.search(WILD, word) and not exists(word):
            matching, root, named, _ = _matching(shown_as, word)
            uris += _images(matching, root, named, pattern=kind).table["uri"].to_pylist()
        else:
            uris.append(word)
    if not uris:
        ending = ".tar" if kind == SHARD else ".parquet"
        raise InputError(f"{shown_as} matches no {ending} file; quote it for the shell")
    if kind == SHARD:
        return read_shards(shown_as, _folder_of_all(uris), uris, kept)
    return _read_parts(shown_as, _folder_of_all(uris), uris, options, kept, {})


def _folder_of_all(uris: Sequence[str]) -> str:
    """The deepest folder or prefix of all uris; empty if they have none in common."""
    folders = [uri.split("/")[:-1] for uri in uris]
    first, last = min(folders), max(folders)
    same = [a for a, b in takewhile(lambda pair: pair[0] == pair[1], zip(first, last, strict=False))]
    return "/".join(same) if same[1:] != [""] else ""


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
    table, vanished = _listed(shown_as, named or "/")
    root = named or "/"
    wild = re.escape(f"{named}/") + glob_regex("/".join(parts[fixed:]))[1:]
    try:
        matching = table.filter(pc.match_substring_regex(table["uri"], f"^{wild}"))
    except pa.ArrowInvalid as error:
        raise InputError(f"{shown_as} is not a valid pattern: {str(error).splitlines()[0]}") from error
    return matching, root, [glob_regex(p)[1:-1] for p in parts[fixed:] if names_hidden(p)], vanished


def _scan_glob(shown_as: str, pattern: str, options: TableOptions, kept: KeptListings | None) -> Manifest:
    matching, root, hidden_names, vanished = _matching(shown_as, pattern)
    found = _images(matching, root, hidden_names, vanished)
    if not len(found):
        if len(tars := _images(matching, root, hidden_names, vanished, SHARD)):
            return _read_tars(shown_as, replace(tars, source=root.rstrip("/")), kept)
        if lists := _parts(shown_as, matching, root):
            return _read_parts(shown_as, root.rstrip("/"), lists, options, kept, found.skipped_kinds)
        raise InputError(
            f"{shown_as} matches no image; quote it for the shell, and use ** for any number of folders"
        )
    return replace(found, source=root.rstrip("/"))


def _scan_list(shown_as: str, uri: str, options: TableOptions, kept: KeptListings | None) -> Manifest:
    parent, _, name = uri.rpartition("/")
    if re.search(PARQUET, uri) and (table := image_table(shown_as, [uri], options)) is not None:
        return read_parquet(shown_as, parent, [uri], table)
    try:
        data = open_store(parent or "/", create=False).read(name)
    except NotFound as error:
        # A prefix of that name: Spark writes folders named like files.
        if "://" in uri and next(walk(uri), None):
            return _scan_folder(shown_as, uri, options, kept)
        raise InputError(f"{shown_as} does not exist; give a folder, or a CSV or Parquet list") from error
    return read_list(shown_as, name, data, parent, options.columns)


def _one_file(shown_as: str, uri: str) -> Manifest:
    size = size_of(uri)
    if size is None:
        fix = "an image or a folder" if re.search(_IMAGE, uri) else "a folder of images"
        raise InputError(f"{shown_as} does not exist; give {fix}")
    if not re.search(_IMAGE, uri):
        raise InputError(f"{shown_as} is not an image by its name; accepted are {' '.join(EXTENSIONS)}")
    table = pa.table([[uri], [size]], SCHEMA)
    return Manifest(uri.rpartition("/")[0], table)


def documents(folder: str) -> Manifest:
    """List the JSON documents of a folder or prefix, sorted by name.

    Raises:
        InputError: there is none.
    """
    root = absolute(folder)
    table, _ = _listed(folder, root)
    table = table.filter(pc.ends_with(table["uri"], ".json"))
    if not table.num_rows:
        raise InputError(f"{folder} contains no .json; give a folder of plans")
    return Manifest(root, table)
