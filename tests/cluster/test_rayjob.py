"""rayjob.yaml: its fields, and what they name."""

from __future__ import annotations

import shlex
from typing import Any

import jsonschema
import pytest
from deploy_files import MANIFESTS, POD_GROUPS, ray_start_parses, set_at
from kuberay_fields import OBJECTS


def in_manifests(kind: str, manifest: Any) -> None:
    jsonschema.validate(manifest, OBJECTS[kind])


@pytest.mark.parametrize(("kind", "name"), MANIFESTS)
def test_kubernetes_knows_every_field(kind: str, name: str) -> None:
    in_manifests(kind, MANIFESTS[kind, name])


HEAD = "spec/rayClusterSpec/headGroupSpec"
WORKERS = "spec/rayClusterSpec/workerGroupSpecs/0"


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("spec/shutdownAfterJobFinish", True),
        ("spec/submissionMode", "K8SJobMode"),
        ("spec/backoffLimit", "2"),
        ("spec/rayClusterSpec/enableIntreeAutoscaling", True),
        ("spec/rayClusterSpec/autoscalerOptions/idleTimeoutMinutes", 5),
        (f"{HEAD}/rayStartParams/num-cpus", 0),
        (f"{HEAD}/template/spec/containers/0/resource", {}),
        (f"{WORKERS}/maxReplica", 32),
        (f"{WORKERS}/template/spec/toleration", []),
        (f"{WORKERS}/template/spec/tolerations/0/effect", "NoSchedul"),
        (f"{WORKERS}/template/spec/containers/0/securityContext/runAsNonroot", True),
        (f"{WORKERS}/template/spec/containers/0/resources/limits/gpu", 1),
        (f"{WORKERS}/template/spec/volumes/0/persistentVolumeClaim/claim", "x"),
    ],
)
def test_a_misspelt_field_is_told(path: str, value: Any) -> None:
    with pytest.raises(jsonschema.ValidationError):
        in_manifests("RayJob", set_at(MANIFESTS["RayJob", "originality"], path, value))


@pytest.mark.parametrize("group", POD_GROUPS)
def test_kuberay_starts_ray_with_options_that_it_has(group: dict[str, Any]) -> None:
    options = [f"--{name}={value}" for name, value in group["rayStartParams"].items()]
    ray_start_parses(shlex.join(["ray", "start", *options]))


@pytest.mark.parametrize("group", POD_GROUPS)
def test_pods_may_do_no_more_than_they_must(group: dict[str, Any]) -> None:
    pod = group["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"]
    assert all(c["securityContext"]["capabilities"] == {"drop": ["ALL"]} for c in pod["containers"])
    assert not any(c["securityContext"]["allowPrivilegeEscalation"] for c in pod["containers"])


@pytest.mark.parametrize("group", POD_GROUPS)
def test_what_a_pod_names_is_there(group: dict[str, Any]) -> None:
    pod = group["template"]["spec"]
    assert ("ServiceAccount", pod["serviceAccountName"]) in MANIFESTS
    volumes = {v["name"]: v["persistentVolumeClaim"]["claimName"] for v in pod["volumes"]}
    assert all(("PersistentVolumeClaim", claim) in MANIFESTS for claim in volumes.values())
    (container,) = pod["containers"]
    (mount,) = container["volumeMounts"]
    assert mount["name"] in volumes
    (cache,) = (e["value"] for e in container["env"] if e["name"] == "ORIGINALITY_CACHE")
    assert cache.startswith(mount["mountPath"] + "/")
