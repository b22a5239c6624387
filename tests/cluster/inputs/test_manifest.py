from __future__ import annotations

import os
import re
import uuid
from itertools import chain
from pathlib import Path, PurePosixPath

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cluster.inputs.globs import glob_regex
from cluster.inputs.listing import scan
from cluster.inputs.manifest import SCHEMA, InputError, Manifest, Selection
from cluster.inputs.sources import Unreadable, read_image
from cluster.storage.store import open_store
from originality.contract.faults import MachineFault
from tests.support.listed_paths import paths
from tests.support.mean_colour import paint


def test_scan_lists_sorted_and_reads_nothing(pictures: Path) -> None:
    (pictures / "deep" / "c.jpg").chmod(0)
    manifest = scan(f"{pictures}/")
    assert paths(manifest) == ["a.PNG", "b.png", "deep/c.jpg"]
    assert manifest.uri(0) == f"{pictures}/a.PNG"
    assert manifest.size(1) == (pictures / "b.png").stat().st_size
    assert manifest.skipped == 2
    again = Manifest.from_parquet(manifest.to_parquet())
    assert again.table == manifest.table and (again.source, again.skipped) == (str(pictures), 2)


def test_scan_of_one_file(pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(pictures)
    for uri in (str(pictures / "b.png"), "b.png"):
        manifest = scan(uri)
        assert (manifest.uri(0), manifest.path(0), len(manifest)) == (str(pictures / "b.png"), "b.png", 1)


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("*.png", ["b.png"]),
        ("**/*.jpg", ["deep/c.jpg"]),
        ("**", ["a.PNG", "b.png", "deep/c.jpg"]),
        ("[ab].*", ["a.PNG", "b.png"]),
        ("[!b].PNG", ["a.PNG"]),
        ("d??p/*", ["c.jpg"]),
    ],
)
def test_a_glob(pictures: Path, pattern: str, found: list[str]) -> None:
    assert [path.rpartition("/")[2] for path in paths(scan(f"{pictures}/{pattern}"))] == [
        path.rpartition("/")[2] for path in found
    ]


def test_a_glob_without_a_match(pictures: Path) -> None:
    with pytest.raises(InputError, match=r"\*\*"):
        scan(f"{pictures}/*.webp")
    with pytest.raises(InputError, match="name the bucket"):
        scan("s3://*/x.png")
    with pytest.raises(InputError, match="pattern"):
        scan(f"{pictures}/[z-a]*.png")


NAMES = st.text(
    st.characters(codec="utf-8", exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=8
)


@given(st.lists(NAMES, min_size=1, max_size=3))
def test_a_pattern_without_wildcards_matches_itself(names: list[str]) -> None:
    path = "/".join(name.translate(dict.fromkeys(map(ord, "*?["))) for name in names)
    assert re.search(glob_regex(path), path)
    assert not re.search(glob_regex(path), path + "x")


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_a_list_keeps_its_order_and_repetitions(pictures: Path, tmp_path: Path, form: str) -> None:
    given = ["deep/c.jpg", str(pictures / "b.png"), "s3://bucket/x.png", "deep/c.jpg"]
    table = pa.table({"label": ["1", "2", "3", "4"], "uri": given})
    file = pictures / f"list.{form}"
    if form == "csv":
        pyarrow.csv.write_csv(table, file)
    else:
        pq.write_table(table, file)
    manifest = scan(str(file))
    assert paths(manifest) == [f"{pictures}/deep/c.jpg", given[1], given[2], f"{pictures}/deep/c.jpg"]
    assert manifest.size(0) is None


PARTS = st.lists(st.sampled_from(["", ".", "..", "...", ".a", "a.", "a b.png", "ü", "\x01"]), min_size=1)
RELATIVE = PARTS.map("/".join).filter(lambda name: name and not name.startswith("/"))
WITHOUT_BLANKS = NAMES.filter(lambda name: name == name.strip())
GIVEN = (
    RELATIVE | WITHOUT_BLANKS | st.sampled_from(["/a//./b.png", "//a", "s3://b/a//./b.png", "file:///./a"])
)


@example(given=[".", "./", ".//./.", "./..//.a./", "a/."])
@given(given=st.lists(GIVEN, min_size=1))
def test_relative_uris_are_relative_to_the_list(
    tmp_path_factory: pytest.TempPathFactory, given: list[str]
) -> None:
    folder = tmp_path_factory.getbasetemp()
    pq.write_table(pa.table({"uri": given}), folder / "list.parquet")
    absolute = [value.startswith("/") or "://" in value for value in given]
    assert paths(scan(f"{folder}/list.parquet")) == [
        value if whole else f"{folder}/{PurePosixPath(value)}"
        for value, whole in zip(given, absolute, strict=True)
    ]


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_a_long_list_is_read_in_parts_and_rows_keep_their_numbers(tmp_path: Path, form: str) -> None:
    file, rows = tmp_path / f"list.{form}", 150_000
    uris = [f"s3://bucket/{n:06}.png" for n in range(rows)]
    labels = [str(n) for n in range(rows - 1)] + ["no number"]

    def write() -> None:
        table = pa.table({"label": labels, "uri": uris})
        pyarrow.csv.write_csv(table, file) if form == "csv" else pq.write_table(table, file)

    write()
    manifest = scan(str(file))
    assert manifest.table["uri"].num_chunks > 1
    assert manifest.table["uri"].to_pylist() == uris
    uris[140_000] = ""
    write()
    assert scan(str(file)).uri(140_000) == "row 140001 without a uri"
    uris[140_000] = "ftp://x/y"
    write()
    with pytest.raises(InputError, match="row 140001"):
        scan(str(file))


def test_a_list_in_a_bucket(s3: str) -> None:
    folder = f"{s3}/{uuid.uuid4().hex}"
    open_store(folder).write("list.csv", b"uri\n./a//b.png\n/c.png\ns3://b/./d.png\n")
    assert paths(scan(f"{folder}/list.csv")) == [f"{folder}/a/b.png", "/c.png", "s3://b/./d.png"]


def test_urls_of_every_known_kind(tmp_path: Path) -> None:
    given = ["s3://b/a@b:c.png", "gs://b/x/https://y.png", "az://b/a.png", "file:///a@b.png", "/a@b:c.png"]
    (tmp_path / "list.csv").write_text("\n".join(["uri", *given]))
    assert paths(scan(str(tmp_path / "list.csv"))) == given


def test_a_foreign_run_json_hides_nothing(pictures: Path) -> None:
    (pictures / "run.json").write_text("{}")
    assert len(scan(str(pictures))) == 3
    (pictures / "deep" / "run.json").write_text("{}")
    (pictures / "deep" / "manifest.parquet").write_bytes(b"")
    assert paths(scan(str(pictures))) == ["a.PNG", "b.png"]


def test_only_regular_files_are_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    for uri in (str(tmp_path / "pipe.png"), "/dev/zero", str(tmp_path)):
        with pytest.raises(Unreadable, match="regular file"):
            read_image(uri, lambda size: None)


def test_any_name_of_a_file(tmp_path: Path) -> None:
    """Newlines, quotes, control characters, bytes that are not text: all are listed and can be read."""
    names = [b"a\nb.png", b"quote'\".png", "ü 漢.png".encode(), b"\xff\xfe.png", b"tab\t.png", b"%2e.png"]
    (tmp_path / "..png").write_bytes(b"of the system")
    for name in names:
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name)).write_bytes(name)
    manifest = Manifest.from_parquet(scan(str(tmp_path)).to_parquet())
    read = {read_image(manifest.uri(n), lambda size: None) for n in range(len(manifest))}
    assert read == set(names)


def test_circular_links(pictures: Path) -> None:
    (pictures / "deep" / "up").symlink_to(pictures)
    (pictures / "gone.png").symlink_to(pictures / "nowhere")
    assert paths(scan(str(pictures))) == ["a.PNG", "b.png", "deep/c.jpg", "gone.png"]


def test_selections() -> None:
    table = pa.table([[str(i) for i in range(10)], list(range(10))], SCHEMA)
    manifest = Manifest("", table)
    shards = [Selection(shard=(i, 3)).numbers(manifest).tolist() for i in (1, 2, 3)]
    assert sorted(chain.from_iterable(shards)) == list(range(10)) and shards[0] == [0, 3, 6, 9]
    sample = Selection(sample=4, seed=7).numbers(manifest).tolist()
    assert len(set(sample)) == 4
    assert sample == Selection(sample=4, seed=7).numbers(manifest).tolist()
    assert Selection(sample=4, seed=8).numbers(manifest).tolist() != sample
    assert Selection(limit=2, shard=(2, 2)).numbers(manifest).tolist() == [1, 3]
    assert sorted(Selection(sample=99).numbers(manifest).tolist()) == list(range(10))


def test_a_folder_may_be_named_like_an_image(tmp_path: Path) -> None:
    paint(tmp_path / "odd.png", "x.png", (1, 2, 3))
    paint(tmp_path / "odd[1].png", "x.png", (1, 2, 3))
    assert len(scan(str(tmp_path / "odd.png"))) == len(scan(str(tmp_path / "odd[1].png"))) == 1


def test_a_name_comes_before_a_pattern(tmp_path: Path, s3: str) -> None:
    """Locally and in a bucket: folders, prefixes and files with brackets, stars or question marks."""
    prefix = f"{s3}/{uuid.uuid4().hex}"
    names = ["photos [2024]/a.png", "photos [2024]/b[1].png", "what?/c.png", "st*r/d.png", "p2/e.png"]
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
        open_store(prefix).write(name, b"x")
    for root in (str(tmp_path), prefix):
        for requested, wanted in {
            "photos [2024]": names[:2],
            "photos [2024]/": names[:2],
            "photos [2024]/b[1].png": names[1:2],
            "photos [2024]/*.png": names[:2],
            "photos [2024]/[ab]*.png": names[:2],
            "what?": names[2:3],
            "st*r": names[3:4],
            "st*r/?.png": names[3:4],
            "p[0-9]/*.png": names[4:],
            "*/?.png": [name for name in names if "b[" not in name],
        }.items():
            found = scan(f"{root}/{requested}")
            assert sorted(found.table["uri"].to_pylist()) == sorted(f"{root}/{name}" for name in wanted), (
                given
            )
            assert all(read_image(uri, lambda size: None) == b"x" for uri in found.table["uri"].to_pylist())


def test_nothing_to_judge(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none does not exist"):
        scan(str(tmp_path / "none"))
    with pytest.raises(InputError, match=r"none\.png does not exist"):
        scan(str(tmp_path / "none.png"))
    with pytest.raises(InputError, match="no files in"):
        scan(str(tmp_path))
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(InputError, match=r"1 file .*\.jpg"):
        scan(str(tmp_path))


def test_a_damaged_file_is_distinguished_from_a_failing_disk(tmp_path: Path) -> None:
    """By the files beside it. A link to this process's memory stands in for a file that the disk cannot
    read."""
    damaged = tmp_path / "damaged.png"
    damaged.symlink_to("/proc/self/mem")
    with pytest.raises(MachineFault, match="Input/output error"):
        read_image(str(damaged), lambda size: None)
    (tmp_path / "sound.png").write_bytes(b"x")
    with pytest.raises(Unreadable, match="Input/output error"):
        read_image(str(damaged), lambda size: None)


def test_a_file_name_like_a_machine_error_is_not_a_machine_fault(tmp_path: Path) -> None:
    loop = tmp_path / "CUDA error, out of memory.png"
    loop.symlink_to(loop)
    with pytest.raises(Unreadable, match="symbolic links"):
        read_image(str(loop), lambda size: None)
