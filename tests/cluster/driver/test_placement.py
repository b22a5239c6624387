"""Workers are placed on suitable machines: by accelerator, by label, several on one GPU."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support.mean_colour import paint
from tests.support.places import SUPPORT, python_path
from tests.support.ray_clusters import Machines
from tests.support.waiting import PATIENCE

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def cluster() -> Iterator[Machines]:
    """A head and three machines with a GPU each, as Ray sees it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", python_path())
        machines = Machines(initialize_head=True, head_node_args={"num_cpus": 0})
        try:
            for accelerator, team in (("L4", "a"), ("A10G", "b"), ("T4", "b")):
                labels = {"ray.io/accelerator-type": accelerator, "team": team}
                machines.add_node(num_cpus=2, num_gpus=1, labels=labels)
            yield machines
        finally:
            machines.shutdown()


def placed(cluster: Machines, folder: Path, how: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    """Judge six images in a separate process."""
    for i in range(6):
        paint(folder / "in", f"{i}.png", (i, i, i))
    at_work = folder / "at-work"
    at_work.mkdir()
    command = [sys.executable, str(SUPPORT / "placed_run.py"), str(folder / "in"), str(folder / "run")]
    return subprocess.run(
        [*command, json.dumps(how), str(at_work)],
        env={**os.environ, "RAY_ADDRESS": cluster.address},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )


@pytest.mark.parametrize(
    ("how", "accelerators", "workers"),
    [
        ({"accelerators": ["L4", "T4"], "max_workers": 2}, {"L4", "T4"}, 2),
        ({"labels": {"team": "b"}, "max_workers": 2}, {"A10G", "T4"}, 2),
        ({"labels": {"team": "a"}, "max_workers": 2, "gpus_per_worker": 0.5}, {"L4"}, 2),
    ],
)
def test_workers_run_only_on_allowed_machines(
    cluster: Machines, tmp_path: Path, how: dict[str, Any], accelerators: set[str], workers: int
) -> None:
    done = placed(cluster, tmp_path, how)
    assert done.returncode == 0, done.stderr
    if not torch.cuda.is_available():
        assert re.search(r"^torch: .* GPU 0 of \S+, ", done.stdout, re.M)
    (messages,) = re.findall("came to: (.*)", done.stdout)
    where, at_once, price = json.loads(messages)
    assert set(where) == accelerators and at_once == workers
    prices = {"L4": 1.0, "T4": 2.0, "A10G": 4.0}
    each = how.get("gpus_per_worker", 1)
    assert min(prices[a] for a in accelerators) * each <= price * 1.5  # a worker's time is read twice
    assert price <= max(prices[a] for a in accelerators) * each * 1.5


@pytest.mark.parametrize(
    ("how", "output"),
    [
        ({"refuses": "T4"}, "a worker died: no flash attention on T4"),
        (
            {"prices": {"A10G": 4.0}, "max_cost": 50.0, "joined": True},
            "a worker died: no price is known .* T4,",
        ),
    ],
)
def test_a_machine_of_a_different_kind_does_not_end_the_run(
    cluster: Machines, tmp_path: Path, how: dict[str, Any], output: str
) -> None:
    """A machine that does not suit the settings, or without a price, beside one that does."""
    done = placed(cluster, tmp_path, {"labels": {"team": "b"}, "max_workers": 2, **how})
    assert done.returncode == 0, done.stderr
    assert re.search(output, done.stderr), done.stderr
    assert json.loads(re.findall("came to: (.*)", done.stdout)[0])[0] == ["A10G"]


def test_settings_that_no_machine_takes_end_the_run(cluster: Machines, tmp_path: Path) -> None:
    labels = {"labels": {"ray.io/accelerator-type": "T4"}, "max_workers": 1}
    done = placed(cluster, tmp_path, {**labels, "refuses": "T4"})
    assert done.returncode == 1 and "Unusable: no flash attention on T4" in done.stderr
