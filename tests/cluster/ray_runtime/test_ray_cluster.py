"""ray_cluster.yaml, checked offline by what reads it: Ray, EC2's model of a request, and the audit."""

from __future__ import annotations

import argparse
import copy
import json
import re
import shlex
from typing import Any

import botocore.session
import click
import jsonschema
import pytest
import yaml
from botocore.model import ListShape, MapShape, Shape, StringShape, StructureShape
from botocore.validate import ParamValidator
from ray.autoscaler._private.docker import docker_start_cmds
from ray.autoscaler._private.kuberay.autoscaling_config import _derive_autoscaling_config_from_ray_cr
from ray.autoscaler._private.util import prepare_config, validate_config
from ray.autoscaler.v2.instance_manager.config import AutoscalingConfig
from ray.autoscaler.v2.scheduler import ResourceDemandScheduler, SchedulingRequest
from ray.autoscaler.v2.utils import ResourceRequestUtil
from ray.core.generated.common_pb2 import LabelSelectorOperator
from ray.dashboard.modules.job.cli import submit

from cluster.settings import ClusterSettings
from originality.contract.config import SettingsError
from tests.support.deploy_files import (
    CLUSTER,
    CLUSTER_FILE,
    DEPLOY,
    JOB,
    KINDS,
    KUBERAY,
    ray_start_parses,
    set_at,
)

# Private: ray.autoscaler._private and its _derive_autoscaling_config_from_ray_cr, because no public call of
# Ray reads a cluster's file or KubeRay's resource.


def as_ray_reads(config: dict[str, Any]) -> dict[str, Any]:
    """Filled with Ray's defaults and checked, which needs no AWS."""
    prepared = prepare_config(copy.deepcopy(config))
    validate_config(prepared)
    return prepared


def test_ray_accepts_the_cluster() -> None:
    prepared = as_ray_reads(CLUSTER)
    commands = [command for key in prepared if key.endswith("_commands") for command in prepared[key]]
    assert not [command for command in commands if "pip" in command]  # of Ray's defaults


@pytest.mark.parametrize(
    "path",
    ["idle_timeout_minute", "auth/ssh_usr", "docker/worker_run_option", "available_node_types/head/resource"],
)
def test_ray_refuses_a_misspelt_key(path: str) -> None:
    with pytest.raises(jsonschema.ValidationError):
        as_ray_reads(set_at(CLUSTER, path, "x"))


def test_provider_has_only_keys_that_ray_reads() -> None:
    """Ray's check accepts any key; these are the ones that its AWS provider reads."""
    known = {"type", "region", "availability_zone", "cache_stopped_nodes", "security_group"}
    assert CLUSTER["provider"].keys() <= known


def not_in_ec2(shape: Shape, value: Any, path: str = "") -> list[str]:
    """Values outside EC2's enumerations, which botocore does not check."""
    if isinstance(shape, StructureShape):
        return [e for key, v in value.items() for e in not_in_ec2(shape.members[key], v, f"{path}/{key}")]
    if isinstance(shape, ListShape):
        return [e for v in value for e in not_in_ec2(shape.member, v, path)]
    assert not isinstance(shape, MapShape)
    wrong = isinstance(shape, StringShape) and shape.enum and value not in shape.enum
    return [f"{path}: {value!r} is none of {shape.enum}"] if wrong else []


def launch_errors(node_config: dict[str, Any]) -> list[str]:
    """Returns what EC2 would refuse in the request that Ray makes from a ``node_config``."""
    model = botocore.session.get_session().get_service_model("ec2")
    shape = model.operation_model("RunInstances").input_shape
    assert shape is not None
    request = {**node_config, "MinCount": 1, "MaxCount": 1}
    report = ParamValidator().validate(request, shape)
    return [report.generate_report()] if report.has_errors() else not_in_ec2(shape, request)


@pytest.mark.parametrize("kind", KINDS)
def test_ec2_understands_every_launch(kind: str) -> None:
    assert launch_errors(KINDS[kind]["node_config"]) == []


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("InstanceTyp", "g6.xlarge"),
        ("MetadataOptions/HttpToken", "required"),
        ("MetadataOptions/HttpTokens", "require"),
        ("InstanceMarketOptions/MarketType", "sport"),
        ("InstanceType", "g6.xlargest"),
        ("BlockDeviceMappings/0/Ebs/VolumeSize", "150"),
    ],
)
def test_ec2_refuses_a_misspelt_launch(path: str, value: str) -> None:
    assert launch_errors(set_at(KINDS["l4-spot"]["node_config"], path, value))


def test_workers_are_spot_from_none_and_the_head_is_not() -> None:
    head, *workers = (KINDS[kind] for kind in sorted(KINDS, key=lambda kind: kind != "head"))
    assert "InstanceMarketOptions" not in head["node_config"]
    assert head["resources"] == {"CPU": 0}
    assert len(workers) == 2
    for worker in workers:
        assert worker["node_config"]["InstanceMarketOptions"]["MarketType"] == "spot"
        assert worker["min_workers"] == 0
        assert worker["resources"]["GPU"] == 1


@pytest.mark.parametrize("kind", KINDS)
def test_no_machine_shares_its_keys(kind: str) -> None:
    machine = KINDS[kind]["node_config"]
    assert machine["MetadataOptions"]["HttpTokens"] == "required"
    assert machine["IamInstanceProfile"]["Name"] == f"originality-{'head' if kind == 'head' else 'worker'}"
    assert all(disk["Ebs"]["Encrypted"] for disk in machine["BlockDeviceMappings"])


def test_one_hop_is_enough_for_the_container() -> None:
    """The metadata service is one hop from the host's network, and Ray puts its container on that."""
    command = docker_start_cmds("ubuntu", "image", {}, "name", [], "cluster", "/home/ray", "docker")
    assert "--net=host" in command.split()
    assert KINDS["head"]["node_config"]["MetadataOptions"]["HttpPutResponseHopLimit"] == 1


def launched(config: dict[str, Any], workers: int, labels: dict[str, list[str]]) -> dict[str, int]:
    """Machines by kind that Ray's own scheduler would start for so many workers, which need machines whose
    labels have one of these values."""
    parsed = AutoscalingConfig(config, skip_content_hash=True)
    selector = [(key, LabelSelectorOperator.LABEL_OPERATOR_IN, values) for key, values in labels.items()]
    selectors = [selector] if selector else None
    wanted = [ResourceRequestUtil.make({"CPU": 1, "GPU": 1}, label_selectors=selectors)] * workers
    reply = ResourceDemandScheduler().schedule(
        SchedulingRequest(
            disable_launch_config_check=True,
            node_type_configs=parsed.get_node_type_configs(),
            max_num_nodes=parsed.get_max_num_nodes(),
            resource_requests=ResourceRequestUtil.group_by_count(wanted),
        )
    )
    return {request.instance_type: request.count for request in reply.to_launch}


def of_kuberay(cluster: dict[str, Any]) -> dict[str, Any]:
    """The configuration that KubeRay's autoscaler makes from a cluster."""
    named = {"metadata": {"name": "originality", "namespace": "default"}, "spec": cluster}
    config: dict[str, Any] = _derive_autoscaling_config_from_ray_cr(named)
    return config


TYPE = "ray.io/accelerator-type"


@pytest.mark.parametrize("file", ["ray_cluster.yaml", "rayjob.yaml"])
@pytest.mark.parametrize(
    ("workers", "labels", "machines"),
    [
        (0, {}, {}),
        (1, {}, {"l4-spot": 1}),
        (32, {}, {"l4-spot": 16, "a10g-spot": 16}),
        (40, {}, {"l4-spot": 16, "a10g-spot": 16}),
        (32, {TYPE: ["L4", "A10G"]}, {"l4-spot": 16, "a10g-spot": 16}),
        (3, {TYPE: ["L4"]}, {"l4-spot": 3}),
        (3, {TYPE: ["A10G"]}, {"a10g-spot": 3}),
        (3, {TYPE: ["H100"]}, {}),
        (3, {"team": ["a"]}, {}),
    ],
)
def test_ray_launches_a_machine_a_worker_within_limits(
    file: str, workers: int, labels: dict[str, list[str]], machines: dict[str, int]
) -> None:
    found = launched(as_read(file), workers, labels)
    if file == "rayjob.yaml" and not labels and workers == 1:  # it ranks no kind before another
        assert sum(found.values()) == 1
    else:
        assert found == machines


def as_read(file: str) -> dict[str, Any]:
    return as_ray_reads(CLUSTER) if file == "ray_cluster.yaml" else of_kuberay(KUBERAY)


@pytest.mark.parametrize("file", ["ray_cluster.yaml", "rayjob.yaml"])
def test_every_node_type_names_its_gpu(file: str) -> None:
    """Without it a job with --accelerators would start none of them. Each also has a price."""
    config = as_read(file)
    kinds = {name: k for name, k in config["available_node_types"].items() if k["resources"].get("GPU")}
    types = [kind["labels"][TYPE] for kind in kinds.values()]
    ClusterSettings(accelerators=tuple(types), max_cost=1.0)
    for kind in kinds.values():
        del kind["labels"]
    assert launched(config, 3, {TYPE: types}) == {}


def test_labels_of_ones_own_start_machines_too() -> None:
    path = "available_node_types/a10g-spot/labels"
    config = as_ray_reads(set_at(CLUSTER, path, {TYPE: "A10G", "team": "a"}))
    assert launched(config, 2, {"team": ["a"]}) == {"a10g-spot": 2}
    assert launched(config, 2, {"team": ["a"], TYPE: ["L4"]}) == {}


def test_ray_starts_with_options_that_it_has() -> None:
    _, head = CLUSTER["head_start_ray_commands"]
    _, worker = CLUSTER["worker_start_ray_commands"]
    assert ray_start_parses(head)["dashboard_host"] == "127.0.0.1"
    assert ray_start_parses(head)["autoscaling_config"] == "~/ray_bootstrap_config.yaml"
    assert ray_start_parses(worker)["address"] == "$RAY_HEAD_IP:6379"
    with pytest.raises(click.NoSuchOption):
        ray_start_parses(head.replace("--dashboard-host", "--dashboard-hosts"))


def submitted() -> list[str]:
    """The audit's command line in the comment of ray_cluster.yaml, after ``ray job submit … --``."""
    (line,) = re.findall(r"^#\s+(ray job submit .*)$", CLUSTER_FILE.read_text(), re.MULTILINE)
    options = submit.make_context("submit", shlex.split(line)[3:]).params
    assert options["address"] == "http://127.0.0.1:8265"
    assert json.loads(options["runtime_env_json"]) == yaml.safe_load(JOB["runtimeEnvYAML"])
    return list(options["entrypoint"])


def test_both_clusters_are_given_the_same_job() -> None:
    assert submitted() == shlex.split(JOB["entrypoint"])
    assert f"--max-workers {CLUSTER['max_workers']}" in JOB["entrypoint"]
    assert sum(group["maxReplicas"] for group in KUBERAY["workerGroupSpecs"]) == CLUSTER["max_workers"]


def test_the_audit_understands_its_command() -> None:
    from jobs import audit
    from jobs.commandline import options

    parser = argparse.ArgumentParser(exit_on_error=False)
    audit.add_arguments(parser)
    _, _, module, *arguments = submitted()
    assert module == "jobs.audit"
    with pytest.raises(SettingsError, match=r"domain 'DOMAIN' is unknown; known are .*houses"):
        options.settings_of(parser.parse_args(arguments))
    arguments[arguments.index("DOMAIN")] = "people"
    settings = options.settings_of(parser.parse_args(arguments))
    assert (settings.model.device, settings.domain) == ("cuda", "people")
    weights = {settings.model.path, settings.distance.folder}
    guide = (DEPLOY / "README.md").read_text()
    commands = re.findall(r"^originality models fetch .*--to (\S+)$", guide, re.MULTILINE)
    assert weights == set(commands), "what the job reads is what the README fills"
