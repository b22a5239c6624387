"""Which column of a table holds the images."""

from __future__ import annotations

import pyarrow as pa
import pytest

from cluster.inputs.image_columns import image_column
from cluster.inputs.manifest import InputError
from tests.support.image_tables import noted

IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
TEXT, BYTES = pa.string(), pa.binary()


@pytest.mark.parametrize(
    ("columns", "features", "found"),
    [
        ({"image": IMAGE, "label": pa.int64()}, {}, "image"),
        ({"img": pa.struct([("bytes", pa.large_binary())])}, {}, "img"),
        ({"jpg": BYTES, "caption": TEXT}, {}, "jpg"),
        ({"jpg": pa.large_binary(), "sha256": pa.binary(32)}, {}, "jpg"),
        ({"jpg": pa.binary_view()}, {}, "jpg"),
        ({"file": BYTES}, {}, "file"),
        ({"image": IMAGE, "embedding": BYTES}, {}, "image"),  # a struct before plain bytes
        ({"image": IMAGE, "url": TEXT}, {}, "image"),  # where it was found
        ({"image": IMAGE, "sound": IMAGE}, {"image": "Image", "sound": "Audio"}, "image"),
        ({"jpg": BYTES, "vector": BYTES}, {"jpg": "Image", "vector": "Value"}, "jpg"),
        ({"image": IMAGE, "uri": TEXT}, {}, None),
        ({"URI ": BYTES}, {}, None),
        ({"jpg": BYTES, "path": TEXT}, {}, None),
        ({"image": TEXT}, {}, None),
        ({"image": pa.struct([("bytes", TEXT)])}, {}, None),
        ({"hash": pa.binary(16)}, {}, None),
    ],
)
def test_it_is_found_by_its_type(
    columns: dict[str, pa.DataType], features: dict[str, str], found: str | None
) -> None:
    schema = pa.schema(columns).with_metadata(noted(features) if features else None)
    assert image_column("x", schema) == found


@pytest.mark.parametrize("metadata", [b"{", b"[]", b'{"info": {"features": [1]}}'])
def test_notes_that_are_damaged_are_ignored(metadata: bytes) -> None:
    assert image_column("x", pa.schema({"a": IMAGE}).with_metadata({b"huggingface": metadata})) == "a"


@pytest.mark.parametrize(
    ("columns", "wanted", "refusal"),
    [
        ({"a": IMAGE, "b": IMAGE}, None, "several columns of images: a, b; name one by --image-column"),
        ({"a": BYTES, "b": BYTES}, None, "several columns of images: a, b"),
        ({"a": pa.list_(IMAGE)}, None, "one image a row"),
        ({"a": pa.list_(BYTES)}, "a", "one image a row"),
        ({"a": IMAGE, "b": TEXT}, "b", "holds string, not images; columns of images are a"),
        ({"a": IMAGE, "b": TEXT}, "c", "does not exist; columns of images are a"),
        ({"b": TEXT}, "b", "none of its columns holds images"),
    ],
)
def test_refusals_name_the_candidates(
    columns: dict[str, pa.DataType], wanted: str | None, refusal: str
) -> None:
    with pytest.raises(InputError) as caught:
        image_column("x", pa.schema(columns), wanted)
    assert refusal in str(caught.value) and "\n" not in str(caught.value)


def test_the_user_chooses() -> None:
    schema = pa.schema({"a": IMAGE, "B ": BYTES, "uri": TEXT})
    assert [image_column("x", schema, name) for name in ("a", "b", "B ")] == ["a", "B ", "B "]
