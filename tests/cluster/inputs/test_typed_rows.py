from __future__ import annotations

import pyarrow as pa
import pytest

from cluster.inputs.typed_rows import Scalar, TypedRows, joined

FIXED = pa.schema([("n", pa.int64()), ("uri", pa.string())])


@pytest.mark.parametrize(
    ("values", "kind", "kept"),
    [
        ([True, False], pa.bool_(), [True, False]),
        ([1, 2], pa.int64(), [1, 2]),
        ([1, 2.5], pa.float64(), [1.0, 2.5]),
        ([1, "a"], pa.string(), ["1", "a"]),
        ([True, 1], pa.string(), ["true", "1"]),
        ([2**70, 1], pa.string(), [str(2**70), "1"]),
        (["é", "x"], pa.string(), ["é", "x"]),
        ([1.0, "x"], pa.string(), ["1", "x"]),
    ],
)
@pytest.mark.parametrize("apart", [False, True])
def test_the_narrowest_type_holds_all_values(
    values: list[Scalar], kind: pa.DataType, kept: list[Scalar], apart: bool
) -> None:
    """Whether they are in one batch, or in tables that are joined."""
    tables = []
    rows = TypedRows(FIXED, 10)
    for number, value in enumerate(values):
        rows.add((number, None), {"v": value})
        if apart:
            tables.append(rows.table())
            rows = TypedRows(FIXED, 10)
    table = joined(tables, FIXED) if apart else rows.table()
    assert (table.schema.field("v").type, table["v"].to_pylist()) == (kind, kept)


def test_columns_come_and_go() -> None:
    rows = TypedRows(FIXED, 10)
    for number in range(10_000):
        rows.add((number, "u"), {f"c{number // 4096}": number})
    table = rows.table()
    assert table["n"].to_pylist() == list(range(10_000)) and table["uri"].null_count == 0
    assert table.column_names == ["n", "uri", "c0", "c1", "c2"]
    assert table["c1"].null_count == 10_000 - 4096


def test_columns_are_bounded() -> None:
    rows = TypedRows(FIXED, 2)
    assert rows.add((0, None), {"a": 1, "b": 2, "c": 3}) == 1
    assert rows.add((1, None), {"c": 3, "d": 4}) == 2
    assert rows.add((2, None), {"b": 5}) == 0
    assert rows.table()["b"].to_pylist() == [2, None, 5]
    assert joined([rows.table()], FIXED, most=1).column_names == ["n", "uri", "a"]


def test_no_rows() -> None:
    assert TypedRows(FIXED, 2).table().num_rows == 0
    assert joined([], FIXED).schema == FIXED
