"""Lists as other programs write them: read as intended, or refused in one line with the fix."""

from __future__ import annotations

import csv
import io
import os
import re
import uuid
from datetime import UTC, date, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cluster.inputs.list_files import open_list
from cluster.inputs.listing import scan
from cluster.inputs.manifest import InputError, Manifest
from cluster.inputs.sources import Unreadable, read_image
from cluster.storage.store import open_store
from tests.support.image_bytes import noise, saved
from tests.support.mean_colour import paint


def uris(manifest: Manifest) -> list[str]:
    return [manifest.uri(number) for number in range(len(manifest))]


def words(manifest: Manifest) -> list[str | None]:
    return [manifest.columns(number).get("word") for number in range(len(manifest))]


def refused(uri: str | Path) -> str:
    with pytest.raises(InputError) as caught:
        scan(str(uri))
    assert "\n" not in str(caught.value)
    return str(caught.value)


CELLS = st.text(
    st.characters(codec="utf-8", exclude_characters="\ufeff") | st.sampled_from('",;\t\n\r'), max_size=12
)
NAMES = st.sampled_from(["label", "a, b", 'say "x"', "two\nlines", "größe", ""])


@given(
    rows=st.lists(st.tuples(CELLS, CELLS, CELLS), max_size=8),
    other=NAMES,
    uri=st.sampled_from(["uri", "URI", " Uri ", "url", "Path"]),
    delimiter=st.sampled_from(",;\t"),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    end=st.sampled_from(["\n", "\r\n"]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
)
@example([("a\nb", 'x"y', "")] * 3, "label", "uri", ";", csv.QUOTE_MINIMAL, "\n", "utf-16")
def test_csv_of_any_writer_is_read(
    rows: list[tuple[str, str, str]],
    other: str,
    uri: str,
    delimiter: str,
    quoting: int,
    end: str,
    encoding: str,
) -> None:
    if "\r" in "".join(cell for row in rows for cell in row):  # which Python's own writer leaves unquoted
        quoting = csv.QUOTE_ALL
    file = io.StringIO(newline="")
    writer = csv.writer(file, delimiter=delimiter, quoting=quoting, lineterminator=end)
    writer.writerows([(uri, other, "Word"), *rows])
    opened = open_list("list.csv", "list.csv", file.getvalue().encode(encoding))
    columns = [opened.column(name) for name in (uri.strip(), "word")]
    found = [tuple(row) for part in opened.batches([c for c in columns if c is not None]) for row in zip(
        *(column.to_pylist() for column in part), strict=True)]  # fmt: skip
    assert found == [(first, last) for first, _, last in rows]


@given(st.binary(max_size=200) | st.text(max_size=60).map(str.encode))
@example(b'uri\n"a\nb.png\nc.png\n')
@example(b"\xff\xfe\x00")
@example(b"uri\na\0b.png\n")
@example(b"\xef\xbb\xbf\n\n")
def test_any_bytes_are_read_or_refused(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    file = tmp_path_factory.getbasetemp() / "any.csv"
    file.write_bytes(data)
    try:
        assert len(scan(str(file))) >= 1
    except InputError as error:
        assert "\n" not in str(error)


def test_cells_and_quoted_lines_of_any_length(tmp_path: Path) -> None:
    """Longer than the megabyte in which Arrow reads a CSV."""
    rows = [("a.png", "x" * 3_000_000), ("b.png", "line\n" * 600_000), ("c.png", 'quote " and\r\n' * 200_000)]
    with (tmp_path / "list.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("uri", "caption"), *rows])
    assert uris(scan(f"{tmp_path}/list.csv")) == [f"{tmp_path}/{name}" for name, _ in rows]


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_column_names_ignore_case_and_spaces(tmp_path: Path, form: str) -> None:
    for number, (uri, word) in enumerate([("URI", "Word"), (" uri ", "WORD "), ("Image", " word")]):
        file = tmp_path / f"{number}.{form}"
        if form == "csv":
            file.write_bytes(f"\ufeff{uri},{word}\nx.png,dog\ny.png, cat \n".encode())
        else:
            pq.write_table(pa.table({uri: ["x.png", "y.png"], word: ["dog", " cat "]}), file)
        assert (uris(scan(str(file))), words(scan(str(file)))) == (
            [f"{tmp_path}/x.png", f"{tmp_path}/y.png"], ["dog", "cat"],
        )  # fmt: skip
    for names in (("uri", "URI"), (" url", "url"), ("uri", "word", "Word")):
        file = tmp_path / f"twice.{form}"
        if form == "csv":
            file.write_text(",".join(names) + "\n" + ",".join("abc"[: len(names)]) + "\n")
        else:
            pq.write_table(pa.table({name: ["a"] for name in names}), file)
        assert re.search("once; it has|columns named word", refused(file))


def test_commas_followed_by_spaces(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text('word, uri, note\ndog, a.png, "x, y"\ncat, b.png, z\n')
    manifest = scan(f"{tmp_path}/list.csv")
    assert (uris(manifest), words(manifest)) == ([f"{tmp_path}/a.png", f"{tmp_path}/b.png"], ["dog", "cat"])


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_rows_without_a_uri_are_inputs_that_fail(tmp_path: Path, form: str) -> None:
    paint(tmp_path, "a.png", (1, 2, 3))
    if form == "csv":
        (tmp_path / "list.csv").write_text("uri,label\na.png,1\n,2\n\n\na.png,3\n,4\n")
    else:
        pq.write_table(pa.table({"uri": ["a.png", None, "a.png", ""]}), tmp_path / "list.parquet")
    manifest = scan(f"{tmp_path}/list.{form}")
    assert uris(manifest)[1::2] == ["row 2 without a uri", "row 4 without a uri"]
    assert read_image(manifest.uri(0), lambda _: None)
    with pytest.raises(Unreadable, match="row 4 without a uri") as caught:
        read_image(manifest.uri(3), lambda _: None)
    assert caught.value.reason_code == "missing"


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_a_uri_of_spaces_counts_as_missing(tmp_path: Path, form: str) -> None:
    """Such a row keeps its place and fails like an empty one; a list with only such rows is refused."""
    blanks = [" ", "\t ", "\N{NO-BREAK SPACE}", "\N{IDEOGRAPHIC SPACE}"]
    file = tmp_path / f"list.{form}"

    def write(cells: list[str]) -> None:
        if form == "csv":
            with file.open("w", newline="", encoding="utf-8") as out:
                csv.writer(out).writerows([("uri", "label"), *((cell, "1") for cell in cells)])
        else:
            pq.write_table(pa.table({"uri": cells}), file)

    write(["a.png", *blanks, "b.png"])
    manifest = scan(str(file))
    without = [f"row {row} without a uri" for row in range(2, 6)]
    assert uris(manifest) == [f"{tmp_path}/a.png", *without, f"{tmp_path}/b.png"]
    with pytest.raises(Unreadable, match="row 3 without a uri") as caught:
        read_image(manifest.uri(2), lambda _: None)
    assert caught.value.reason_code == "missing"
    write(blanks)
    assert refused(file).endswith("its 4 rows")


def parts(folder: Path) -> None:
    """Parts as Spark writes them, some with words and some without."""
    for number, values in enumerate((["a.png", None], ["/b.png"], ["s3://bucket/c.png"])):
        inside = folder / f"year={number}"
        inside.mkdir(parents=True)
        table = pa.table({"uri": values} | ({"word": ["dog"] * len(values)} if number else {}))
        pq.write_table(table, inside / f"part-{number:05}.snappy.parquet")
    for name in ("_SUCCESS", "_temporary/part-9.parquet", ".part-0.parquet.crc", ".hidden/part-9.parquet"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"no Parquet")


def test_a_folder_of_parquet_parts(tmp_path: Path, s3: str) -> None:
    parts(tmp_path / "list.parquet")
    prefix = f"{s3}/{uuid.uuid4().hex}/list.parquet"
    for file in (tmp_path / "list.parquet").rglob("*.*"):
        if file.is_file():
            path = str(file.relative_to(tmp_path / "list.parquet"))
            open_store(prefix).write(path, file.read_bytes())
    for place in (
        str(tmp_path / "list.parquet"),
        prefix,
        f"{prefix}/",
        f"{tmp_path}/list.parquet/**/*.parquet",
    ):
        manifest = scan(place)
        above = place.partition("/list.parquet")[0]
        assert uris(manifest) == [
            f"{above}/a.png",
            "part-00000.snappy.parquet, row 2 without a uri",
            "/b.png",
            "s3://bucket/c.png",
        ]
        assert words(manifest) == [None, None, "dog", "dog"] and manifest.source == ""
    with pytest.raises(Unreadable, match="without a uri"):
        read_image(manifest.uri(1), lambda _: None)
    (tmp_path / "list.parquet" / "year=1" / "part-7.parquet").write_bytes(b"PAR1 damaged PAR1")
    assert "list.parquet/year=1/part-7.parquet cannot be read" in refused(tmp_path / "list.parquet")
    (tmp_path / "list.parquet" / "_delta_log").mkdir()
    (tmp_path / "list.parquet" / "_delta_log" / "0.json").write_text("{}")
    assert "Delta table; export it" in refused(tmp_path / "list.parquet")


def test_images_come_before_the_parquet_files_beside_them(tmp_path: Path) -> None:
    parts(tmp_path)
    paint(tmp_path, "a.png", (1, 2, 3))
    manifest = scan(str(tmp_path))
    assert uris(manifest) == [f"{tmp_path}/a.png"] and manifest.skipped_kinds[".parquet"] == 4


@pytest.mark.parametrize(
    "ending", [".txt", ".tab", ".json", ".xlsx", ".csv.xz", ".parquet.gz", ".pq", ".zip", ".XLSX"]
)
def test_other_kinds_of_lists_are_refused_with_a_fix(tmp_path: Path, s3: str, ending: str) -> None:
    (tmp_path / f"list{ending}").write_text("a.png\n")
    folder = f"{s3}/{uuid.uuid4().hex}"
    open_store(folder).write(f"list{ending}", b"a.png\n")
    for place in (tmp_path / f"list{ending}", f"{folder}/list{ending}"):
        output = refused(place)
        assert re.search(r"cannot be read .* \.csv, .* \.parquet file, .*uri: [a-z]", output)
    (tmp_path / f"folder{ending}").mkdir()
    paint(tmp_path / f"folder{ending}", "a.png", (1, 2, 3))
    assert len(scan(f"{tmp_path}/folder{ending}")) == 1


def test_a_folder_named_like_a_list(tmp_path: Path) -> None:
    paint(tmp_path / "x.csv", "a.png", (1, 2, 3))
    assert len(scan(f"{tmp_path}/x.csv")) == 1
    (tmp_path / "y.csv").mkdir()
    (tmp_path / "y.csv" / "part-0.csv").write_text("uri\na.png\n")
    assert "no image" in (output := refused(tmp_path / "y.csv")) and "1 .csv" in output


def test_a_column_of_uris_comes_before_images(tmp_path: Path) -> None:
    image = pa.array([{"bytes": saved(noise(), "PNG"), "path": "a.png"}])
    pq.write_table(pa.table({"image": image, "uri": ["a.png"]}), tmp_path / "both.parquet")
    assert uris(scan(f"{tmp_path}/both.parquet")) == [f"{tmp_path}/a.png"]


def test_bytes_of_one_length_are_no_images(tmp_path: Path) -> None:
    pq.write_table(pa.table({"image": pa.array([b"\x89PNG\r"], pa.binary(5))}), tmp_path / "list.parquet")
    output = refused(tmp_path / "list.parquet")
    assert "(column 'image')" in output and "type binary" in output


@pytest.mark.parametrize(
    ("data", "output"),
    [
        (b"uri\nb.png\n\xe9t\xe9.png\n", "line 3 "),
        ("uri\na.png\n".encode("utf-16-le"), "save it as CSV (UTF-8)"),
        (b"", "empty"),
        (b"\xef\xbb\xbf \n\n", "empty"),
        (b"uri,word\n", "lists no images"),
        (b'uri\n"a.png\nb.png\n', "CSV parse error: row 1: unexpected end of data"),
        (b"uri;word\na.png\n", "CSV parse error: row 1: Expected 2 columns, got 1"),
        (b"PAR1\0\0\0\0PAR1", "name it .parquet"),
        ("uri\na.png\n".encode("utf-32"), "UTF-32"),
        (b"\0\0\xfe\xff" + "uri\na.png\n".encode("utf-32-be"), "UTF-32"),
    ],
)
def test_csv_files_that_are_refused(tmp_path: Path, data: bytes, output: str) -> None:
    (tmp_path / "list.csv").write_bytes(data)
    assert output in refused(tmp_path / "list.csv")


def test_parquet_files_that_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "list.parquet"
    pq.write_table(pa.table({"uri": [f"{n}.png" for n in range(50_000)]}), file, compression="zstd")
    whole = file.read_bytes()
    middle = len(whole) // 3
    for data in (b"", b"uri\na.png\n", whole[:-100], whole[:middle] + bytes(4000) + whole[middle + 4000 :]):
        file.write_bytes(data)
        assert "cannot be read" in refused(file)
    pq.write_table(pa.table({"uri": pa.array([], pa.string())}), file)
    assert "lists no images" in refused(file)


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_a_git_lfs_pointer_in_place_of_a_list(tmp_path: Path, form: str) -> None:
    file = tmp_path / f"list.{form}"
    file.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 492265168\n")
    assert "git lfs pull" in refused(file)


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_spaces_around_a_uri_are_dropped(tmp_path: Path, form: str) -> None:
    given = [" a.png ", "\ts3://b/c d.png", "/x/y.png\N{NO-BREAK SPACE}", "file:///e%20"]
    file = tmp_path / f"list.{form}"
    if form == "csv":
        file.write_text("uri\n" + "\n".join(given) + "\n", encoding="utf-8")
    else:
        pq.write_table(pa.table({"uri": given}), file)
    assert uris(scan(str(file))) == [f"{tmp_path}/a.png", "s3://b/c d.png", "/x/y.png", "file:///e%20"]


TEXTS = [
    pa.string(),
    pa.large_string(),
    pa.binary(),
    pa.large_binary(),
    pa.binary(5),
    pa.dictionary(pa.int32(), pa.string()),
]


@pytest.mark.parametrize("kind", TEXTS, ids=str)
def test_parquet_text_of_any_type(tmp_path: Path, kind: pa.DataType) -> None:
    values = pa.array(["a.png", "b.png", None]).cast(pa.binary() if "binary" in str(kind) else pa.string())
    pq.write_table(pa.table({"uri": values.cast(kind)}), tmp_path / "list.parquet")
    assert uris(scan(f"{tmp_path}/list.parquet"))[:2] == [f"{tmp_path}/a.png", f"{tmp_path}/b.png"]


@pytest.mark.parametrize(
    "values",
    [[1, 2], [0.5, None], [True, False], [datetime(2030, 1, 1, tzinfo=UTC)], [["a.png"]], [date(2030, 1, 1)]],
    ids=str,
)
@pytest.mark.parametrize("name", ["uri", "word"])
def test_a_parquet_column_that_is_not_text_is_named_with_its_type(
    tmp_path: Path, name: str, values: list[object]
) -> None:
    columns = {"uri": pa.array(["a.png"] * len(values)), name: pa.array(values)}
    pq.write_table(pa.table(columns), tmp_path / "list.parquet")
    output = refused(tmp_path / "list.parquet")
    assert f"column '{name}' " in output and str(pa.array(values).type)[:4] in output


def test_a_column_without_values_may_have_any_type(tmp_path: Path) -> None:
    """As pandas writes a column of words that are all missing."""
    columns = {"uri": pa.array(["a.png"]), "word": pa.array([None], pa.float64())}
    pq.write_table(pa.table(columns), tmp_path / "list.parquet")
    assert words(scan(f"{tmp_path}/list.parquet")) == [None]


@pytest.mark.parametrize("name", ["x.csv", "x.parquet", "x.png", "x.txt", "x"])
def test_a_pipe_is_refused_without_blocking(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)
    assert "pipe, socket or device" in refused(tmp_path / name)
