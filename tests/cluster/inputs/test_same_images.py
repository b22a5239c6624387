"""The same images as loose files, WebDataset, Parquet and Arrow, on a disk, in a bucket and on the hub: the
same image ids, the same pixels."""

from __future__ import annotations

from pathlib import Path

from cluster.inputs.decoder import Decoder
from cluster.inputs.identities import image_id_of
from cluster.inputs.listing import scan
from cluster.inputs.manifest import Manifest
from cluster.inputs.sources import read_image
from tests.support.hub_datasets import HubState
from tests.support.same_images import everywhere


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
    inputs = everywhere(tmp_path, s3, dataset_hub)
    first, *others = [looked_at(scan(given)) for given in inputs]
    assert len(first) == 60 and len(others) == 11 and all(other == first for other in others)
