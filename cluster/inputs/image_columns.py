"""Finds the column of a table that holds the images themselves: Hugging Face's struct of bytes and path, or
plain bytes."""

from __future__ import annotations

import json
from collections.abc import Mapping

import pyarrow as pa

from cluster.inputs.csv_lists import URI_COLUMNS, normalised
from cluster.inputs.manifest import InputError

_SHOWN = 200
_URI = URI_COLUMNS[0]
_NAMES_OF_URIS = URI_COLUMNS[:3]
"""Names of columns that hold uris even as binary; "file" and "image" may hold the file itself."""


def is_image(kind: pa.DataType) -> bool:
    """Whether a type is that of images in Hugging Face data sets: a struct of bytes and path."""
    place = kind.get_field_index("bytes") if pa.types.is_struct(kind) else -1
    return place >= 0 and is_bytes(kind.field(place).type)


def is_bytes(kind: pa.DataType) -> bool:
    """Whether values of a type are bytes of any length."""
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind)


def image_column(shown_as: str, schema: pa.Schema, wanted: str | None = None) -> str | None:
    """The name of the column of images; None if the table is a list of uris.

    A column "uri" of text makes it a list. Without one, a struct of images comes before other columns of
    uris, as these tell where the images were found.

    Args:
        shown_as: the table as the user named it, for messages.
        wanted: the column that the user asked for.

    Raises:
        InputError: there are several such columns, none of the wanted name, or one with several images a row.
    """
    kinds = {field.name: field.type for field in schema}
    if wanted is not None:
        return _named(shown_as, kinds, wanted)
    uris = {normalised(name) for name, kind in kinds.items() if _is_text(kind) or _is_uri(name)}
    if _URI in uris:
        return None
    features = _features(schema)
    others = {name for name, feature in features.items() if feature not in ("Image", "")}
    found = [name for name, kind in kinds.items() if is_image(kind) and name not in others]
    if not found:
        found = [name for name, feature in features.items() if feature == "Image" and _holds(kinds, name)]
    if not found and uris & set(URI_COLUMNS):
        return None
    if not found:
        found = [name for name, kind in kinds.items() if is_bytes(kind) and name not in others]
    if not found and (several := [name for name, kind in kinds.items() if _holds_several(kind)]):
        raise _several_a_row(shown_as, several[0])
    if len(found) > 1:
        raise InputError(
            f"{shown_as} has several columns of images: {_shown(found)}; name one by --image-column"
        )
    return found[0] if found else None


def _named(shown_as: str, kinds: Mapping[str, pa.DataType], wanted: str) -> str:
    """The column that the user asked for."""
    names = [name for name in kinds if name == wanted] or [
        name for name in kinds if normalised(name) == normalised(wanted)
    ]
    if len(names) == 1 and _holds_several(kinds[names[0]]):
        raise _several_a_row(shown_as, names[0])
    if len(names) == 1 and _holds(kinds, names[0]):
        return names[0]
    candidates = [name for name, kind in kinds.items() if is_image(kind) or is_bytes(kind)]
    have = f"columns of images are {_shown(candidates)}" if candidates else "none of its columns holds images"
    problem = f"holds {str(kinds[names[0]])[:_SHOWN]}, not images" if names else "does not exist"
    raise InputError(f"--image-column {wanted}: this column of {shown_as} {problem}; {have}")


def _holds(kinds: Mapping[str, pa.DataType], name: str) -> bool:
    return name in kinds and (is_image(kinds[name]) or is_bytes(kinds[name]))


def _holds_several(kind: pa.DataType) -> bool:
    lists = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    return any(is_list(kind) for is_list in lists) and (
        is_image(kind.value_type) or is_bytes(kind.value_type)
    )


def _several_a_row(shown_as: str, name: str) -> InputError:
    return InputError(
        f"{shown_as}: column {name!r} holds several images a row; write one image a row (pandas: "
        f"explode({name!r}))"
    )


def _is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        return _is_text(kind.value_type)
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)


def _is_uri(name: str) -> bool:
    return normalised(name) in _NAMES_OF_URIS


def _features(schema: pa.Schema) -> dict[str, str]:
    """By column, the type that Hugging Face's data sets note in a schema: "Image", "Audio", "Value"."""
    try:
        noted = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        return {str(name): str(about.get("_type", "")) for name, about in noted.items()}
    except (KeyError, ValueError, TypeError, AttributeError, RecursionError):
        return {}


def _shown(names: list[str]) -> str:
    return ", ".join(names)[:_SHOWN]
