"""Lists a collection: a folder or prefix, a glob, a list of uris, or one image. No image is read."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from urllib.parse import quote_from_bytes

import pyarrow as pa
import pyarrow.compute as pc

from cluster.inputs.formats import EXTENSIONS
from cluster.inputs.hidden import SYSTEM, hidden
from cluster.inputs.lists import LISTS, fix_of, read_list, read_parts
from cluster.inputs.manifest import MANIFEST_FILE, RUN_FILE, SCHEMA, InputError, Manifest
from cluster.inputs.sources import bounded, exists, local_uri, size_of, walk
from cluster.storage.store import NotFound, absolute, open_store

_BATCH = 50_000
_WILD = r"[*?\[]"
_IMAGE = r"(?i)[^/](" + "|".join(re.escape(e) for e in EXTENSIONS) + ")$"
"""By name alone; what the bytes are is found out when they are decoded."""
_EXTENSION = r"(?P<extension>\.[A-Za-z0-9_]{1,10})$"
"""Others are not repeated to people: names come from strangers."""


def scan(input_uri: str) -> Manifest:
    """Lists the images of a folder or prefix, of a glob ("s3://bucket/a/**/*.jpg"), of a CSV or Parquet list
    with a column of uris and perhaps one of words, of a folder of Parquet parts of such a list, or one image
    file.

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
    if _is_special(uri):
        raise InputError(f"{input_uri} is a pipe, socket or device; save it as a file, and give that")
    if re.search(_WILD, uri) and not exists(uri):
        return _scan_glob(input_uri, uri)
    if uri.lower().endswith(LISTS):
        return _scan_list(input_uri, uri)
    if fix_of(uri) and size_of(uri) is not None:
        raise InputError(f"{input_uri} cannot be read as a list; {fix_of(uri)}")
    if "://" in uri and not re.search(_IMAGE, uri):
        return _scan_folder(input_uri, uri)
    return _one_file(input_uri, uri)


def _is_folder(uri: str) -> bool:
    return "://" not in uri and bounded(uri, Path(uri).is_dir)


def _is_special(uri: str) -> bool:
    """Whether a local path is neither a file nor a folder. A pipe would be waited for, in the driver's own
    code, which no signal ends."""
    path = Path(uri)
    return "://" not in uri and bounded(uri, lambda: path.exists() and not path.is_file())


def _scan_folder(asked: str, root: str) -> Manifest:
    table, vanished = _listed(asked, root)
    if not table.num_rows:
        raise InputError(f"no files in {asked}; give a folder or prefix that holds images")
    files = {f"{root}/{RUN_FILE}", f"{root}/{MANIFEST_FILE}"}
    if pc.sum(pc.is_in(table["uri"], pa.array(files))).as_py() == len(files):
        raise InputError(f"{asked} is the run folder of an audit; give the folder that holds the images")
    found = _images(table, root, vanished=vanished)
    if not len(found):
        if parts := _parts(asked, table, root):
            return read_parts(asked, root, parts)
        count = f"{table.num_rows} file{'s' if table.num_rows > 1 else ''}"
        accepted = f"accepted are {' '.join(EXTENSIONS)}"
        heic = "; .heic is read where pillow-heif is installed" if ".heic" in found.skipped_kinds else ""
        raise InputError(f"{asked} holds {count} but no image; {accepted}; {found.skipped_text}{heic}")
    return found


def _parts(asked: str, table: pa.Table, root: str) -> list[str]:
    """The Parquet files of a list in parts; a part of the path that begins with "_" is the writer's own.

    Raises:
        InputError: it is a table of which some parts no longer count.
    """
    paths = _below(table["uri"], root)
    if pc.any(pc.match_substring(paths, "/_delta_log/")).as_py():
        raise InputError(f"{asked} is a Delta table; export it as plain Parquet")
    own = pc.or_(hidden(paths), pc.match_substring(paths, "/_"))
    parquet = pc.match_substring_regex(paths, r"(?i)[^/]\.parquet$")
    return table["uri"].filter(pc.and_not(parquet, own)).to_pylist()


def _listed(asked: str, root: str) -> tuple[pa.Table, int]:
    """All that is under a folder or prefix, each once, sorted by uri; and how many folders vanished
    meanwhile."""
    vanished: list[str] = []
    try:
        table = _table(walk(root, vanished.append))
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
    ordered = pa.Table.from_batches([pa.record_batch(column, SCHEMA) for column in columns], SCHEMA)
    return ordered, len(vanished)


def _table(found: Iterator[tuple[str, int]]) -> pa.Table:
    """In batches, so that a million names never exist as a million Python objects."""
    batches = []
    while batch := list(islice(found, _BATCH)):
        uris, sizes = zip(*batch, strict=True)
        batches.append(pa.record_batch([pa.array(uris, pa.string()), pa.array(sizes, pa.int64())], SCHEMA))
    return pa.Table.from_batches(batches, SCHEMA)


def _images(table: pa.Table, root: str, named: Sequence[str] = (), vanished: int = 0) -> Manifest:
    """Without what is no image by its name, what is hidden, and the pictures in run folders. ``named``:
    regular expressions of hidden parts that were asked for by name. ``vanished``: folders of which not all is
    in the table."""
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
    image = pc.match_substring_regex(uris, _IMAGE)
    kinds.update(_extensions(uris.filter(pc.invert(pc.or_(image, left_out)))))
    images = table.filter(pc.and_not(image, left_out))
    return Manifest(
        root,
        images,
        table.num_rows - images.num_rows + vanished,
        dict(sorted((+kinds).items(), key=lambda kind: (-kind[1], kind[0]))),
    )


def _extensions(uris: pa.ChunkedArray) -> Counter[str]:
    """Files by their extension, in lower case."""
    extension = pc.struct_field(pc.extract_regex(uris, _EXTENSION), "extension")
    counts = pc.utf8_lower(extension).value_counts().to_pylist()
    return Counter({found["values"] or "other": found["counts"] for found in counts})


def _below(uris: pa.ChunkedArray, root: str) -> pa.ChunkedArray:
    """Paths below a folder, from their "/" on."""
    quoted = "file://" + quote_from_bytes(os.fsencode(root))  # of names that are no UTF-8
    begin = "|".join(re.escape(start.rstrip("/")) for start in (root, quoted))
    return pc.replace_substring_regex(uris, f"^(?:{begin})/", "/", max_replacements=1)


def _scan_glob(asked: str, pattern: str) -> Manifest:
    parts = pattern.split("/")
    fixed = next(i for i, part in enumerate(parts) if re.search(_WILD, part))
    if "/".join(parts[:fixed]).endswith(":/"):
        raise InputError(f"{asked}: name the bucket; only what follows it may have wildcards")
    while fixed < len(parts) - 1 and exists("/".join(parts[: fixed + 1])):  # a name before it is a pattern
        fixed += 1
    named = "/".join(parts[:fixed])
    table, vanished = _listed(asked, named or "/")
    root = named or "/"
    wild = re.escape(f"{named}/") + glob_regex("/".join(parts[fixed:]))[1:]
    try:
        matching = table.filter(pc.match_substring_regex(table["uri"], f"^{wild}"))
    except pa.ArrowInvalid as error:
        raise InputError(f"{asked} is no pattern: {str(error).splitlines()[0]}") from error
    found = _images(
        matching, root, [glob_regex(part)[1:-1] for part in parts[fixed:] if _names_hidden(part)], vanished
    )
    if not len(found):
        if lists := _parts(asked, matching, root):
            return read_parts(asked, root, lists)
        raise InputError(f"{asked} matches no image; put it in quotes, and use ** for any number of folders")
    return replace(found, source=root.rstrip("/"))


def _names_hidden(part: str) -> bool:
    """Whether a part of a pattern asks for what is hidden, as in a shell: by more than a wildcard."""
    if part[:1] in ("", "*", "?", "["):
        return False
    matches = re.compile(glob_regex(part), re.IGNORECASE).search
    return part.startswith(".") or any(matches(name) for name in SYSTEM)


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
        if "://" in uri and next(
            walk(uri), None
        ):  # a prefix: Spark gives such names to the folders it writes
            return _scan_folder(asked, uri)
        raise InputError(f"{asked} does not exist; give a folder, or a CSV or Parquet list") from error
    return read_list(asked, name, data, parent)


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
    table, _ = _listed(folder, root)
    table = table.filter(pc.ends_with(table["uri"], ".json"))
    if not table.num_rows:
        raise InputError(f"{folder} holds no .json; give a folder of plans")
    return Manifest(root, table)
