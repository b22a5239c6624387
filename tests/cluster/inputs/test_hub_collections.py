"""Data sets of the hub as inputs: every kind of file, at the commit of the plan."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster.inputs.listing import scan
from cluster.inputs.locations import Member
from cluster.inputs.manifest import InputError
from cluster.inputs.source_check import why_gone
from cluster.inputs.sources import Unreadable, exists, read_image, size_of
from cluster.run.folder import plan
from cluster.storage.store import PATIENCE, Outage, StoreError, open_store
from tests.support.hub_datasets import COMMIT, LATER, HubState
from tests.support.image_tables import arrow, hugging_face, parquet
from tests.support.listed_paths import data_of, paths
from tests.support.tars import shard

ROOT = "hf://datasets/org/pictures"
AT = f"{ROOT}@{COMMIT}"


@pytest.fixture
def filled(dataset_hub: HubState, monkeypatch: pytest.MonkeyPatch) -> HubState:
    """The data set, with files of every kind."""
    monkeypatch.setenv(PATIENCE, "0")
    images = hugging_face([b"p0" * 200, b"p1" * 200], n=[7, 8])
    dataset_hub.files = {
        "README.md": b"---",
        "loose/a b.png": b"a" * 500,
        "loose/c.png": b"c",
        "data/train-00000-of-00002.parquet": parquet(images),
        "data/train-00001-of-00002.parquet": parquet(hugging_face([b"p2"], n=[9])),
        "tars/0.tar": shard({"x.png": b"x", "x.txt": b"text"}),
        "saved/data-00000-of-00001.arrow": arrow(hugging_face([b"s" * 300])),
        "saved/state.json": b'{"_data_files": [{"filename": "data-00000-of-00001.arrow"}]}',
        "lists/list.csv": b"uri,n\n../x.png,1\n/loose/none.png,2\n",
    }
    return dataset_hub


@pytest.mark.parametrize(
    ("path", "found", "data"),
    [
        ("/loose", ["a b.png", "c.png"], [b"a" * 500, b"c"]),
        ("", ["loose/a b.png", "loose/c.png"], [b"a" * 500, b"c"]),
        ("@v1.0/loose/*.png", ["a b.png", "c.png"], [b"a" * 500, b"c"]),
        ("/loose/c.png", ["c.png"], [b"c"]),
        ("/data", [f"train-0000{k}-of-00002.parquet#{n}" for k, n in ((0, 0), (0, 1), (1, 0))], None),
        ("/data/train-00001-of-00002.parquet", ["train-00001-of-00002.parquet#0"], [b"p2"]),
        ("/data/train-{00001..00001}-of-00002.parquet", ["train-00001-of-00002.parquet#0"], [b"p2"]),
        ("/tars/0.tar", ["0.tar#x.png"], [b"x"]),
        ("/saved", ["data-00000-of-00001.arrow#0"], [b"s" * 300]),
    ],
)
def test_each_kind_of_collection(
    filled: HubState, path: str, found: list[str], data: list[bytes] | None
) -> None:
    manifest = scan(f"{ROOT}{path}")
    assert manifest.source.startswith(AT) and paths(manifest) == found
    assert data_of(manifest) == (data or [b"p0" * 200, b"p1" * 200, b"p2"])


def test_columns_travel(filled: HubState) -> None:
    assert [scan(f"{ROOT}/data").columns(n)["n"] for n in range(3)] == [7, 8, 9]
    assert scan(f"{ROOT}/tars/0.tar").columns(0) == {"txt": "text"}


def test_a_list_in_a_dataset(filled: HubState) -> None:
    filled.files["lists/list.csv"] = b"uri,n\nx.png,1\n"
    filled.files["lists/x.png"] = b"x"
    manifest = scan(f"{ROOT}/lists/list.csv")
    assert manifest.uri(0) == f"{AT}/lists/x.png" and data_of(manifest) == [b"x"]


def test_a_plan_keeps_its_commit(filled: HubState, tmp_path: Path) -> None:
    run = plan(f"{ROOT}/loose", open_store(str(tmp_path)), {})
    filled.commit = LATER
    again = plan(f"{ROOT}/loose", open_store(str(tmp_path)), {})
    assert again.manifest.source == run.manifest.source == f"{AT}/loose"
    assert scan(f"{ROOT}/loose").source == f"{ROOT}@{LATER}/loose"


def test_few_requests_an_image(filled: HubState) -> None:
    images = [bytes([n]) * 2000 for n in range(60)]
    filled.files = {"a.arrow": arrow(hugging_face(images), 20), "b.parquet": parquet(hugging_face(images))}
    for name, most in (("a.arrow", 60), ("b.parquet", 3)):
        manifest = scan(f"{ROOT}/{name}")
        filled.requests.clear()
        assert data_of(manifest) == images
        assert sum(request.startswith("GET") for request in filled.requests) <= most


def test_what_is_missing_or_changed(filled: HubState) -> None:
    assert exists(AT) and exists(f"{AT}/loose") and exists(f"{AT}/loose/c.png") and not exists(f"{AT}/none")
    assert size_of(f"{AT}/loose/c.png") == 1 and size_of(f"{AT}/loose") is None
    assert why_gone(f"{AT}/loose") == "" and why_gone(f"{AT}/none") == "does not exist"
    with pytest.raises(Unreadable) as caught:
        read_image(f"{AT}/none.png", lambda size: None)
    assert caught.value.reason_code == "missing"
    location = scan(f"{ROOT}/tars/0.tar").location(0)
    assert isinstance(location, Member)
    filled.files["tars/0.tar"] += b"more"
    with pytest.raises(Unreadable, match="changed"):
        read_image("x", lambda size: None, location)


@pytest.mark.parametrize(
    "given", [f"{ROOT}/none", f"{ROOT}/none/*.png", f"{ROOT}/x.png", f"{ROOT}@v9", "hf://datasets/org/no"]
)
def test_collections_that_do_not_exist(filled: HubState, given: str) -> None:
    with pytest.raises(InputError) as caught:
        scan(given)
    assert "\n" not in str(caught.value)


def test_a_hub_that_is_out_or_not_to_be_asked(filled: HubState, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PATIENCE, "0")
    filled.fails = [503] * 50
    with pytest.raises(Outage):
        scan(ROOT)
    with pytest.raises(StoreError, match="OWNER/NAME"):
        scan("hf://org/pictures")
