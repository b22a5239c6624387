"""Sixty images as collections of every kind."""

from __future__ import annotations

import uuid
from pathlib import Path

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


def everywhere(folder: Path, bucket: str, hub: HubState) -> list[str]:
    """The inputs that hold the images: in a local folder, in a bucket and on the hub."""
    files = images()
    inputs = written(str(folder), files) + written(f"{bucket}/{uuid.uuid4().hex}", files)
    on_disk = [file for file in folder.rglob("*") if file.is_file()]
    hub.files = {file.relative_to(folder).as_posix(): file.read_bytes() for file in on_disk}
    return inputs + [given.replace(str(folder), "hf://datasets/org/pictures") for given in inputs[:4]]
