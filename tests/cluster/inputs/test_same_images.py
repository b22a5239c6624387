"""The same images as loose files, WebDataset, Parquet and Arrow, on a disk, in a bucket and on the hub: the
same image ids, the same pixels."""

from __future__ import annotations

import uuid
from pathlib import Path

from cluster.inputs.decoder import Decoder
from cluster.inputs.identities import image_id_of
from cluster.inputs.listing import scan
from cluster.inputs.manifest import Manifest
from cluster.inputs.sources import read_image
from cluster.storage.store import open_store
from tests.support.hub_datasets import HubState
from tests.support.image_bytes import noise, saved
from tests.support.image_tables import hugging_face, parquet, save_to_disk
from tests.support.tars import shard

FORMS = [("png", "PNG"), ("jpg", "JPEG"), ("webp", "WEBP")]


def images() -> dict[str, bytes]:
    """Sixty images by name, in the order of their names."""
    sizes = [(7 + 3 * n, 5 + 2 * n) for n in range(60)]
    return {
        f"{n:02}.{FORMS[n % 3][0]}": saved(noise("RGB", *s), FORMS[n % 3][1]) for n, s in enumerate(sizes)
    }


def written(root: str, files: dict[str, bytes]) -> list[str]:
    """The inputs below a folder or prefix that hold these images in their order."""
    store = open_store(root)
    data = list(files.values())
    for name, content in files.items():
        store.write(f"loose/{name}", content)
    for part in range(3):
        some = dict(list(files.items())[20 * part : 20 * part + 20])
        store.write(f"tars/{part}.tar", shard(some))
        table = hugging_face(list(some.values()), n=list(range(20)))
        store.write(f"parquet/{part}.parquet", parquet(table, row_group_size=7))
    save_to_disk(store, "saved", [hugging_face(data[:30]), hugging_face(data[30:])])
    return [f"{root}/loose", f"{root}/tars/{{0..2}}.tar", f"{root}/parquet", f"{root}/saved"]


def looked_at(manifest: Manifest) -> list[tuple[str, bytes]]:
    """image_id and pixels of each input."""
    found = []
    with Decoder() as decoder:
        for number in range(len(manifest)):
            data = read_image(manifest.uri(number), lambda size: None, manifest.location(number))
            found.append((image_id_of(data), decoder.decode(data).tobytes()))
    return found


def test_each_kind_of_collection_gives_the_same_images(
    tmp_path: Path, s3: str, dataset_hub: HubState
) -> None:
    files = images()
    inputs = written(str(tmp_path), files) + written(f"{s3}/{uuid.uuid4().hex}", files)
    on_disk = (file for file in tmp_path.rglob("*") if file.is_file())
    dataset_hub.files = {file.relative_to(tmp_path).as_posix(): file.read_bytes() for file in on_disk}
    inputs += [given.replace(str(tmp_path), "hf://datasets/org/pictures") for given in inputs[:4]]
    first, *others = [looked_at(scan(given)) for given in inputs]
    assert len(first) == 60 and len(others) == 11 and all(other == first for other in others)
