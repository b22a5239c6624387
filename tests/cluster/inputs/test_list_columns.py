"""The columns of a list: which are kept, under which names and types."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.inputs.list_columns import (
    MOST_ROW_BYTES,
    Column,
    joined,
    kept_columns,
    plain_values,
    typed,
    within_size,
    without_secrets,
)
from cluster.inputs.listing import scan
from cluster.inputs.manifest import LISTED_AS, InputError, Manifest
from cluster.inputs.table_options import TableOptions


def csv_of(tmp_path: Path, text: str, columns: list[str] | None = None) -> Manifest:
    (tmp_path / "list.csv").write_text(text)
    return scan(str(tmp_path / "list.csv"), TableOptions(columns))


def test_the_columns_of_a_csv_are_kept_with_their_types(tmp_path: Path) -> None:
    text = (
        "uri,artist,year,score,public,article,note\na.png,Klee,1921,0.5,true,007,\nb.png,,1922,1,FALSE,12,x\n"
    )
    found = csv_of(tmp_path, text)
    assert found.extra == ["artist", "year", "score", "public", "article", "note"]
    first = {"artist": "Klee", "year": 1921, "score": 0.5, "public": True, "article": "007"}
    assert found.columns(0) == first
    assert found.columns(1) == {"year": 1922, "score": 1.0, "public": False, "article": "12", "note": "x"}


def test_the_uri_is_kept_as_the_list_has_it(tmp_path: Path) -> None:
    found = csv_of(tmp_path, f"uri,n\nsub/a.png,1\n{tmp_path}/b.png,2\n,3\n")
    assert found.table[LISTED_AS].to_pylist() == ["sub/a.png", f"{tmp_path}/b.png", None]
    assert found.uri(0) == f"{tmp_path}/sub/a.png"
    assert Manifest.from_parquet(found.to_parquet()).table.equals(found.table)


def test_only_the_wanted_columns_and_the_words_are_kept(tmp_path: Path) -> None:
    text = "uri,Artist,year,Word\na.png,Klee,1921,fish\n"
    assert csv_of(tmp_path, text, ["artist"]).columns(0) == {"Artist": "Klee", "word": "fish"}
    assert csv_of(tmp_path, text, []).extra == ["word"]
    with pytest.raises(InputError, match=r"'painter'.*year"):
        csv_of(tmp_path, text, ["painter"])


def test_names_of_a_runs_own_columns_get_a_prefix(tmp_path: Path) -> None:
    found = csv_of(tmp_path, "uri,bytes,image_id,listed_as,,list_bytes\na.png,1,x,y,7,z\n")
    assert found.extra == ["list_bytes", "list_image_id", "list_listed_as", "list_bytes_"]
    assert found.size(0) is None


def test_a_list_has_no_containers_by_the_names_of_its_columns(tmp_path: Path) -> None:
    found = csv_of(tmp_path, "uri,container,offset,number\na.png,box,3,4\n")
    assert found.extra == ["list_container", "list_offset", "list_number"]
    assert found.location(0) is None


def test_of_columns_with_one_name_the_first_is_kept() -> None:
    kept = kept_columns("list.csv", ["uri", "a", "a"], ["uri"], None)
    assert kept == [Column("a", "a")]


def test_parquet_columns_keep_their_types_and_bytes_are_left_out(tmp_path: Path) -> None:
    now = datetime(2026, 1, 2, tzinfo=UTC)
    columns = {
        "uri": ["a.png"],
        "when": pa.array([now], pa.timestamp("us", tz="UTC")),
        "tags": [["x", "y"]],
        "about": [{"w": 1}],
        "price": pa.array([Decimal("1.50")]),
        "kind": pa.array(["art"]).dictionary_encode(),
        "small": pa.array([3], pa.int8()),
        "thumbnail": [b"\x89PNG"],
    }
    pq.write_table(pa.table(columns), tmp_path / "list.parquet")
    found = scan(str(tmp_path / "list.parquet"))
    assert found.columns(0) == {
        "when": now,
        "tags": '["x", "y"]',
        "about": '{"w": 1}',
        "price": "1.50",
        "kind": "art",
        "small": 3,
    }


def test_text_that_is_not_utf8_is_kept_with_replacements() -> None:
    raw = pa.array([b"caf\xe9", None], pa.binary()).view(pa.string())
    assert plain_values(raw).to_pylist() == ["caf\ufffd", None]


def test_secrets_are_masked_and_plain_addresses_are_not() -> None:
    signed = "https://host/a.png?X-Amz-Signature=0123456789abcdef0123456789abcdef"
    clean = without_secrets(pa.array([signed, "https://host/a.png", "a tokenised key", None])).to_pylist()
    assert "0123456789abcdef" not in clean[0] and clean[0].startswith("https://host/a.png")
    assert clean[1:] == ["https://host/a.png", "a tokenised key", None]


@given(st.lists(st.none() | st.integers(-(2**70), 2**70), min_size=1))
def test_integers_are_numbers_unless_they_would_lose_digits(values: list[int | None]) -> None:
    text = pa.chunked_array([pa.array([None if v is None else str(v) for v in values], pa.string())])
    found = typed(text)
    fit = all(v is None or -(2**63) <= v < 2**63 for v in values)
    expected = [None if v is None else v if fit else str(v) for v in values]
    assert found.to_pylist() == expected


@given(st.lists(st.text(), min_size=1))
def test_types_lose_no_text(values: list[str]) -> None:
    found = typed(pa.chunked_array([pa.array(values, pa.string())]))
    assert len(found) == len(values)
    if pa.types.is_string(found.type):
        assert found.to_pylist() == values


@given(
    st.lists(st.tuples(st.integers(0, 50_000), st.integers(0, 50_000), st.integers(0, 50_000)), max_size=5)
)
def test_rows_are_kept_within_their_size(lengths: list[tuple[int, int, int]]) -> None:
    columns = [Column(name, name) for name in "abc"]
    values = [pa.array(["x" * row[k] for row in lengths], pa.string()) for k in range(3)]
    kept, left_out = within_size(columns, values)
    sizes = np.array([[len(v or "") for v in column.to_pylist()] for column in kept]).reshape(3, -1)
    assert (sizes.sum(0) <= MOST_ROW_BYTES).all()
    for row, before in enumerate(lengths):
        if sum(before) <= MOST_ROW_BYTES:
            assert sizes[:, row].tolist() == list(before)
    assert sum(left_out.values()) == sum(column.null_count for column in kept)


def test_parts_with_different_columns_are_joined() -> None:
    one = pa.table({"uri": ["a"], "n": [1], "m": [1]})
    two = pa.table({"uri": ["b"], "n": ["x"], "k": [0.5]})
    rows = joined([one, two]).to_pylist()
    assert rows == [
        {"uri": "a", "n": "1", "m": 1, "k": None},
        {"uri": "b", "n": "x", "m": None, "k": 0.5},
    ]


def test_nested_values_are_json() -> None:
    (text,) = plain_values(pa.array([{"a": [1, None], "b": b"xy"}])).to_pylist()
    assert json.loads(text) == {"a": [1, None], "b": "2 bytes"}
