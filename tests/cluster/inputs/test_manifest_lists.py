"""Lists of images: their words, the types of their columns, and URIs that may hold credentials."""

from __future__ import annotations

import traceback
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from cluster.inputs.listing import scan
from cluster.inputs.manifest import SCHEMA, InputError, Manifest
from tests.support.listed_paths import paths
from tests.support.mean_colour import paint


@pytest.mark.parametrize(
    ("text", "output"),
    [
        ("", "cannot be read"),
        ("uri\n", "lists no images"),
        (
            "a,b\n1,2\n",
            "with a column named uri or url or path or file or image, once; it has a, b",
        ),
        ("uri,b\n,1\n,2\n", "its 2 rows"),
        ("uri,b\nx.png,1,5,6\n", "cannot be read"),
        ("uri,b\nx.png,1\ny.png,1,5,6\n", "CSV parse error: row 2: Expected 2"),
        ("/a/1.png\n/a/2.png\n", "needs a first line"),
        ("uri,uri\nx.png,y.png\n", "needs a first line"),
    ],
)
def test_invalid_lists(tmp_path: Path, text: str, output: str) -> None:
    (tmp_path / "list.csv").write_text(text)
    with pytest.raises(InputError) as caught:
        scan(str(tmp_path / "list.csv"))
    assert output in str(caught.value) and "\n" not in str(caught.value)


def test_lists_of_other_kinds(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("uri\n0012\n")
    assert scan(str(tmp_path / "list.csv")).uri(0).endswith("/0012")
    (tmp_path / "latin.csv").write_bytes(b"uri\n\xe9t\xe9.png\n")
    pq.write_table(pa.table({"uri": [{"a": 1}]}), tmp_path / "struct.parquet")
    latin = pa.array([b"/\xe9t\xe9.png"]).view(pa.string())
    pq.write_table(pa.table({"uri": latin}), tmp_path / "latin.parquet")
    (tmp_path / "text.parquet").write_text("uri\nx.png\n")
    for name in ("latin.csv", "struct.parquet", "latin.parquet", "text.parquet"):
        with pytest.raises(InputError, match="cannot be read"):
            scan(str(tmp_path / name))


@pytest.mark.parametrize(
    "column",
    [
        pa.array(["a.png", "b.png", "a.png"], pa.large_string()),
        pa.array(["a.png", "b.png", "a.png"]).dictionary_encode(),
        pa.array([b"a.png", b"b.png", b"a.png"]),
    ],
    ids=lambda column: str(column.type).partition("<")[0],
)
def test_a_column_of_text_of_any_type(tmp_path: Path, column: pa.Array) -> None:
    pq.write_table(pa.table({"uri": column}), tmp_path / "list.parquet")
    names = paths(scan(str(tmp_path / "list.parquet")))
    assert names == [f"{tmp_path}/{name}" for name in ("a.png", "b.png", "a.png")]


WORDS = ["dog", " cat ", "", None, "fire truck"]


@pytest.mark.parametrize("form", ["csv", "parquet", "dictionary"])
def test_a_list_may_have_a_column_of_words(tmp_path: Path, form: str) -> None:
    words = pa.array(WORDS).dictionary_encode() if form == "dictionary" else pa.array(WORDS)
    table = pa.table({"word": words, "label": range(5), "uri": [f"{n}.png" for n in range(5)]})
    file = tmp_path / f"list.{'csv' if form == 'csv' else 'parquet'}"
    if form == "csv":
        pyarrow.csv.write_csv(table, file)
    else:
        pq.write_table(table, file)
    manifest = scan(str(file))
    assert [manifest.columns(n).get("word") for n in range(5)] == ["dog", "cat", None, None, "fire truck"]
    assert manifest.extra == ["word", "label"] and manifest.missing("word") == 2
    assert paths(manifest) == [f"{tmp_path}/{n}.png" for n in range(5)]
    again = Manifest.from_parquet(manifest.to_parquet())
    assert again.table == manifest.table and again.columns(4) == {"word": "fire truck", "label": 4}


def test_a_manifest_of_a_folder_has_no_other_columns(tmp_path: Path) -> None:
    paint(tmp_path, "a.png", (1, 2, 3))
    manifest = scan(str(tmp_path))
    assert pq.read_schema(pa.BufferReader(manifest.to_parquet())).names == SCHEMA.names
    again = Manifest.from_parquet(manifest.to_parquet())
    assert (again.columns(0), again.extra, again.missing("word")) == ({}, [], 1)


def test_words_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("uri,word,word\na.png,dog,cat\n")
    with pytest.raises(InputError, match="word"):
        scan(str(tmp_path / "list.csv"))
    pq.write_table(pa.table({"uri": ["a.png"], "word": [{"a": 1}]}), tmp_path / "struct.parquet")
    with pytest.raises(InputError, match="cannot be read"):
        scan(str(tmp_path / "struct.parquet"))


@pytest.mark.parametrize(
    "value",
    [
        "https://host/a.png?sig=SECRET",
        "HTTP://host/SECRET.png",
        "ftp://SECRET/a.png",
        "S3://SECRET/a.png",
        " s3://id:SECRET@bucket/a.png",
        "/SECRET/s3://b/a.png",
        "s3a://SECRET/a.png",
        "memory://SECRET",
        "://SECRET",
        "s3://id:SECRET@bucket/a.png",
        "s3://id:SEC/RET/SECRET@bucket/a.png",
        "gs://SECRET@bucket",
        "file://me:SECRET@host/a.png",
    ],
)
def test_rows_that_may_contain_credentials_are_refused_by_number(tmp_path: Path, value: str) -> None:
    (tmp_path / "list.csv").write_text(f"uri\na.png\n{value}\nb.png\n")
    with pytest.raises(InputError, match=r"row 2 .*s3://bucket/key, gs://") as caught:
        scan(str(tmp_path / "list.csv"))
    assert "SECRET" not in str(caught.value)


@pytest.mark.parametrize("text", ["https://h/?sig=SECRET,b\n1,2\n", "uri\nhttps://h/?sig=SECRET,b\n"])
def test_an_unreadable_list_shows_no_credentials(tmp_path: Path, text: str) -> None:
    (tmp_path / "list.csv").write_text(text)
    with pytest.raises(InputError) as caught:
        scan(str(tmp_path / "list.csv"))
    assert "SECRET" not in "".join(traceback.format_exception(caught.value))
