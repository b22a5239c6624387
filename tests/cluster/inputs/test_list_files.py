"""Lists of any format: tabs and other delimiters, JSON Lines, compression, wide cells, damage."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cluster.inputs.json_lists import open_json_lines
from cluster.inputs.listing import scan
from cluster.inputs.manifest import InputError, Manifest
from cluster.inputs.table_options import TableOptions


def zstd(data: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(data)
    return sink.getvalue().to_pybytes()


COMPRESSIONS: dict[str, Callable[[bytes], bytes]] = {
    "": lambda data: data,
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".zst": zstd,
}
ROWS = [("a.png", "x, y", 3), ("b\tc.png", 'two\nlines; "quoted" | and', 4), ("s3://b/k", "\u00e9", 5)]


def scanned(folder: Path, name: str, data: bytes, options: TableOptions = TableOptions()) -> Manifest:  # noqa: B008
    (folder / name).write_bytes(data)
    return scan(str(folder / name), options)


def written(form: str) -> bytes:
    """The rows in one format: "," and so on for a CSV with that delimiter, or "jsonl"."""
    if form == "jsonl":
        rows = [dict(zip(("uri", "about", "n"), row, strict=True)) for row in ROWS]
        return b"".join(json.dumps(row).encode() + b"\n\n" for row in rows)
    file = io.StringIO(newline="")
    csv.writer(file, delimiter=form).writerows([("uri", "about", "n"), *ROWS])
    return file.getvalue().encode()


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize(
    ("form", "ending"),
    [
        (",", ".csv"),
        (";", ".csv"),
        ("\t", ".csv"),
        ("|", ".CSV"),
        ("\t", ".tsv"),
        ("jsonl", ".jsonl"),
        ("jsonl", ".ndjson"),
    ],
)
def test_each_format_gives_the_same_inputs(tmp_path: Path, form: str, ending: str, compression: str) -> None:
    manifest = scanned(tmp_path, f"list{ending}{compression}", COMPRESSIONS[compression](written(form)))
    assert manifest.table["uri"].to_pylist() == [f"{tmp_path}/a.png", f"{tmp_path}/b\tc.png", "s3://b/k"]
    assert manifest.table["about"].to_pylist() == [about for _, about, _ in ROWS]
    assert manifest.table["n"].to_pylist() == [3, 4, 5]


def test_other_delimiters_are_named(tmp_path: Path) -> None:
    data = b"uri^n\na,b.png^3\n"
    manifest = scanned(tmp_path, "list.csv", data, TableOptions(delimiter="^"))
    assert manifest.uri(0) == f"{tmp_path}/a,b.png" and manifest.columns(0)["n"] == 3
    with pytest.raises(InputError):
        scanned(tmp_path, "list.csv", data)
    for name in ("list.jsonl", "list.parquet"):
        with pytest.raises(InputError, match="--delimiter"):
            scanned(tmp_path, name, data, TableOptions(delimiter="^"))


def test_a_wide_cell_is_left_out_and_its_row_stays(tmp_path: Path) -> None:
    manifest = scanned(tmp_path, "list.csv", b"uri,text\na.png," + b"x" * 2**20 + b"\nb.png,y\n")
    assert manifest.table["text"].to_pylist() == [None, "y"]


def test_objects_with_different_names_and_types(tmp_path: Path) -> None:
    lines = [
        {"uri": "a.png", "n": 1, "tags": ["x", 1], "word": " cat "},
        {"n": 2.5, "uri": "b.png", "note": None, "flag": True},
        {"uri": None, "n": 3, "about": {"by": "\ud800"}},
    ]
    manifest = scanned(
        tmp_path, "l.jsonl", b"\xef\xbb\xbf" + b"\r\n".join(json.dumps(x).encode() for x in lines)
    )
    assert manifest.table["n"].to_pylist() == [1.0, 2.5, 3.0]
    assert manifest.columns(0)["tags"] == '["x", 1]' and manifest.columns(0)["word"] == "cat"
    assert manifest.columns(1)["flag"] is True and manifest.columns(2)["about"] == '{"by": "?"}'
    assert manifest.uri(2) == "row 3 without a uri"


@pytest.mark.parametrize(
    ("name", "data", "token"),
    [
        ("l.jsonl", b'{"uri": "a.png"}\n["b.png"]\n', "row 2"),
        ("l.jsonl", b'{"uri": "https://h/?secret=0123456789"\n', "row 1"),
        ("l.jsonl", b"[" * 100_000, "row 1"),
        ("l.jsonl", b'{"uri": "\xff.png"}', "line 1"),
        ("l.jsonl", b'{"path_": "a.png"}', "column"),
        ("l.jsonl", b'{"uri": 3}', "int64"),
        ("l.jsonl", json.dumps({f"c{n}": n for n in range(300)}).encode(), "256"),
        ("l.jsonl", b"", "column"),
        ("l.csv.gz", gzip.compress(b"uri\n" + b"a.png\n" * 999, mtime=0)[:-20], "compression"),
        ("l.csv.gz", b"uri\na.png\n", "compression"),
        ("l.csv.bz2", b"BZh9" + b"x" * 99, "compression"),
        ("l.csv.zst", zstd(b"uri\na.png\n")[:-5], "l.csv.zst"),
        ("l.tsv", b"uri\tn\na.png\n", "row 1"),
    ],
)
def test_lists_that_are_refused(tmp_path: Path, name: str, data: bytes, token: str) -> None:
    with pytest.raises(InputError) as caught:
        scanned(tmp_path, name, data)
    assert token in str(caught.value) and "\n" not in str(caught.value)
    assert "0123456789" not in str(caught.value)


def test_a_gzip_of_several_parts(tmp_path: Path) -> None:
    data = gzip.compress(b"uri\na.png\n") + gzip.compress(b"b.png\n")
    assert len(scanned(tmp_path, "list.csv.gz", data)) == 2


VALUES = st.none() | st.integers() | st.text() | st.floats() | st.lists(st.booleans())
OBJECTS = st.lists(st.dictionaries(st.text(max_size=3), VALUES))


@example(b'{"row": 0, ".row": 1}')
@given(st.binary(max_size=100) | OBJECTS.map(lambda rows: "\n".join(map(json.dumps, rows)).encode()))
def test_any_bytes_are_a_table_or_refused(data: bytes) -> None:
    try:
        table = open_json_lines(data)
    except ValueError:
        return
    table.validate(full=True)


def test_a_field_may_have_any_name(tmp_path: Path) -> None:
    found = scanned(tmp_path, "list.jsonl", b'{"uri": "a.png", "row": 7, ".row": "x"}\n{"uri": "b.png"}\n')
    assert [found.columns(k) for k in range(2)] == [{"row": 7, ".row": "x"}, {}]
