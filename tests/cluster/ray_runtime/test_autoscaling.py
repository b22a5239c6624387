"""Ray's own autoscaler starts machines for workers that wait for one, and ends machines that are idle."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster.ray_runtime.accelerators import PRICES
from tests.support.deploy_files import KINDS
from tests.support.mean_colour import paint
from tests.support.places import ROOT, python_path
from tests.support.ray_clusters import Head, free_port, ray_head
from tests.support.waiting import PATIENCE

pytestmark = pytest.mark.long

TYPE = "ray.io/accelerator-type"
HEAD_ID = "f" * 51 + "00000"
"""Ray's fake provider counts its machines from here."""
CONFIG: dict[str, Any] = {
    "cluster_name": "fake",
    "max_workers": 3,
    "idle_timeout_minutes": 0.05,
    "provider": {
        "type": "external",
        "module": "ray.autoscaler._private.fake_multi_node.node_provider.FakeMultiNodeProvider",
        "launch_multiple": True,
        "head_node_id": HEAD_ID,
    },
    "auth": {},
    "available_node_types": {
        "ray.head.default": {"resources": {"CPU": 1}, "node_config": {}, "max_workers": 0},
        **{
            name: {
                **{"resources": {"CPU": 1, "GPU": 1}, "labels": KINDS[name]["labels"]},
                **{"node_config": {}, "min_workers": 0, "max_workers": 2},
            }
            for name in ("l4-spot", "a10g-spot")  # as the shipped file labels them
        },
        "unlabelled": {"resources": {"CPU": 1, "GPU": 1}, "node_config": {}, "max_workers": 3},
    },
    "head_node_type": "ray.head.default",
    "head_node": {},
    "worker_nodes": {},
    "head_setup_commands": [],
    "worker_setup_commands": [],
    "setup_commands": [],
    "initialization_commands": [],
    "head_start_ray_commands": [],
    "worker_start_ray_commands": [],
    "file_mounts": {},
    "cluster_synced_files": [],
    "file_mounts_sync_continuously": False,
    "rsync_exclude": [],
    "rsync_filter": [],
    "upscaling_speed": 10.0,
}


@pytest.fixture
def head(tmp_path: Path):
    config = tmp_path / "cluster.yaml"
    environment = {
        "RAY_FAKE_CLUSTER": "1",
        "RAY_enable_autoscaler_v2": "1",
        "AUTOSCALER_UPDATE_INTERVAL_S": "1",
        "RAY_CLOUD_INSTANCE_ID": HEAD_ID,
        "RAY_OVERRIDE_NODE_ID_FOR_TESTING": HEAD_ID,
    }

    port = free_port()
    provider = {**CONFIG["provider"], "gcs_address": f"127.0.0.1:{port}"}
    config.write_text(yaml.safe_dump({**CONFIG, "provider": provider}))
    options = (f"--autoscaling-config={config}",)
    with ray_head(tmp_path, cpus=1, port=port, extra=environment, options=options) as running:
        yield running


def test_from_no_machine_to_some_and_back(head: Head, tmp_path: Path) -> None:
    for i in range(40):
        paint(tmp_path / "in", f"{i}.png", (i, i, i))
    command = [sys.executable, str(ROOT / "tests/support/growing_run.py"), str(tmp_path / "in")]
    path = python_path()
    done = subprocess.run(
        [*command, str(tmp_path / "run"), "3"],
        env={**head.environment, "RAY_ADDRESS": head.gcs, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stderr[-3000:] + head.log.read_text()[-3000:]
    (messages,) = re.findall("came to: (.*)", done.stdout)  # the autoscaler has its say there too
    before, most, hours, cost, after = json.loads(messages)
    assert (before, after) == (0, 0)
    assert most >= 2 and hours > 0
    prices = [PRICES["L4"], PRICES["A10G"]]
    assert min(prices) <= cost / hours * 1.001 and cost / hours <= max(prices) * 1.001  # times are read twice
    (refused,) = re.findall("refused: (.*)", done.stdout)
    assert "name them, e.g. --accelerators L4,A10G" in refused
    (waited,) = re.findall("waited: (.*)", done.stdout)
    assert f"{TYPE} in(H100)" in waited and "no node type" in waited
