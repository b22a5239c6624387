"""Collections that grow, move or are given together: inputs keep their numbers, none is lost or doubled."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.inputs.changes import with_added_inputs, with_moved_inputs
from cluster.inputs.combined import combined, common_folder
from cluster.inputs.listing import scan
from cluster.inputs.manifest import SCHEMA, Manifest
from tests.support.listed_paths import paths
from tests.support.tars import shard

NAMES = st.lists(st.sampled_from("abcdefgh"), unique=True, min_size=1).map(sorted)


def manifest(names: list[str], root: str = "/in", sizes: int = 10) -> Manifest:
    uris = [f"{root}/{name}" for name in names]
    return Manifest(root, pa.table([uris, [sizes] * len(uris)], SCHEMA))


@given(NAMES, NAMES)
def test_a_grown_collection_keeps_its_numbers_and_gets_the_new_ones_once(before, after):
    change = with_added_inputs(manifest(before), manifest(after))
    found = paths(change.manifest)
    assert found[: len(before)] == before
    assert found[len(before) :] == [name for name in after if name not in before]
    assert change.changed == len(found) - len(before)
    assert change.absent == len(set(before) - set(after))
    again = with_added_inputs(change.manifest, manifest(after))
    assert again.changed == 0 and again.manifest.table == change.manifest.table


@given(NAMES, NAMES)
def test_a_moved_collection_is_followed_where_names_agree(before, after):
    change = with_moved_inputs(manifest(before), manifest(after, "s3://b/there"))
    uris = change.manifest.table["uri"].to_pylist()
    assert uris == [f"s3://b/there/{n}" if n in after else f"/in/{n}" for n in before]
    assert (change.changed, change.absent) == (
        sum(n in after for n in before),
        sum(n not in after for n in before),
    )


def test_a_file_of_another_size_is_not_followed():
    change = with_moved_inputs(manifest(["a", "b"]), manifest(["a", "b"], "/there", sizes=11))
    assert change.changed == 0 and change.manifest.table["uri"].to_pylist() == ["/in/a", "/in/b"]


def test_a_move_that_was_made_already_changes_nothing():
    there = manifest(["a", "b"], "/there")
    once = with_moved_inputs(manifest(["a", "b"]), there).manifest
    assert with_moved_inputs(once, there).manifest.table == once.table


@pytest.mark.parametrize("odd", ["/in (1)", "/in.+[x]", r"/in\E", "/in $^", "/ïn"])
def test_folders_with_odd_names_are_followed(odd):
    change = with_moved_inputs(manifest(["a"], odd), manifest(["a"], "/there"))
    assert change.manifest.table["uri"].to_pylist() == ["/there/a"]


def test_a_list_keeps_its_columns_when_it_grows():
    old = manifest(["a"])
    old = Manifest("", old.table.append_column("artist", pa.array(["Ann"])))
    now = manifest(["a", "b"])
    now = Manifest("", now.table.append_column("artist", pa.array(["changed", "Bob"])))
    change = with_added_inputs(old, now)
    assert change.manifest.table["artist"].to_pylist() == ["Ann", "Bob"]


def test_shards_that_moved_are_read_where_they_are(tmp_path: Path) -> None:
    for place in ("before", "after"):
        (tmp_path / place).mkdir()
        (tmp_path / place / "0.tar").write_bytes(shard({"x.png": b"12345", "y.png": b"67"}))
    old, now = (scan(str(tmp_path / place)) for place in ("before", "after"))
    change = with_moved_inputs(old, now)
    assert change.changed == 2
    assert change.manifest.location(0) == now.location(0) != old.location(0)


def test_several_collections_are_one(pictures: Path) -> None:
    single, deep = pictures / "b.png", pictures / "deep"
    found = scan([str(single), str(deep)])
    assert [uri.rpartition("/")[2] for uri in found.table["uri"].to_pylist()] == ["b.png", "c.jpg"]
    assert found.source == str(pictures)
    repeated = scan([str(single), str(pictures)])
    assert sorted(paths(repeated)) == sorted(paths(scan(str(pictures))))
    assert repeated.table["uri"][0].as_py() == str(single)


def test_columns_of_one_are_empty_in_the_others():
    with_ = Manifest("", manifest(["a"]).table.append_column("artist", pa.array(["Ann"])))
    found = combined([manifest(["b"]), with_])
    assert found.table["artist"].to_pylist() == [None, "Ann"]


def test_a_list_may_name_an_image_twice():
    twice = Manifest("", pa.concat_tables([manifest(["a"]).table] * 2))
    assert len(combined([twice, manifest(["b"])])) == 3
    assert len(combined([manifest(["a", "b"]), twice])) == 2


@pytest.mark.parametrize(
    ("folders", "common"),
    [
        (["/a/b", "/a/c"], "/a"),
        (["/a/b", "/a/b/c"], "/a/b"),
        (["/a", "/b"], ""),
        (["s3://x/a", "s3://x/b"], "s3://x"),
        (["s3://x/a", "s3://y/a"], ""),
        (["/a", "s3://x"], ""),
    ],
)
def test_the_common_folder(folders, common):
    assert common_folder(folders) == common
