"""Data sets of the hub: addresses, commits, listings, ranges, and what the hub refuses."""

from __future__ import annotations

import pytest
from huggingface_hub import constants

from cluster.storage.hub_datasets import HubPath, list_files, pinned, size_of
from cluster.storage.store import NotFound, Outage, Refused, StoreError, open_store
from tests.support.hub_datasets import COMMIT, LATER, TOKEN, HubState

ROOT = "hf://datasets/org/pictures"
AT = f"{ROOT}@{COMMIT}"


@pytest.mark.parametrize(
    ("url", "repository", "revision", "path"),
    [
        ("hf://datasets/a/b", "a/b", "main", ""),
        ("hf://datasets/a/b/", "a/b", "main", ""),
        ("hf://datasets/a/b@v1.0/x/y z.png", "a/b", "v1.0", "x/y z.png"),
        ("hf://datasets/a/b@refs/convert/parquet/d/t.parquet", "a/b", "refs/convert/parquet", "d/t.parquet"),
        ("hf://datasets/a/b@refs%2Fpr%2F3/x", "a/b", "refs/pr/3", "x"),
        ("hf://datasets/a/b.c-d/e@f%20g#1.png", "a/b.c-d", "main", "e@f%20g#1.png"),
    ],
)
def test_addresses(url: str, repository: str, revision: str, path: str) -> None:
    place = HubPath.parse(url)
    assert (place.repository, place.revision, place.path) == (repository, revision, path)
    assert HubPath.parse(str(place)) == place


@pytest.mark.parametrize(
    "url", ["hf://", "hf://a/b", "hf://models/a/b", "hf://datasets/a", "hf://datasets/a b/c"]
)
def test_other_addresses_are_refused_with_the_form(url: str) -> None:
    with pytest.raises(StoreError, match="hf://datasets/OWNER/NAME"):
        pinned(url, 0)


def test_a_revision_becomes_its_commit(dataset_hub: HubState) -> None:
    assert pinned(f"{ROOT}/a b/*.png", 0) == f"{AT}/a b/*.png"
    assert pinned(f"{ROOT}@refs/convert/parquet", 0) == AT
    dataset_hub.commit = LATER
    assert pinned(f"{ROOT}@v1.0", 0) == f"{ROOT}@{LATER}"
    dataset_hub.requests.clear()
    assert pinned(AT, 0) == AT and dataset_hub.requests == []


def test_files_are_listed_page_by_page_and_read(dataset_hub: HubState) -> None:
    dataset_hub.files = {f"data/{n:02} \u00e9.png": b"%d" % n * (80 * n + 1) for n in range(10)}
    dataset_hub.files["README.md"] = b"x"
    everything = {name: len(data) for name, data in dataset_hub.files.items()}
    assert dict(list_files(AT, 0)) == everything
    assert dict(list_files(f"{AT}/data", 0)) == {k: v for k, v in everything.items() if k != "README.md"}
    store = open_store(AT)
    for name, data in dataset_hub.files.items():
        assert store.read(name) == data and size_of(f"{AT}/{name}", 0) == len(data)
        assert store.read_range(name, 0, len(data), len(data)) == data
    name = "data/09 \u00e9.png"
    assert store.read_range(name, 7, 5, everything[name]) == b"99999"
    assert any(request.startswith("CDN") for request in dataset_hub.requests)


def test_the_token_goes_to_the_hub_alone(dataset_hub: HubState, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset_hub.is_private = True
    dataset_hub.files = {"a.png": b"x" * 500}
    with pytest.raises(NotFound, match="HF_TOKEN"):
        pinned(ROOT, 0)
    with pytest.raises(Refused, match="HF_TOKEN"):
        open_store(AT).read("a.png")
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert pinned(ROOT, 0) == AT and dict(list_files(AT, 0)) == {"a.png": 500}
    assert open_store(AT).read_range("a.png", 0, 10, 500) == b"x" * 10
    assert dataset_hub.leaked == []


@pytest.mark.parametrize(
    ("url", "kind", "token"),
    [
        ("hf://datasets/org/unknown", NotFound, "no data set org/unknown"),
        ("hf://datasets/org/gated", Refused, "accept its terms"),
        (f"{ROOT}@v9", NotFound, "no revision 'v9'"),
    ],
)
def test_what_the_hub_refuses(dataset_hub: HubState, url: str, kind: type[StoreError], token: str) -> None:
    with pytest.raises(kind) as caught:
        pinned(url, 0)
    assert token in str(caught.value) and "\n" not in str(caught.value)


def test_what_does_not_exist(dataset_hub: HubState) -> None:
    dataset_hub.files = {"a/b.png": b"x"}
    with pytest.raises(NotFound):
        list(list_files(f"{AT}/c", 0))
    for path in ("c.png", "a"):
        with pytest.raises(NotFound):
            size_of(f"{AT}/{path}", 0)
    with pytest.raises(NotFound):
        open_store(AT).read("c.png")


def test_an_outage_is_waited_for(dataset_hub: HubState, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset_hub.files = {f"{n}.png": b"x" for n in range(8)}
    dataset_hub.fails = [500, 503]
    assert pinned(ROOT, 60) == AT
    dataset_hub.fails = [502]
    assert len(list(list_files(AT, 60))) == 8
    dataset_hub.fails = [503, 500]
    assert open_store(AT, patience=60).read("1.png") == b"x"
    dataset_hub.fails = [500] * 100
    with pytest.raises(Outage, match="HF_ENDPOINT"):
        pinned(ROOT, 0)


def test_a_host_that_does_not_exist_is_told_with_the_hubs_variable(
    dataset_hub: HubState, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "http://no-such-hub.invalid")
    for ask in (lambda: pinned(ROOT, 0), lambda: open_store(AT, patience=0).read("a.png")):
        with pytest.raises(Outage, match="HF_ENDPOINT") as caught:
            ask()
        assert "AWS" not in str(caught.value)


def test_nothing_is_written_to_the_hub(dataset_hub: HubState) -> None:
    with pytest.raises(StoreError, match="--out"):
        open_store(f"{AT}/runs").check_create()
