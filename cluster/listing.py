"""Lists a collection: a folder or prefix, a glob, a list of uris, or one image. No image is read."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from cluster.images import EXTENSIONS
from cluster.manifest import MANIFEST_FILE, RUN_FILE, SCHEMA, WORD, InputError, Manifest
from cluster.sources import exists, local_uri, size_of, walk
from cluster.store import REMOTE_SCHEMES, NotFound, absolute, open_store

LISTS = (".csv", ".parquet")
"""What a list of images may be: a file with a column of uris."""
URI_COLUMNS = ("uri", "url", "path", "file", "image")
_BATCH = 50_000
_WILD = r"[*?\[]"
_KNOWN = "^(" + "|".join((*REMOTE_SCHEMES, "file")) + ")://[^/:@]*(/|$)"
"""The URLs of a list. Others may be presigned. A bucket has no colon: what stands before one is a key, and
the secret behind it may hold slashes, with the @ only after them."""
_IMAGE = r"(?i)(^|/)[^/.][^/]*(" + "|".join(re.escape(e) for e in EXTENSIONS) + ")$"
"""By name alone; what the bytes are is found out when they are decoded. Names that begin with a dot are
the system's own ("._photo.jpg" of a Mac), never a person's picture."""


def scan(input_uri: str) -> Manifest:
    """Lists the images of a folder or prefix, of a glob ("s3://bucket/a/**/*.jpg"), of a CSV or Parquet list
    with a column of uris and perhaps one of words, or one image file.

    Raises:
        InputError: nothing is there, or nothing that is an image by its extension.
    """
    if not input_uri:
        raise InputError("the input is empty; give a folder of images ('.' for this one)")
    uri = absolute(input_uri)
    if uri != local_uri(uri):
        raise InputError(f"{uri!a} is no UTF-8; rename the folder, or give another way to it")
    if _is_folder(uri):
        return _scan_folder(input_uri, uri)
    if re.search(_WILD, uri) and not exists(uri):
        return _scan_glob(input_uri, uri)
    if uri.lower().endswith(LISTS):
        return _scan_list(input_uri, uri)
    if "://" in uri and not re.search(_IMAGE, uri):
        return _scan_folder(input_uri, uri)
    return _one_file(input_uri, uri)


def _is_folder(uri: str) -> bool:
    return "://" not in uri and Path(uri).is_dir()


def _scan_folder(asked: str, root: str) -> Manifest:
    table = _listed(asked, root)
    if not table.num_rows:
        raise InputError(f"no files in {asked}; give a folder or prefix that holds images")
    files = {f"{root}/{RUN_FILE}", f"{root}/{MANIFEST_FILE}"}
    if pc.sum(pc.is_in(table["uri"], pa.array(files))).as_py() == len(files):
        raise InputError(f"{asked} is the run folder of an audit; give the folder that holds the images")
    images = _images(table)
    if not images.num_rows:
        count = f"{table.num_rows} file{'s' if table.num_rows > 1 else ''}"
        raise InputError(f"{asked} holds {count} but no image; accepted are {' '.join(EXTENSIONS)}")
    return Manifest(root, images, table.num_rows - images.num_rows)


def _listed(asked: str, root: str) -> pa.Table:
    """All that is under a folder or prefix, each once, sorted by uri."""
    try:
        table = _table(walk(root))
    except NotFound as error:
        raise InputError(f"{asked} does not exist; give a folder of images") from error
    # No string array holds over 2 GiB, and sort_by would make one of all: large strings, and parts, may.
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
    return pa.Table.from_batches([pa.record_batch(column, SCHEMA) for column in columns], SCHEMA)


def _table(found: Iterator[tuple[str, int]]) -> pa.Table:
    """In batches, so that a million names never exist as a million Python objects."""
    batches = []
    while batch := list(islice(found, _BATCH)):
        uris, sizes = zip(*batch, strict=True)
        batches.append(pa.record_batch([pa.array(uris, pa.string()), pa.array(sizes, pa.int64())], SCHEMA))
    return pa.Table.from_batches(batches, SCHEMA)


def _images(table: pa.Table) -> pa.Table:
    """Without what is no image by its name, and without the pictures in run folders."""
    kept = pc.match_substring_regex(table["uri"], _IMAGE)
    manifests = pc.filter(table["uri"], pc.ends_with(table["uri"], f"/{MANIFEST_FILE}")).to_pylist()
    folders = pa.array([uri.removesuffix(MANIFEST_FILE) for uri in manifests], pa.string())
    runs = pc.binary_join_element_wise(folders, pa.scalar(RUN_FILE), "")
    there = pc.filter(table["uri"], pc.is_in(table["uri"], runs)).combine_chunks()
    for folder in folders.filter(pc.is_in(runs, there)).to_pylist():
        kept = pc.and_(kept, pc.invert(pc.starts_with(table["uri"], folder)))
    return table.filter(kept)


def _scan_glob(asked: str, pattern: str) -> Manifest:
    parts = pattern.split("/")
    fixed = next(i for i, part in enumerate(parts) if re.search(_WILD, part))
    if "/".join(parts[:fixed]).endswith(":/"):
        raise InputError(f"{asked}: name the bucket; only what follows it may have wildcards")
    while fixed < len(parts) - 1 and exists("/".join(parts[: fixed + 1])):  # a name before it is a pattern
        fixed += 1
    named = "/".join(parts[:fixed])
    table = _listed(asked, named or "/")
    root = named or "/"
    wild = re.escape(f"{named}/") + glob_regex("/".join(parts[fixed:]))[1:]
    try:
        matching = table.filter(pc.match_substring_regex(table["uri"], f"^{wild}"))
    except pa.ArrowInvalid as error:
        raise InputError(f"{asked} is no pattern: {str(error).splitlines()[0]}") from error
    images = _images(matching)
    if not images.num_rows:
        raise InputError(f"{asked} matches no image; put it in quotes, and use ** for any number of folders")
    return Manifest(root.rstrip("/"), images, matching.num_rows - images.num_rows)


def glob_regex(pattern: str) -> str:
    """A shell pattern as a regular expression: ``*`` and ``?`` stay within a folder, ``**/`` is any number
    of folders, ``[a-z]`` one of these letters."""
    tokens = re.split(r"(\*\*/|\*\*|\*|\?|\[!?[^\]/]+\])", pattern)
    meaning = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}

    def translated(token: str) -> str:
        if token in meaning:
            return meaning[token]
        if re.fullmatch(r"\[!?[^\]/]+\]", token):
            body = token[1:-1].replace("\\", r"\\")
            return f"[^{body[1:]}]" if body.startswith("!") else f"[{body}]"
        return re.escape(token)

    return "^" + "".join(map(translated, tokens)) + "$"


def _scan_list(asked: str, uri: str) -> Manifest:
    parent, _, name = uri.rpartition("/")
    try:
        data = open_store(parent or "/", create=False).read(name)
    except NotFound as error:
        raise InputError(f"{asked} does not exist; give a folder, or a CSV or Parquet list") from error
    batches: list[pa.RecordBatch] = []
    rows = 0
    try:
        columns, parts = _read_list(asked, name, data)
        schema = SCHEMA if len(columns) == 1 else SCHEMA.append(WORD)
        for part in parts:
            uris, *words = (_text(part[column]) for column in columns)
            _check_rows(asked, columns[0], uris, rows)
            rows += len(uris)
            said = [pc.utf8_trim_whitespace(word) for word in words]
            said = [pc.if_else(pc.equal(word, ""), None, word) for word in said]
            found = [_from_list(uris, parent), pa.nulls(len(uris), pa.int64()), *said]
            batches.append(pa.record_batch(found, schema))
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{asked} cannot be read as a list: {_reason(error)}") from None  # it quotes the row
    if not rows:
        raise InputError(f"{asked} lists no images")
    return Manifest("", pa.Table.from_batches(batches, schema))


def _text(column: pa.Array) -> pa.Array:
    text = column.cast(pa.string())
    text.validate(full=True)  # Parquet's text may be no UTF-8
    return text


def _read_list(asked: str, name: str, data: bytes) -> tuple[list[str], Iterator[pa.RecordBatch]]:
    """The name of the column of uris, and of that of words if there is one; and what they hold, in parts."""
    source = pa.BufferReader(data)
    if not name.lower().endswith(".csv"):
        file = pq.ParquetFile(source)
        columns = _columns(asked, file.schema_arrow.names)
        return columns, file.iter_batches(columns=columns)
    in_order = pyarrow.csv.ReadOptions(use_threads=False)  # else errors name no row
    columns = _columns(asked, pyarrow.csv.open_csv(source, in_order).schema.names)
    types = dict.fromkeys(columns, pa.string())
    as_text = pyarrow.csv.ConvertOptions(include_columns=columns, column_types=types)
    return columns, iter(pyarrow.csv.open_csv(pa.BufferReader(data), in_order, convert_options=as_text))


def _columns(asked: str, names: list[str]) -> list[str]:
    """Those of a list that are read."""
    if names.count(WORD.name) > 1:
        raise InputError(f"{asked} has several columns named {WORD.name}; leave one")
    return [_uri_column(asked, names), *(name for name in names if name == WORD.name)]


def _uri_column(asked: str, names: list[str]) -> str:
    named = [c for c in URI_COLUMNS if names.count(c) == 1]
    if named:
        return named[0]
    # where the first line is missing, a uri takes its place
    have = "a uri" if any("://" in name for name in names) else ", ".join(names)
    raise InputError(
        f"{asked} needs a first line with a column named {' or '.join(URI_COLUMNS)}, once; it has {have}"
    )


def _check_rows(asked: str, column: str, uris: pa.Array, before: int) -> None:
    """Refuses rows without a uri, and those that would carry keys into the run's files; names none but by
    number, counted from 1, with ``before`` rows in front of these."""
    empty = pc.index(pc.equal(pc.fill_null(uris, ""), ""), True).as_py()
    if empty >= 0:
        raise InputError(f"{asked}: row {before + empty + 1} has no {column}")
    known = pc.match_substring_regex(uris, _KNOWN)
    other = pc.index(pc.and_not(pc.match_substring(uris, "://"), known), True).as_py()
    if other >= 0:
        raise InputError(
            f"{asked}: row {before + other + 1} is a web address, or holds keys, or is of no known kind; "
            "keys would stand in the run's files, so give them by AWS_PROFILE or AWS_ACCESS_KEY_ID, and "
            "name images as a path, file:///path, s3://bucket/key, gs://bucket/key or az://container/key"
        )


def _reason(error: Exception) -> str:
    """Arrow's own words, without the row that they quote. Rows are counted without the first line."""
    said = re.sub(r"(got \d+):.*", r"\1", (str(error).splitlines() or [type(error).__name__])[0])
    return re.sub(r"Row #(\d+)", lambda found: f"row {int(found[1]) - 1}", said)


def _from_list(uris: pa.Array, parent: str) -> pa.Array:
    """The uris of a list: what is relative is relative to the list's folder, and spelt without empty parts
    and dots, as :class:`pathlib.PurePosixPath` does."""
    relative = pc.invert(pc.match_substring_regex(uris, "^/|://"))
    framed = pc.binary_join_element_wise("/", uris.filter(relative), "/", "")
    names = pc.utf8_trim(pc.replace_substring_regex(framed, r"/(\.?/)+", "/"), "/")
    names = pc.if_else(pc.equal(names, ""), ".", names)
    return pc.replace_with_mask(uris, relative, pc.binary_join_element_wise(parent, names, "/"))


def _one_file(asked: str, uri: str) -> Manifest:
    size = size_of(uri)
    if size is None:
        fix = "an image or a folder" if re.search(_IMAGE, uri) else "a folder of images"
        raise InputError(f"{asked} does not exist; give {fix}")
    if not re.search(_IMAGE, uri):
        raise InputError(f"{asked} is no image by its name; accepted are {' '.join(EXTENSIONS)}")
    table = pa.table([[uri], [size]], SCHEMA)
    return Manifest(uri.rpartition("/")[0], table)


def documents(folder: str) -> Manifest:
    """Lists the JSON documents of a folder or prefix, sorted by name.

    Raises:
        InputError: there are none.
    """
    root = absolute(folder)
    table = _listed(folder, root)
    table = table.filter(pc.ends_with(table["uri"], ".json"))
    if not table.num_rows:
        raise InputError(f"{folder} holds no .json; give a folder of plans")
    return Manifest(root, table)
