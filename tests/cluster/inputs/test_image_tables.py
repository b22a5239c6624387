"""Parquet files whose rows hold images: which are found, in which order, with which columns and bytes."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from cluster.inputs import image_tables
from cluster.inputs.kept_listings import KeptListings
from cluster.inputs.listing import scan
from cluster.inputs.locations import Broken, Cell, Container, Member
from cluster.inputs.manifest import InputError, Manifest
from cluster.inputs.parquet_files import list_parquet
from cluster.inputs.sources import Unreadable, read_image
from cluster.inputs.table_options import TableOptions
from cluster.run.folder import plan
from cluster.run.layout import SHARD_LISTINGS
from cluster.storage.store import Outage, Store, open_store
from tests.support.image_tables import arrow, hugging_face, parquet, save_to_disk
from tests.support.listed_paths import data_of, paths


@pytest.fixture(params=["local", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A folder or prefix with three files of images."""
    root = str(tmp_path / "in")
    if request.param == "s3":
        root = f"{request.getfixturevalue('s3')}/{uuid.uuid4().hex}"
    store = open_store(root)
    store.write(
        "train-00.parquet", parquet(hugging_face([b"00", b"01", b"02"], label=[7, 8, None]), row_group_size=2)
    )
    store.write("train-01.parquet", parquet(hugging_face([b"10"], label=[9], artist=["x"])))
    store.write("more/test.parquet", parquet(hugging_face([b"t"], label=[1.5])))
    store.write("README.md", b"x")
    return root


FIRST = ["train-00.parquet#0", "train-00.parquet#1", "train-00.parquet#2"]


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("", ["more/test.parquet#0", *FIRST, "train-01.parquet#0"]),
        ("/train-00.parquet", FIRST),
        ("/*.parquet", [*FIRST, "train-01.parquet#0"]),
        ("/train-{01..00}.parquet", ["train-01.parquet#0", *FIRST]),
        ("/{train-01,m*/t*}.parquet", ["train-01.parquet#0", "more/test.parquet#0"]),
    ],
)
def test_files_are_found_and_read(place: str, pattern: str, found: list[str]) -> None:
    manifest = scan(f"{place}{pattern}")
    assert (manifest.source, paths(manifest)) == (place, found)
    bytes_of = {"more/test.parquet#0": b"t", "train-01.parquet#0": b"10"}
    assert data_of(manifest) == [bytes_of.get(path, b"0" + path[-1:].encode()) for path in found]
    again = Manifest.from_parquet(manifest.to_parquet())
    assert again.table == manifest.table and again.location(0) == manifest.location(0)


def test_columns_travel_typed(place: str) -> None:
    manifest = scan(place)
    assert manifest.extra == ["label", "image_path", "artist"]
    assert [manifest.columns(n) for n in (0, 3, 4)] == [
        {"image_path": "0.png", "label": 1.5},
        {"image_path": "2.png"},
        {"image_path": "0.png", "label": 9.0, "artist": "x"},
    ]
    assert manifest.skipped_text == "skipped 1 file: 1 .md"
    location = manifest.location(3)
    assert isinstance(location, Cell) and (location.row, location.column) == (2, "image")


def test_wanted_columns(place: str) -> None:
    assert scan(f"{place}/*.parquet", TableOptions(["Label"])).extra == ["label"]
    assert scan(f"{place}/*.parquet", TableOptions([])).extra == []
    with pytest.raises(InputError, match="no column 'year'"):
        scan(f"{place}/*.parquet", TableOptions(["year"]))


def test_plain_bytes_and_names_with_dots(tmp_path: Path) -> None:
    table = pa.table({"my.jpg": [b"a", b"b"], "word": [" dog ", ""], "uri_": ["x", "y"], "row": [1, 2]})
    (tmp_path / "a.parquet").write_bytes(parquet(table))
    manifest = scan(str(tmp_path / "a.parquet"))
    assert data_of(manifest) == [b"a", b"b"]
    assert manifest.columns(0) == {"word": "dog", "uri_": "x", "row": 1}
    assert manifest.columns(1) == {"uri_": "y", "row": 2}


def test_the_column_that_the_user_names(tmp_path: Path) -> None:
    table = pa.table({"left": [b"l"], "right": [b"r"], "uri": ["a.png"]})
    (tmp_path / "a.parquet").write_bytes(parquet(table))
    assert scan(str(tmp_path / "a.parquet")).uri(0) == f"{tmp_path}/a.png"
    manifest = scan(str(tmp_path / "a.parquet"), TableOptions(image_column="right"))
    assert data_of(manifest) == [b"r"] and manifest.columns(0) == {"list_uri": "a.png"}
    (tmp_path / "list.csv").write_text("uri\na.png\n")
    with pytest.raises(InputError, match="--image-column right: "):
        scan(str(tmp_path / "list.csv"), TableOptions(image_column="right"))


def test_broken_and_missing_files_are_rows(place: str) -> None:
    store = open_store(place)
    store.write("train-01.parquet", b"PAR1 nothing of the kind PAR1")
    store.write("train-02.parquet", parquet(pa.table({"other": [b"x"]})))
    manifest = scan(f"{place}/train-{{00..03}}.parquet")
    assert paths(manifest) == [*FIRST, "train-01.parquet", "train-02.parquet", "train-03.parquet"]
    assert isinstance(manifest.location(3), Broken)
    codes = []
    for number in range(3, 6):
        with pytest.raises(Unreadable) as unreadable:
            read_image(manifest.uri(number), lambda size: None, manifest.location(number))
        assert manifest.uri(number) in unreadable.value.message
        codes.append(unreadable.value.reason_code)
    assert codes == ["unreadable", "unreadable", "missing"]


@pytest.mark.parametrize(
    ("data", "refusal"),
    [
        (parquet(hugging_face([])), "has no rows"),
        (
            parquet(pa.table({"a": [b"x"], "b": [b"x"]})),
            "a, b; name one by --image-column",
        ),
        (parquet(pa.table({"images": [[b"x"]]})), "'images' holds several images a row"),
    ],
)
def test_nothing_to_judge(tmp_path: Path, data: bytes, refusal: str) -> None:
    (tmp_path / "a.parquet").write_bytes(data)
    with pytest.raises(InputError, match=refusal) as caught:
        scan(str(tmp_path))
    assert "\n" not in str(caught.value)


class Listing:
    """Lists files; fails at some."""

    def __init__(self, fails: Callable[[str], bool] = lambda uri: False) -> None:
        self.listed: list[str] = []
        self._fails = fails

    def __call__(self, container: Container, **how: object) -> object:
        name = container.uri.rpartition("/")[2]
        if self._fails(name):
            raise Outage("the store is out")
        self.listed.append(name)
        return list_parquet(container, **how)  # type: ignore[arg-type]


def _kept(store: Store) -> list[str]:
    return [found.path for found in store.list(SHARD_LISTINGS)]


def test_a_plan_that_was_interrupted_resumes_with_the_files_that_are_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "in").mkdir()
    for number in range(20):
        (tmp_path / "in" / f"{number:02}.parquet").write_bytes(parquet(hugging_face([b"%d" % number])))
    store = open_store(str(tmp_path / "run"))
    first = Listing(lambda name: name == "19.parquet")
    monkeypatch.setattr(image_tables, "list_parquet", first)
    with pytest.raises(Outage):
        plan(str(tmp_path / "in"), store, {})
    assert len(_kept(store)) == len(first.listed) == 19
    second = Listing()
    monkeypatch.setattr(image_tables, "list_parquet", second)
    run = plan(str(tmp_path / "in"), store, {})
    assert second.listed == ["19.parquet"] and len(run.manifest) == 20
    assert _kept(store) == []


def test_listings_by_other_columns_are_not_taken(tmp_path: Path) -> None:
    for number in range(2):
        (tmp_path / f"{number}.parquet").write_bytes(
            parquet(pa.table({"a": [b"a"], "b": [b"b"], "n": [number]}))
        )
    kept = KeptListings(open_store(str(tmp_path / "run")))
    for options in (TableOptions(None, "a"), TableOptions([], "a"), TableOptions(None, "b")):
        manifest = scan(f"{tmp_path}/*.parquet", options, kept)
        assert manifest.extra == (["n"] if options.columns is None else [])
        assert data_of(manifest) == [(options.image_column or "").encode()] * 2


@pytest.fixture(params=["local", "s3"])
def saved_dataset(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A folder or prefix with the splits of a data set, as Hugging Face's library saves it."""
    root = str(tmp_path / "in")
    if request.param == "s3":
        root = f"{request.getfixturevalue('s3')}/{uuid.uuid4().hex}"
    store = open_store(root)
    save_to_disk(store, "train", [hugging_face([b"a", b"b"], n=[1, 2]), hugging_face([b"c", None], n=[3, 4])])
    save_to_disk(store, "test", [hugging_face([b"d"], n=[5])])
    store.write("dataset_dict.json", b'{"splits": ["train", "test"]}')
    store.write("train/cache-0123.arrow", arrow(hugging_face([b"of a filter"])))
    return root


SPLITS = [
    "test/data-00000-of-00001.arrow#0",
    *(f"train/data-{k:05}-of-00002.arrow#{n}" for k in range(2) for n in range(2)),
]


def test_a_saved_dataset(saved_dataset: str) -> None:
    manifest = scan(saved_dataset)
    assert (manifest.source, paths(manifest)) == (saved_dataset, SPLITS)
    assert [manifest.columns(n).get("n") for n in range(5)] == [5, 1, 2, 3, 4]
    assert isinstance(manifest.location(4), Broken) and isinstance(manifest.location(3), Member)
    read = [read_image(manifest.uri(n), lambda size: None, manifest.location(n)) for n in range(4)]
    assert read == [b"d", b"a", b"b", b"c"]
    again = Manifest.from_parquet(manifest.to_parquet())
    assert again.table == manifest.table and again.location(0) == manifest.location(0)


def test_one_split_and_its_files(saved_dataset: str) -> None:
    assert len(scan(f"{saved_dataset}/train")) == 4
    assert len(scan(f"{saved_dataset}/test/data-00000-of-00001.arrow")) == 1
    assert len(scan(f"{saved_dataset}/train/data-{{00000..00001}}-of-00002.arrow")) == 4
    assert len(scan(f"{saved_dataset}/*/data-*.arrow")) == 5
    assert scan(saved_dataset, TableOptions([])).extra == []


def test_a_file_that_a_saved_dataset_lacks_is_a_row(saved_dataset: str) -> None:
    open_store(saved_dataset).delete("train/data-00000-of-00002.arrow")
    open_store(saved_dataset).write("test/state.json", b"{")
    manifest = scan(saved_dataset)
    assert paths(manifest) == [SPLITS[0], "train/data-00000-of-00002.arrow", *SPLITS[3:]]
    with pytest.raises(Unreadable) as caught:
        read_image(manifest.uri(1), lambda size: None, manifest.location(1))
    assert caught.value.reason_code == "missing"


def test_an_arrow_file_that_changed_is_unreadable(tmp_path: Path) -> None:
    (tmp_path / "a.arrow").write_bytes(arrow(hugging_face([b"a", b"b"])))
    manifest = scan(str(tmp_path))
    (tmp_path / "a.arrow").write_bytes(arrow(hugging_face([b"a", b"b", b"c"])))
    with pytest.raises(Unreadable, match="has changed since it was listed"):
        read_image(manifest.uri(0), lambda size: None, manifest.location(0))


@pytest.mark.parametrize(
    ("data", "refusal"),
    [
        (b"x" * 100, "is not an Arrow file"),
        (arrow(pa.table({"uri": ["a.png"]})), "CSV or Parquet"),
        (arrow(hugging_face([])), "has no rows"),
    ],
)
def test_arrow_without_images(tmp_path: Path, data: bytes, refusal: str) -> None:
    (tmp_path / "a.arrow").write_bytes(data)
    for given in (tmp_path, tmp_path / "a.arrow"):
        with pytest.raises(InputError, match=refusal):
            scan(str(given))
