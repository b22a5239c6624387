"""The deployment files, parsed as their programs parse them."""

from __future__ import annotations

import copy
import shlex
from typing import Any

import yaml
from ray.scripts.scripts import start

from tests.support.places import ROOT

DEPLOY = ROOT / "cluster" / "deploy"

CLUSTER_FILE = ROOT / "ray_cluster.yaml"
CLUSTER: dict[str, Any] = yaml.safe_load(CLUSTER_FILE.read_text())
KINDS: dict[str, Any] = CLUSTER["available_node_types"]
"""Node types by name."""

MANIFESTS: dict[tuple[str, str], Any] = {
    (document["kind"], document["metadata"]["name"]): document
    for document in yaml.safe_load_all((DEPLOY / "rayjob.yaml").read_text())
}
"""Objects of rayjob.yaml by kind and name."""
JOB: dict[str, Any] = MANIFESTS["RayJob", "originality"]["spec"]
KUBERAY: dict[str, Any] = JOB["rayClusterSpec"]
POD_GROUPS: list[dict[str, Any]] = [KUBERAY["headGroupSpec"], *KUBERAY["workerGroupSpecs"]]


def set_at(tree: Any, path: str, value: Any) -> Any:
    """A copy with one value set, at an existing or a new path."""
    changed = copy.deepcopy(tree)
    *parents, last = path.split("/")
    node = changed
    for key in parents:
        node = node[int(key) if isinstance(node, list) else key]
    node[last] = value
    return changed


def ray_start_parses(command: str) -> dict[str, Any]:
    """Options of a ``ray start`` line, parsed by Ray's own parser."""
    words = shlex.split(command)
    assert words[:2] == ["ray", "start"]
    return start.make_context("ray start", words[2:]).params
