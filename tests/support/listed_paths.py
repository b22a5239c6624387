"""The paths of a manifest's inputs, and their bytes."""

from __future__ import annotations

from cluster.inputs.manifest import Manifest
from cluster.inputs.sources import read_image


def paths(manifest: Manifest) -> list[str]:
    """In the order of the manifest, without the collection's own path."""
    return [manifest.path(number) for number in range(len(manifest))]


def data_of(manifest: Manifest) -> list[bytes]:
    """The bytes of all inputs, in the order of the manifest."""
    return [
        read_image(manifest.uri(n), lambda size: None, manifest.location(n)) for n in range(len(manifest))
    ]
