"""Which files are lists of uris, by their names; their compression."""

from __future__ import annotations

import re

import pyarrow as pa

TEXT_LISTS = (".csv", ".tsv", ".jsonl", ".ndjson")
_COMPRESSIONS = {".gz": "gzip", ".bz2": "bz2", ".zst": "zstd"}
LISTS = (".parquet", *TEXT_LISTS, *(f"{text}{end}" for text in TEXT_LISTS for end in _COMPRESSIONS))
"""Extensions of lists: files with a column of uris."""
_MOST_BYTES = 8 * 2**30
"""Bytes of a list, decompressed."""
_PIECE = 16 * 2**20

_ACCEPTED = (
    "accepted are a .csv, .tsv, .jsonl (each also with .gz, .bz2 or .zst) or .parquet file, or a folder of "
    ".parquet files, with a column uri"
)
_AS_CSV = "save it as CSV (UTF-8) with a column uri"
_TO_CSV = "convert it to CSV or Parquet with a column uri"
_REFUSED = {
    ".txt": "add 'uri' as its first line and name it .csv",
    ".tab": "name it .tsv",
    ".json": "write one object a line and name it .jsonl (pandas: to_json(lines=True, orient='records'))",
    **dict.fromkeys((".xlsx", ".xls", ".xlsm", ".ods", ".numbers"), _AS_CSV),
    **dict.fromkeys((".pq", ".parq"), "name it .parquet"),
    **dict.fromkeys((".feather", ".orc", ".avro", ".pkl", ".pickle", ".npy"), _TO_CSV),
    **dict.fromkeys((".yaml", ".yml", ".xml", ".html", ".md", ".db", ".sqlite"), _TO_CSV),
    **dict.fromkeys((".gz", ".bz2", ".xz", ".zst", ".zip", ".7z", ".rar"), "unpack it first"),
    **dict.fromkeys((".tgz", ".tbz", ".tbz2", ".txz", ".tzst"), "decompress it to .tar"),
}  # fmt: skip
"""Fixes by extension, for files that are not accepted as lists."""


def fix_of(name: str) -> str | None:
    """The fix for a file that a user may take for a list or a collection, but that is not accepted as one.
    None for other names."""
    ending = re.search(r"\.[A-Za-z0-9]+$", name)
    fix = _REFUSED.get(ending[0].lower()) if ending else None
    return f"{_ACCEPTED}: {fix}" if fix else None


def decompressed(name: str, data: bytes) -> tuple[str, bytes]:
    """Name and bytes of a list without its compression, by its extension.

    Raises:
        ValueError, OSError: it is damaged, cut off, or too large.
    """
    plain, dot, ending = name.rpartition(".")
    codec = _COMPRESSIONS.get(f"{dot}{ending}".lower())
    if codec is None:
        return name, data
    pieces, total = [], 0
    try:
        with pa.CompressedInputStream(pa.BufferReader(data), codec) as stream:
            while piece := stream.read(_PIECE):
                pieces.append(piece)
                total += len(piece)
                if total > _MOST_BYTES:
                    raise ValueError(
                        f"it has more than {_MOST_BYTES} bytes decompressed; split it, or write Parquet"
                    )
    except OSError as error:
        raise ValueError(f"its compression is damaged: {str(error).splitlines()[0]}") from None
    return plain, b"".join(pieces)
