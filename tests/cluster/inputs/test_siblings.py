from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.inputs.siblings import ROW_BYTES, Siblings


def taken(*files: tuple[str, bytes]) -> tuple[dict[str, object], Counter[str]]:
    dropped: Counter[str] = Counter()
    siblings = Siblings(dropped)
    for extension, data in files:
        siblings.take(extension, len(data), lambda data=data: data)  # type: ignore[misc]
    return dict(siblings.values), dropped


@pytest.mark.parametrize(
    ("extension", "data", "values"),
    [
        (".txt", b" a dog\n", {"txt": "a dog"}),
        (".txt", "\ufeffé".encode(), {"txt": "é"}),
        (".txt", b"\xff", {"txt": "\ufffd"}),
        (".cls", b"7\n", {"cls": 7}),
        (".cls", b"-3", {"cls": -3}),
        (".cls", b"dog", {"cls": "dog"}),
        (".cls", b"9" * 30, {"cls": "9" * 30}),
        (
            ".json",
            b'{"a": 1, "b": 2.5, "c": true, "d": "x", "e": null}',
            {"a": 1, "b": 2.5, "c": True, "d": "x"},
        ),
        (".json", b'{"a": [1, {"b": "\xc3\xa9"}]}', {"a": '[1, {"b": "é"}]'}),
        (
            ".json",
            b'{"uri": "x", "offset": 3, "txt": "y", "image_id": "z", "number": 4}',
            {"json.uri": "x", "json.offset": 3, "json.txt": "y", "json.image_id": "z", "json.number": 4},
        ),
        (".json", b'{"word": " dog "}', {"word": "dog"}),
        (".json", b'{"word": 5, "x": 1}', {"x": 1}),
        (".json", b'{"\\ud800": "\\udfff"}', {"?": "?"}),
    ],
)
def test_a_file_becomes_columns(extension: str, data: bytes, values: dict[str, object]) -> None:
    found, dropped = taken((extension, data))
    assert found == values and not dropped
    assert {name: type(value) for name, value in found.items()} == {n: type(v) for n, v in values.items()}


@pytest.mark.parametrize(
    "data", [b"", b"[1]", b"3", b"{", b"\xff", b"[" * 500_000, b'{"a": ' * 100_000, b"1" * 10_000]
)
def test_json_that_cannot_be_read_is_counted(data: bytes) -> None:
    assert taken((".json", data)) == ({}, {"unreadable .json": 1})


def test_what_is_too_large_is_dropped_and_counted() -> None:
    assert taken((".txt", b"x" * (ROW_BYTES + 1))) == ({}, {".txt over 64 KiB": 1})
    assert taken((".json", b" " * (2**20 + 1))) == ({}, {".json over 1 MiB": 1})
    half = b"x" * (ROW_BYTES // 2)
    values, dropped = taken((".txt", half), (".json", b'{"a": "%s", "b": "%s", "c": 1}' % (half[:-9], half)))
    assert set(values) == {"txt", "a", "c"} and dropped == {"value of .json over 64 KiB": 1}


def test_a_large_file_is_not_read() -> None:
    Siblings(Counter()).take(".json", 10**12, lambda: pytest.fail("it was read"))


@given(
    st.binary(max_size=300) | st.recursive(st.none() | st.text(), st.lists).map(lambda v: repr(v).encode())
)
def test_any_file_is_survived(data: bytes) -> None:
    for extension in (".txt", ".cls", ".json"):
        values, _ = taken((extension, data))
        assert all(isinstance(value, bool | int | float | str) for value in values.values())
