"""The paths of a manifest's inputs."""

from __future__ import annotations

from cluster.inputs.manifest import Manifest


def paths(manifest: Manifest) -> list[str]:
    """In the order of the manifest, without the collection's own path."""
    return [manifest.path(number) for number in range(len(manifest))]
