"""rayjob.yaml: its fields, and the objects that they refer to."""

from __future__ import annotations

import shlex
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from cluster.worker.preemption import PreemptionWatch
from cluster.worker.worker import Worker
from tests.support.deploy_files import KUBERAY, MANIFESTS, POD_GROUPS, ray_start_parses, set_at
from tests.support.kuberay_fields import OBJECTS
from tests.support.waiting import PATIENCE, until


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
        (f"{WORKERS}/template/spec/containers/0/lifecycle/prestop", {}),
        (f"{WORKERS}/template/spec/containers/0/lifecycle/preStop/exec/command", "true"),
        (f"{WORKERS}/template/spec/volumes/0/persistentVolumeClaim/claim", "x"),
    ],
)
def test_a_misspelt_field_is_reported(path: str, value: Any) -> None:
    with pytest.raises(jsonschema.ValidationError):
        in_manifests("RayJob", set_at(MANIFESTS["RayJob", "originality"], path, value))


@pytest.mark.parametrize("group", POD_GROUPS)
def test_kuberay_starts_ray_with_known_options(group: dict[str, Any]) -> None:
    options = [f"--{name}={value}" for name, value in group["rayStartParams"].items()]
    ray_start_parses(shlex.join(["ray", "start", *options]))


@pytest.mark.parametrize("group", POD_GROUPS)
def test_pods_have_no_more_rights_than_needed(group: dict[str, Any]) -> None:
    pod = group["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"]
    assert all(c["securityContext"]["capabilities"] == {"drop": ["ALL"]} for c in pod["containers"])
    assert not any(c["securityContext"]["allowPrivilegeEscalation"] for c in pod["containers"])


@pytest.mark.parametrize("group", POD_GROUPS)
def test_everything_a_pod_refers_to_exists(group: dict[str, Any]) -> None:
    pod = group["template"]["spec"]
    assert ("ServiceAccount", pod["serviceAccountName"]) in MANIFESTS
    volumes = {v["name"]: v["persistentVolumeClaim"]["claimName"] for v in pod["volumes"]}
    assert all(("PersistentVolumeClaim", claim) in MANIFESTS for claim in volumes.values())
    (container,) = pod["containers"]
    (mount,) = container["volumeMounts"]
    assert mount["name"] in volumes
    (cache,) = (e["value"] for e in container["env"] if e["name"] == "ORIGINALITY_CACHE")
    assert cache.startswith(mount["mountPath"] + "/")


POD = KUBERAY["workerGroupSpecs"][0]["template"]["spec"]
HOOK: list[str] = POD["containers"][0]["lifecycle"]["preStop"]["exec"]["command"]
_RAYS_OWN_SECONDS = 20
"""Seconds from SIGTERM on in which Ray must end."""


@pytest.fixture
def worker() -> Iterator[subprocess.Popen[bytes]]:
    """A process with the name that Ray gives to a worker's."""
    with subprocess.Popen([f"ray::{Worker.__name__}.poll", str(PATIENCE)], executable="sleep") as process:
        yield process
        process.kill()


@pytest.fixture
def hook(
    worker: subprocess.Popen[bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], subprocess.Popen[bytes]]:
    """Run the hook, for at most so many seconds, in the environment of the pod.

    It sees only the worker among this machine's processes, as in a container; the file is in a folder of the
    test.
    """
    environment = {entry["name"]: entry["value"] for entry in POD["containers"][0]["env"]}
    file = tmp_path / Path(environment["ORIGINALITY_LEAVE_FILE"]).name
    monkeypatch.setenv("ORIGINALITY_LEAVE_FILE", str(file))
    program, _, *command = HOOK
    assert program == "timeout" and "/proc/[0-9]*/" in command[-1]
    command[-1] = command[-1].replace("/proc/[0-9]*/", f"/proc/{worker.pid}/")
    return lambda seconds: subprocess.Popen([program, seconds, *command])


def test_a_pod_ends_when_its_workers_are_gone(
    hook: Callable[[str], subprocess.Popen[bytes]], worker: subprocess.Popen[bytes]
) -> None:
    with hook(str(PATIENCE)) as running:
        until(lambda: PreemptionWatch().notice)
        time.sleep(1.5)
        assert running.poll() is None
        worker.kill()
        worker.wait()
        assert running.wait(PATIENCE) == 0
    assert hook(str(PATIENCE)).wait(PATIENCE) == 0  # nobody is there to wait for


def test_a_pod_ends_in_time_with_a_worker_still_running(
    hook: Callable[[str], subprocess.Popen[bytes]],
) -> None:
    assert hook("1").wait(PATIENCE) == 124
    assert int(HOOK[1]) + _RAYS_OWN_SECONDS <= POD["terminationGracePeriodSeconds"]
