"""What stands beside an image in a WebDataset becomes columns: its ``.txt``, its ``.cls``, its ``.json``.

These come from strangers: a row has at most 64 KiB of them, and what is more, or cannot be read, is dropped
and counted.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from cluster.inputs.manifest import OWN_NAMES, WORD
from cluster.inputs.typed_rows import Scalar, size_of

ROW_BYTES = 64 * 2**10
"""Bytes of all values of a row."""
_MOST_JSON = 2**20
"""Bytes of a .json that is read."""
_LONGEST_NAME = 200
"""Characters of a column's name."""
_MOST = {".txt": ROW_BYTES, ".cls": ROW_BYTES, ".json": _MOST_JSON}
_SIZES = {ROW_BYTES: "64 KiB", _MOST_JSON: "1 MiB"}
_OWN = {*OWN_NAMES, "txt", "cls"}
"""Columns that a field of JSON must not replace; it gets the prefix "json."."""


class Siblings:
    """The values for the images of one key."""

    def __init__(self, dropped: Counter[str]) -> None:
        """``dropped``: counts by kind what becomes no column."""
        self.values: dict[str, Scalar] = {}
        """By column."""
        self.kinds: Counter[str] = Counter()
        """The number of files by extension."""
        self._dropped = dropped
        self._room = ROW_BYTES

    def take(self, extension: str, size: int, read: Callable[[], bytes]) -> None:
        """Take over the values of a file, which is read only if it is small enough.

        Args:
            extension: one of EXTENSIONS.
        """
        self.kinds[extension] += 1
        if size > _MOST[extension]:
            self._dropped[f"{extension} over {_SIZES[_MOST[extension]]}"] += 1
            return
        try:
            for name, value in _FIELDS[extension](read()):
                self._set(name, value, extension)
        except (ValueError, RecursionError):  # not JSON, or nested too deeply
            self._dropped[f"unreadable {extension}"] += 1

    def _set(self, name: str, value: Scalar, extension: str) -> None:
        room = self._room + (size_of(self.values[name]) if name in self.values else 0)
        if size_of(value) > room or len(name) > _LONGEST_NAME:
            self._dropped[f"value of {extension} over {_SIZES[ROW_BYTES]}"] += 1
            return
        self._room = room - size_of(value)
        self.values[name] = value


def _of_text(data: bytes) -> Iterator[tuple[str, Scalar]]:
    yield "txt", data.decode("utf-8-sig", "replace").strip()


def _of_class(data: bytes) -> Iterator[tuple[str, Scalar]]:
    text = data.decode("utf-8-sig", "replace").strip()
    yield "cls", int(text) if re.fullmatch(r"[+-]?[0-9]{1,18}", text) else text


def _of_json(data: bytes) -> Iterator[tuple[str, Scalar]]:
    """The fields of an object that are not null.

    Raises:
        ValueError, RecursionError: it is no JSON object.
    """
    fields = json.loads(data)
    if not isinstance(fields, dict):
        raise ValueError("not a JSON object")
    for name, value in fields.items():
        if name == WORD.name:  # as in a list: text, without blanks around, or none
            value = (value if isinstance(value, str) else "").strip() or None
        if value is not None:
            yield clean_text(f"json.{name}" if name in _OWN else name), scalar_of(value)


def scalar_of(value: Any) -> Scalar:
    """A value of JSON as it is kept: lists and objects as JSON text."""
    if isinstance(value, bool | int | float):
        return value
    return clean_text(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))


def clean_text(text: str) -> str:
    """The text without halves of pairs (surrogates), which JSON may have and Arrow cannot."""
    return text.encode("utf-8", "replace").decode()


_FIELDS: dict[str, Callable[[bytes], Iterator[tuple[str, Scalar]]]] = {
    ".txt": _of_text,
    ".cls": _of_class,
    ".json": _of_json,
}
EXTENSIONS = tuple(_FIELDS)
"""Extensions whose files become columns."""
